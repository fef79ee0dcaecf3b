from .checkpoint_hook import CityCheckpointHook
from .progress_hook import ProgressBarHook
from .stage_timer_hook import PerStageTimerHook

__all__ = ["CityCheckpointHook", "PerStageTimerHook", "ProgressBarHook"]
