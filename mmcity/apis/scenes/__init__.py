"""Pictures of reconstructed scenes."""

from .layers import read_layers
from .scene_renderer import SceneRenderer

__all__ = ["SceneRenderer", "read_layers"]
