from .checkpoint_hook import CityCheckpointHook
from .densification_hook import DensificationHook
from .progress_hook import ProgressBarHook
from .stage_timer_hook import PerStageTimerHook

__all__ = ["CityCheckpointHook", "DensificationHook", "PerStageTimerHook", "ProgressBarHook"]
