"""Losses that several systems share."""

from .finite import check_finite
from .lpips import LPIPS, LPIPSLoss
from .masked import masked_mean
from .occupancy import LovaszSoftmaxLoss, WeightedCrossEntropyLoss
from .photometric import L1Loss, SSIMLoss
from .regularizers import OpacityLoss, ScaleLoss
from .subjects import build_losses, gaussian_loss, subject_of

__all__ = [
    "LPIPS",
    "L1Loss",
    "LPIPSLoss",
    "LovaszSoftmaxLoss",
    "OpacityLoss",
    "SSIMLoss",
    "ScaleLoss",
    "WeightedCrossEntropyLoss",
    "build_losses",
    "check_finite",
    "gaussian_loss",
    "masked_mean",
    "subject_of",
]
