"""From images of a place to its digital twin."""

from . import stages
from .chain import Chain, Stage, StageContext
from .manifest import Finding, Manifest

__all__ = ["Chain", "Finding", "Manifest", "Stage", "StageContext", "stages"]
