"""Pictures, meshes and files of reconstructed scenes."""

from .export import ExportedScene, export_scene
from .extract_mesh import ExtractedMesh, extract_mesh
from .film_scene import film_scene
from .layers import read_layers
from .ortho import OrthoPhoto, render_ortho
from .render_views import render_views
from .scene_renderer import RenderedViews, SceneRenderer
from .scores import score_mesh, score_renders

__all__ = [
    "ExportedScene",
    "ExtractedMesh",
    "OrthoPhoto",
    "RenderedViews",
    "SceneRenderer",
    "export_scene",
    "extract_mesh",
    "film_scene",
    "read_layers",
    "render_ortho",
    "render_views",
    "score_mesh",
    "score_renders",
]
