from .posed_image import PosedImagePreprocessor

__all__ = ["PosedImagePreprocessor"]
