"""Pictures of reconstructed scenes."""

from .layers import read_layers
from .scene_renderer import RenderedViews, SceneRenderer

__all__ = ["RenderedViews", "SceneRenderer", "read_layers"]
