"""The chain of a city twin, and its stages by what they make."""

from .city_twin import build_city_twin, run_city_twin
from .future import FutureModel, OccupancyFuture
from .geometry import StreamingGeometry, StreamModel
from .images import FolderImages, ToytownImages
from .occupancy import OccupancyFromGaussians
from .poses import GivenPoses, StreamedPoses, StructureFromMotion
from .reconstruction import BakeScene, ExtractMesh, Reconstruct
from .render import RenderTour

__all__ = [
    "BakeScene",
    "ExtractMesh",
    "FolderImages",
    "FutureModel",
    "GivenPoses",
    "OccupancyFromGaussians",
    "OccupancyFuture",
    "Reconstruct",
    "RenderTour",
    "StreamModel",
    "StreamedPoses",
    "StreamingGeometry",
    "StructureFromMotion",
    "ToytownImages",
    "build_city_twin",
    "run_city_twin",
]
