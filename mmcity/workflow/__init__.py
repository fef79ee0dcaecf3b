"""Stages that run one after the other and go on where they were killed."""

from .chain import STAGES, Chain, Stage, StageContext, cfg_options
from .localization import LocaliseQueries, PoseNetwork, make_localizer, stem_to_pose, true_poses
from .manifest import Finding, Manifest, StageRecord
from .reconstruct import reconstruct
from .report import handover_table, write_report

__all__ = [
    "STAGES",
    "Chain",
    "Finding",
    "LocaliseQueries",
    "Manifest",
    "PoseNetwork",
    "Stage",
    "StageContext",
    "StageRecord",
    "cfg_options",
    "handover_table",
    "make_localizer",
    "reconstruct",
    "stem_to_pose",
    "true_poses",
    "write_report",
]
