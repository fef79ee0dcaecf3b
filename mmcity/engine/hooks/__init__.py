from .anchor_growth_hook import AnchorGrowthHook
from .cache_size_hook import CacheSizeHook
from .checkpoint_hook import CityCheckpointHook
from .densification_hook import DensificationHook
from .dump_result_hook import DumpResultHook, flatten_sample
from .export_hook import SceneExportHook
from .latent_statistics_hook import LatentStatisticsHook
from .pose_frame_hook import PoseFrameHook
from .progress_hook import ProgressBarHook
from .rollout_hook import SaveRolloutHook
from .scene_hook import SceneInitHook
from .stage_timer_hook import PerStageTimerHook
from .view_synthesis_hook import ViewSynthesisHook
from .viewer_hook import ViewerHook

__all__ = [
    "AnchorGrowthHook",
    "CacheSizeHook",
    "CityCheckpointHook",
    "DensificationHook",
    "DumpResultHook",
    "LatentStatisticsHook",
    "PerStageTimerHook",
    "PoseFrameHook",
    "ProgressBarHook",
    "SaveRolloutHook",
    "SceneExportHook",
    "SceneInitHook",
    "ViewSynthesisHook",
    "ViewerHook",
    "flatten_sample",
]
