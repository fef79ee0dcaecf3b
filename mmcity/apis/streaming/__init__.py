"""Poses, depth and points of a video, and depth priors made from them."""

from mmcity.datasets.frame_sources import Frame, SourceError, open_source

from .depth_estimators import (
    DepthAnythingEstimator,
    DepthEstimator,
    StreamingDepthEstimator,
    ToytownDepthEstimator,
)
from .generate_depth import generate_depth
from .geometry_prior import GeometryPrior, PriorFiles
from .stream_source import stream_source
from .stream_writer import StreamWriter
from .streaming_reconstructor import FrameResult, StreamingReconstructor

__all__ = [
    "DepthAnythingEstimator",
    "DepthEstimator",
    "Frame",
    "FrameResult",
    "GeometryPrior",
    "PriorFiles",
    "SourceError",
    "StreamWriter",
    "StreamingDepthEstimator",
    "StreamingReconstructor",
    "ToytownDepthEstimator",
    "generate_depth",
    "open_source",
    "stream_source",
]
