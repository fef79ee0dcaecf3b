from .occupancy import LovaszSoftmaxLoss, WeightedCrossEntropyLoss
from .photometric import L1Loss, SSIMLoss
from .regularizers import AnisotropyLoss, OpacityLoss, ScaleLoss

__all__ = [
    "AnisotropyLoss",
    "L1Loss",
    "LovaszSoftmaxLoss",
    "OpacityLoss",
    "SSIMLoss",
    "ScaleLoss",
    "WeightedCrossEntropyLoss",
]
