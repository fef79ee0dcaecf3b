"""Maps of foundation models for training GaussTR: providers by kind and model."""

from .generate import (
    check_maps,
    generate_maps,
    generate_targets,
    keep_maps_alike,
    options_digest,
)
from .providers import STORED_DTYPES, TargetProvider, make_provider
from .tasks import ImageTask, collect_images, images_of_frame

__all__ = [
    "STORED_DTYPES",
    "ImageTask",
    "TargetProvider",
    "check_maps",
    "collect_images",
    "generate_maps",
    "generate_targets",
    "images_of_frame",
    "keep_maps_alike",
    "make_provider",
    "options_digest",
]
