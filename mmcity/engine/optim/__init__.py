from .mixed_precision import MixedPrecisionOptimWrapper

__all__ = ["MixedPrecisionOptimWrapper"]
