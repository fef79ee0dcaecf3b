"""From images of a place to its digital twin."""

from mmcity.engine.chain import Chain, Finding, Manifest, Stage, StageContext

from . import stages

__all__ = ["Chain", "Finding", "Manifest", "Stage", "StageContext", "stages"]
