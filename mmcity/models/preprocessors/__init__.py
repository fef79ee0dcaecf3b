"""Data preprocessors: batches to the device, normalised."""

from .multi_view import MultiViewPreprocessor
from .pinned import PinnedDataPreprocessor
from .posed_image import PosedImagePreprocessor

__all__ = ["MultiViewPreprocessor", "PinnedDataPreprocessor", "PosedImagePreprocessor"]
