"""RAP: pose regression on synthesised views, and refinement by matching renders."""

from .appearance import (
    AppearanceColorNet,
    AppearanceGaussians,
    AppearanceMapGenerator,
    AppearanceModel,
)
from .deblurring import ExposureMotion
from .discriminator import FeatureDiscriminator
from .efficientnet import EfficientNetFeatures
from .feature_losses import FeatureMSELoss, HardTripletLoss, NTXentLoss, VICRegLoss
from .objective import JointObjective
from .perturbation import PosePerturber
from .pose_losses import GeometricPoseLoss
from .preprocessor import LocalizationPreprocessor
from .quality import BRISQUE
from .rapnet import RAPNet
from .synthetic_views import SyntheticViews
from .trainer import RAPTrainer

__all__ = [
    "BRISQUE",
    "AppearanceColorNet",
    "AppearanceGaussians",
    "AppearanceMapGenerator",
    "AppearanceModel",
    "EfficientNetFeatures",
    "ExposureMotion",
    "FeatureDiscriminator",
    "FeatureMSELoss",
    "GeometricPoseLoss",
    "HardTripletLoss",
    "JointObjective",
    "LocalizationPreprocessor",
    "NTXentLoss",
    "PosePerturber",
    "RAPNet",
    "RAPTrainer",
    "SyntheticViews",
    "VICRegLoss",
]
