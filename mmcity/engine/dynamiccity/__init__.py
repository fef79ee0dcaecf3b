"""Latents of occupancy clips: export of rollouts, their statistics."""

from .latent_statistics_hook import LatentStatisticsHook
from .rollout_export import export_checkpoint_rollouts, export_rollouts, export_splits
from .rollout_hook import SaveRolloutHook

__all__ = [
    "LatentStatisticsHook",
    "SaveRolloutHook",
    "export_checkpoint_rollouts",
    "export_rollouts",
    "export_splits",
]
