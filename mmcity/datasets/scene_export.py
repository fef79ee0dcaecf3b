"""Posed images in the files of other tools: Nerfstudio's ``transforms.json``, COLMAP models."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmcity.structures.geometry import OPENGL_TO_OPENCV, rotmat_to_quat
from mmcity.utils.fileio import atomic_paths, write_json
from mmcity.utils.picture_names import find_picture

from .colmap import find_image_dir
from .io.colmap_types import ColmapCamera, ColmapImage, ColmapModel
from .io.point_ply import write_point_ply
from .posed_images import PosedImagesDataset

_POINTS_FILE = "points3D.ply"
_DISTORTION_KEYS = ("k1", "k2", "k3", "k4", "p1", "p2")


def write_transforms_json(
    model: ColmapModel, path: str | os.PathLike, scene: str | os.PathLike
) -> None:
    """Write a model as Nerfstudio's ``transforms.json``, points beside it as ``points3D.ply``.

    Args:
        model: Cameras with a pinhole, OpenCV or fisheye model.
        path: Target; images are named relative to its folder.
        scene: COLMAP scene folder that holds the images, or the folder of the model in it.

    Raises:
        FileNotFoundError: If the images are not found.
        ValueError: If Nerfstudio has no such camera model.
    """
    path = Path(path)
    images = [model.images[key] for key in sorted(model.images)]
    names = [image.name for image in images]
    folder = find_image_dir(Path(scene), names, remedy="put the pictures there")
    frames = []
    for image in images:
        cam_to_world = np.linalg.inv(image.viewmat) @ OPENGL_TO_OPENCV
        file = os.path.relpath(find_picture(folder, image.name), path.parent)
        frames.append(
            {
                "file_path": Path(file).as_posix(),
                "transform_matrix": cam_to_world.tolist(),
                **_intrinsics(model.cameras[image.camera_id]),
            }
        )
    document: dict[str, Any] = {"frames": frames}
    if not len(model.points3D):
        return write_json(path, document)
    document["ply_file_path"] = _POINTS_FILE
    with atomic_paths([path, path.parent / _POINTS_FILE]) as (index, points):
        write_point_ply(points, model.points3D.xyz, model.points3D.rgb)
        write_json(index, document)


def _intrinsics(camera: ColmapCamera) -> dict[str, Any]:
    values = camera.named_params
    lens = {key: value for key, value in values.items() if key not in ("fx", "fy", "cx", "cy")}
    unknown = sorted(set(lens) - set(_DISTORTION_KEYS))
    if any(lens[key] for key in unknown) or camera.model == "FOV":
        raise ValueError(
            f"camera {camera.camera_id}: expected a model that Nerfstudio has, got "
            f"{camera.model} with {unknown}: undistort the images first"
        )
    model = "OPENCV_FISHEYE" if "FISHEYE" in camera.model else "OPENCV"
    return {
        "camera_model": model if any(lens.values()) or "FISHEYE" in camera.model else "PINHOLE",
        "w": camera.width,
        "h": camera.height,
        "fl_x": values["fx"],
        "fl_y": values["fy"],
        "cx": values["cx"],
        "cy": values["cy"],
        **{key: lens[key] for key in _DISTORTION_KEYS if key in lens},
    }


def to_colmap_model(dataset: PosedImagesDataset) -> ColmapModel:
    """Cameras, poses and points of any posed images as a COLMAP model, without features.

    All are in the coordinates of the dataset's files.

    Distortion is kept; images that share a camera each get one of their own.
    """
    cameras, images, points = {}, {}, dataset.points3D
    if dataset.offset.any():
        points = replace(points, xyz=points.xyz + dataset.offset)
    for number, image in enumerate(dataset.images, start=1):
        c = image.camera
        cameras[number] = ColmapCamera(number, c.model, c.width, c.height, c.params)
        quat = rotmat_to_quat(torch.from_numpy(image.viewmat[:3, :3])).numpy()
        tvec = image.viewmat[:3, 3] - image.viewmat[:3, :3] @ dataset.offset
        images[number] = ColmapImage(number, quat, tvec, number, image.name)
    return ColmapModel(cameras, images, points)
