"""CityGS-X: an octree of anchors that small networks decode into Gaussians."""

from .anchors import OctreeAnchors
from .citygsx import CityGSX
from .decoder import AnchorDecoder, AppearanceTable, NeuralGaussians
from .growth import AnchorGrowthStrategy, grow_and_prune, is_due
from .objective import CityGSXObjective, log_linear
from .scene import AnchorScene

__all__ = [
    "AnchorDecoder",
    "AnchorGrowthStrategy",
    "AnchorScene",
    "AppearanceTable",
    "CityGSX",
    "CityGSXObjective",
    "NeuralGaussians",
    "OctreeAnchors",
    "grow_and_prune",
    "is_due",
    "log_linear",
]
