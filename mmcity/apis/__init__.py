"""Inferencers: one class per task, in rooms by what they are for."""

from .inferencer import Inferencer
from .localization import (
    LocalizationReport,
    LocalizationResult,
    Localizer,
    TiledLocalizer,
    load_localizer,
    localization_table,
    localize_queries,
    read_localizer_file,
    read_pose_file,
    read_report,
    write_localizer_file,
)
from .occupancy import (
    OccupancyGenerator,
    OccupancyPredictor,
    load_gaussian_set,
    save_gaussian_set,
)
from .scenes import (
    RenderedViews,
    SceneRenderer,
)
from .streaming import (
    DepthAnythingEstimator,
    DepthEstimator,
    Frame,
    FrameResult,
    GeometryPrior,
    PriorFiles,
    SourceError,
    StreamingDepthEstimator,
    StreamingReconstructor,
    StreamWriter,
    ToytownDepthEstimator,
    open_source,
)

__all__ = [
    "DepthAnythingEstimator",
    "DepthEstimator",
    "Frame",
    "FrameResult",
    "GeometryPrior",
    "Inferencer",
    "LocalizationReport",
    "LocalizationResult",
    "Localizer",
    "OccupancyGenerator",
    "OccupancyPredictor",
    "PriorFiles",
    "RenderedViews",
    "SceneRenderer",
    "SourceError",
    "StreamWriter",
    "StreamingDepthEstimator",
    "StreamingReconstructor",
    "TiledLocalizer",
    "ToytownDepthEstimator",
    "load_gaussian_set",
    "load_localizer",
    "localization_table",
    "localize_queries",
    "open_source",
    "read_localizer_file",
    "read_pose_file",
    "read_report",
    "save_gaussian_set",
    "write_localizer_file",
]
