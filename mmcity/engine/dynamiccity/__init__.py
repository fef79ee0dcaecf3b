"""Latents of occupancy clips: export of rollouts, their statistics."""

from .latent_statistics_hook import LatentStatisticsHook
from .rollout_export import export_rollouts
from .rollout_hook import SaveRolloutHook

__all__ = ["LatentStatisticsHook", "SaveRolloutHook", "export_rollouts"]
