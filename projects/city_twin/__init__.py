"""From images of a place to its digital twin."""

from mmcity.workflow import Chain, Finding, Manifest, Stage, StageContext
from mmcity.workflow import city_twin as stages

__all__ = ["Chain", "Finding", "Manifest", "Stage", "StageContext", "stages"]
