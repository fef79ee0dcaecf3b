"""Maps of foundation models for training GaussTR: providers by kind and model."""

from .generate import generate_targets
from .providers import STORED_DTYPES, TargetProvider, make_provider, provider_names
from .tasks import ImageTask, collect_images

__all__ = [
    "STORED_DTYPES",
    "ImageTask",
    "TargetProvider",
    "collect_images",
    "generate_targets",
    "make_provider",
    "provider_names",
]
