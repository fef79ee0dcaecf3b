from .decay_schedulers import ExponentialDecayLR
from .gaussian_constructor import GaussianOptimWrapperConstructor
from .mixed_precision import MixedPrecisionOptimWrapper

__all__ = [
    "ExponentialDecayLR",
    "GaussianOptimWrapperConstructor",
    "MixedPrecisionOptimWrapper",
]
