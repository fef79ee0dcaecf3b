"""Cameras as pyramids with their pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmcity.structures import Cameras
from mmcity.structures.geometry import rotmat_to_quat

from ..frusta import LINES_PER_CAMERA, frustum_lines
from .shapes import read_thumbnail

_MAX_PICTURES = 150
_CAMERA_COLOR = (20, 90, 200)


def camera_handles(
    scene: Any,
    name: str,
    cameras: Cameras,
    pictures: Sequence[Any] | None,
    color: Any,
    length: float,
) -> list[Any]:
    """Draw cameras; see :meth:`Viewer.add_cameras`.

    Args:
        scene: Of a viser server.
        name: Of the layer.
        cameras: C cameras.
        pictures: Per camera a path or an array ``(H, W, 3)`` uint8; None draws none.
        color: RGB, 0 to 255, one or per camera; None takes blue.
        length: Of the pyramids, in world units.

    Returns:
        What was drawn: the pyramids, then the pictures.
    """
    colors = np.broadcast_to(_CAMERA_COLOR if color is None else color, (len(cameras), 3))
    sizes = cameras.widths.cpu(), cameras.heights.cpu()
    lines = frustum_lines(cameras.cam_to_world.cpu(), cameras.Ks.cpu(), *sizes, length)
    shades = np.asarray(colors, np.uint8).repeat(LINES_PER_CAMERA, 0)[:, None].repeat(2, 1)
    handles: list[Any] = [
        scene.add_line_segments(
            f"/{name}/pyramids",
            lines.astype(np.float32),
            shades,
            thickness=1.5,
            thickness_units="screen",
        )
    ]
    step = max(1, -(-len(cameras) // _MAX_PICTURES))
    for row in range(0, len(cameras), step) if pictures is not None else []:
        node = f"/{name}/{row}"
        handles.append(_picture_handle(scene, node, cameras, row, pictures[row], length))
    return handles


def _picture_handle(
    scene: Any, node: str, cameras: Cameras, row: int, picture: Any, length: float
) -> Any:
    pose = cameras.cam_to_world[row].double().cpu().numpy()
    K = cameras.Ks[row]
    width, height = int(cameras.widths[row]), int(cameras.heights[row])
    handle = scene.add_camera_frustum(
        node,
        2 * float(torch.atan(height / 2 / K[1, 1])),
        width / height,
        scale=length,
        image=read_thumbnail(picture),
        wxyz=rotmat_to_quat(torch.from_numpy(pose[:3, :3])).numpy(),
        position=pose[:3, 3],
        thickness=1.0,
        thickness_units="screen",
    )

    @handle.on_click
    def _(event) -> None:
        event.client.camera.wxyz = handle.wxyz
        event.client.camera.position = handle.position

    return handle
