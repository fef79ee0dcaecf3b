"""``cameras.json`` as 3D Gaussian Splatting writes it beside a scene: a list of pinhole cameras.

A camera has ``id, img_name, width, height``, its centre ``position`` and rotation ``rotation``
(rows of camera to world, OpenCV axes), and the focal lengths ``fx`` and ``fy``. Its principal point
is the middle of the picture.
"""

import os

import numpy as np
import torch

from mmcity.structures.geometry import rotmat_to_quat
from mmcity.utils.fileio import damage_told, read_json, write_json

from .colmap_types import ColmapCamera, ColmapImage, ColmapModel

#: Pixels that a principal point may lie beside the middle without a word.
_MIDDLE = 0.5
#: Of a rotation in a file, whose numbers may be few.
_RIGID = 1e-3


def write_cameras_json(model: ColmapModel, path: str | os.PathLike) -> tuple[str, ...]:
    """Write the cameras of a model, in the order of its images; returns what is lost.

    Raises:
        ValueError: If a camera has a lens that is no pinhole.
    """
    rows, moved = [], 0
    for number, key in enumerate(sorted(model.images)):
        image = model.images[key]
        camera = model.cameras[image.camera_id]
        values = camera.named_params
        lens = {name: v for name, v in values.items() if name not in ("fx", "fy", "cx", "cy")}
        if any(lens.values()) or "FISHEYE" in camera.model or camera.model == "FOV":
            raise ValueError(
                f"camera {camera.camera_id}: expected a pinhole, got {camera.model} with "
                f"{sorted(lens)}: undistort the images first"
            )
        middle = camera.width / 2, camera.height / 2
        moved += max(abs(values["cx"] - middle[0]), abs(values["cy"] - middle[1])) > _MIDDLE
        cam_to_world = np.linalg.inv(image.viewmat)
        rows.append(
            {
                "id": number,
                "img_name": image.name,
                "width": camera.width,
                "height": camera.height,
                "position": cam_to_world[:3, 3].tolist(),
                "rotation": cam_to_world[:3, :3].tolist(),
                "fy": float(values["fy"]),
                "fx": float(values["fx"]),
            }
        )
    write_json(path, rows)
    points = (f"{len(model.points3D)} points dropped",) if len(model.points3D) else ()
    middles = (f"principal points moved to the middle in {moved} of {len(rows)} images",)
    return points + middles * bool(moved)


def read_cameras_json(path: str | os.PathLike) -> ColmapModel:
    """Cameras as a model without points.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is broken or holds something else.
    """
    cameras: dict[int, ColmapCamera] = {}
    images: dict[int, ColmapImage] = {}
    found: dict[tuple[float, ...], int] = {}
    with damage_told(path, "cameras of 3D Gaussian Splatting"):
        rows = read_json(path)
        if not isinstance(rows, list) or not rows:
            raise ValueError("no list of cameras")
        for number, row in enumerate(rows, 1):
            width, height = int(row["width"]), int(row["height"])
            numbers = np.array([width, height, row["fx"], row["fy"], *row["position"]], np.float64)
            turn = np.array(row["rotation"], np.float64).reshape(3, 3)
            apart = np.abs(turn @ turn.T - np.eye(3)).max()
            if not np.isfinite(numbers).all() or (numbers[:4] <= 0).any() or not apart < _RIGID:
                raise ValueError(f"camera {number} without a size, focal length or rotation")
            params = [row["fx"], row["fy"], width / 2, height / 2]
            key = found.setdefault((width, height, *params), len(found) + 1)
            cameras[key] = ColmapCamera(key, "PINHOLE", width, height, params)
            quat = rotmat_to_quat(torch.from_numpy(turn.T.copy())).numpy()
            tvec = -turn.T @ numbers[4:]
            images[number] = ColmapImage(number, quat, tvec, key, str(row["img_name"]))
    return ColmapModel(cameras, images, path=str(path))
