"""Optimiser constructors and wrappers, learning-rate schedules."""

from .batch_rule import scale_optimizer_for_batch
from .decay_schedulers import ExponentialDecayLR
from .gaussian_constructor import GaussianOptimWrapperConstructor
from .merging_constructor import MergingOptimWrapperConstructor, merge_saved_groups
from .mixed_precision import MixedPrecisionOptimWrapper
from .multi_constructor import MultiOptimWrapperConstructor

__all__ = [
    "ExponentialDecayLR",
    "GaussianOptimWrapperConstructor",
    "MergingOptimWrapperConstructor",
    "MixedPrecisionOptimWrapper",
    "MultiOptimWrapperConstructor",
    "merge_saved_groups",
    "scale_optimizer_for_batch",
]
