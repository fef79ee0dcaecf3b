"""Hooks of the runner that serve several systems."""

from .cache_size_hook import CacheSizeHook
from .checkpoint_hook import CityCheckpointHook
from .dump_result_hook import DumpResultHook, flatten_sample
from .export_hook import SceneExportHook
from .growth_hook import AnchorGrowthHook, DensificationHook, GrowthHook
from .progress_hook import ProgressBarHook
from .runtime_info_hook import RuntimeInfoHook
from .scene_hook import SceneInitHook
from .stage_timer_hook import PerStageTimerHook
from .viewer_hook import ViewerHook

__all__ = [
    "AnchorGrowthHook",
    "CacheSizeHook",
    "CityCheckpointHook",
    "DensificationHook",
    "DumpResultHook",
    "GrowthHook",
    "PerStageTimerHook",
    "ProgressBarHook",
    "RuntimeInfoHook",
    "SceneExportHook",
    "SceneInitHook",
    "ViewerHook",
    "flatten_sample",
]
