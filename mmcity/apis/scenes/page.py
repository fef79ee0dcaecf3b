"""Scenes as one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from mmcity.engine.launch import load_config
from mmcity.engine.scene_loading import build_views, load_scene
from mmcity.structures import Cameras, Gaussians, SplatInfo
from mmcity.structures.axes import UP_AXES, up_direction
from mmcity.structures.geometry import se3_inverse
from mmcity.structures.io.view_notes import ViewNotes
from mmcity.structures.upright import guess_up
from mmcity.utils.picture_names import picture_name
from mmcity.visualization.splat_page import write_splat_page


def export_page(
    gaussians: Gaussians,
    target: Path,
    title: str,
    *,
    source: Path,
    config: str | None = None,
    notes: ViewNotes | None = None,
    info: SplatInfo | None = None,
    up: str = "z",
) -> SplatInfo:
    """Write a page of Gaussians; that of a checkpoint has the cameras of its training.

    Args:
        gaussians: Of the source.
        target: ``.html`` file.
        title: Shown above.
        source: Checkpoint or file.
        config: Config of a checkpoint. Defaults to None.
        notes: On how to look at a file. Defaults to None: not known.
        info: Model, axes and colour space. Defaults to None: not known.
        up: Axis that points up where neither cameras nor notes tell. Defaults to ``z``.

    Returns:
        What the page holds, and what was lost.
    """
    cameras: Cameras | None = None
    names: Sequence[str] = ()
    upright = up_direction(UP_AXES[up]).tolist() if notes is None else notes.up
    if config is not None:
        views = build_views(load_config(config), "train", load_scene(source, config))
        cameras, names = views.cameras, [picture_name(name) for name in views.img_names]
        upright = guess_up(se3_inverse(cameras.viewmats)).tolist()
    return write_splat_page(
        gaussians, target, info=info, up=upright, cameras=cameras, names=names, title=title
    )
