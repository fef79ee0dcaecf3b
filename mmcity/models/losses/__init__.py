from .occupancy import LovaszSoftmaxLoss, WeightedCrossEntropyLoss

__all__ = ["LovaszSoftmaxLoss", "WeightedCrossEntropyLoss"]
