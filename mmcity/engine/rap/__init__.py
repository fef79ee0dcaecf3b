"""Training of pose networks: synthesised views, the frame of the scene, checks before training."""

from .pose_frame_hook import PoseFrameHook
from .scene_checks import check_localization_scene
from .view_synthesis_hook import ViewSynthesisHook

__all__ = ["PoseFrameHook", "ViewSynthesisHook", "check_localization_scene"]
