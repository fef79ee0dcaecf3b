"""Inferencers: one class per task."""

from .frame_sources import Frame, SourceError, open_source
from .occupancy_generator import OccupancyGenerator
from .scene_renderer import SceneRenderer
from .stream_writer import StreamWriter
from .streaming_reconstructor import FrameResult, StreamingReconstructor

__all__ = [
    "Frame",
    "FrameResult",
    "OccupancyGenerator",
    "SceneRenderer",
    "SourceError",
    "StreamWriter",
    "StreamingReconstructor",
    "open_source",
]
