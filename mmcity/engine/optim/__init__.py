"""Optimiser constructors and wrappers, learning-rate schedules."""

from .batch_rule import scale_optimizer_for_batch
from .decay_schedulers import ExponentialDecayLR
from .gaussian_constructor import GaussianOptimWrapperConstructor
from .mixed_precision import MixedPrecisionOptimWrapper
from .multi_constructor import MultiOptimWrapperConstructor

__all__ = [
    "ExponentialDecayLR",
    "GaussianOptimWrapperConstructor",
    "MixedPrecisionOptimWrapper",
    "MultiOptimWrapperConstructor",
    "scale_optimizer_for_batch",
]
