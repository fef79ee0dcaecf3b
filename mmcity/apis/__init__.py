"""Inferencers: one class per task."""

from .depth_estimators import (
    DepthAnythingEstimator,
    DepthEstimator,
    StreamingDepthEstimator,
    ToytownDepthEstimator,
)
from .frame_sources import Frame, SourceError, open_source
from .geometry_prior import GeometryPrior, PriorFiles
from .localization_report import (
    LocalizationReport,
    localization_table,
    read_pose_file,
    read_report,
)
from .localization_result import LocalizationResult
from .localizer import Localizer
from .localizer_file import load_localizer, read_localizer_file, write_localizer_file
from .occupancy_generator import OccupancyGenerator
from .occupancy_predictor import OccupancyPredictor, load_gaussian_set, save_gaussian_set
from .scene_renderer import SceneRenderer
from .stream_writer import StreamWriter
from .streaming_reconstructor import FrameResult, StreamingReconstructor
from .tiled_localizer import TiledLocalizer

__all__ = [
    "DepthAnythingEstimator",
    "DepthEstimator",
    "Frame",
    "FrameResult",
    "GeometryPrior",
    "LocalizationReport",
    "LocalizationResult",
    "Localizer",
    "OccupancyGenerator",
    "OccupancyPredictor",
    "SceneRenderer",
    "PriorFiles",
    "SourceError",
    "StreamWriter",
    "StreamingDepthEstimator",
    "StreamingReconstructor",
    "TiledLocalizer",
    "load_gaussian_set",
    "load_localizer",
    "localization_table",
    "open_source",
    "read_localizer_file",
    "read_pose_file",
    "read_report",
    "save_gaussian_set",
    "ToytownDepthEstimator",
    "write_localizer_file",
]
