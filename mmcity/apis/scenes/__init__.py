"""Pictures of reconstructed scenes."""

from .scene_renderer import SceneRenderer

__all__ = ["SceneRenderer"]
