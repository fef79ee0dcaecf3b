"""Scenes with a ``transforms.json``: Nerfstudio, instant-ngp, Blender."""

import math
import os
from pathlib import Path

import numpy as np

from mmcity.registry import DATASETS
from mmcity.structures.geometry import OPENGL_TO_OPENCV
from mmcity.utils.fileio import read_json
from mmcity.utils.images import IMAGE_SUFFIXES
from mmcity.utils.picture_files import image_size
from mmcity.utils.picture_names import find_picture, match_names, picture_name

from .io.colmap_types import ColmapCamera, ColmapPoints
from .io.point_ply import read_point_ply
from .posed_images import PosedImage, PosedImagesDataset
from .splits import held_out

_PINHOLE_NAMES = ("PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "OPENCV", "SIMPLE_RADIAL", "RADIAL")


#: What a folder holds at least one of.
TRANSFORMS_FILES = ("transforms.json", "transforms_train.json")


class TransformsFormatError(ValueError):
    """A ``transforms.json`` that cannot be used; names the file and the frame."""


@DATASETS.register_module()
class NerfstudioDataset(PosedImagesDataset):
    """Images posed by a ``transforms.json``, or by ``transforms_{train,val,test}.json``.

    Camera-to-world matrices have OpenGL axes there (x right, y up, z back) and are turned to
    OpenCV's on reading. Intrinsics and distortion may stand at the top or in each frame.

    Args:
        data_root (str): Scene folder.
        split_by (str): ``auto`` takes the lists ``train_filenames`` .. of the file, or the
            Blender files, else every n-th image; or a rule of
            :func:`~mmcity.datasets.splits.held_out`. Defaults to ``auto``.
        split_file (str, optional): File or folder that the rule reads.
        every_n (int): Defaults to 8.
        every_n_offset (int): Defaults to 0.
        undo_applied_transform (bool): Carry poses and points back through
            ``applied_transform`` and ``applied_scale`` to the frame of the original
            reconstruction. Defaults to False.
        point_stride (int): Keep every k-th point of ``ply_file_path``. Defaults to 1.
        **kwargs: See :class:`PosedImagesDataset`; ``require_points`` defaults to False here,
            since many such scenes carry none.
    """

    METAINFO = {"task": "scene_reconstruction"}

    def __init__(
        self,
        data_root: str | os.PathLike,
        *,
        split_by: str = "auto",
        split_file: str | None = None,
        every_n: int = 8,
        every_n_offset: int = 0,
        undo_applied_transform: bool = False,
        point_stride: int = 1,
        require_points: bool = False,
        **kwargs,
    ) -> None:
        self.split_options = {
            "rule": split_by,
            "file": split_file,
            "every_n": every_n,
            "offset": every_n_offset,
        }
        self.undo_applied_transform = undo_applied_transform
        self.point_stride = point_stride
        super().__init__(data_root, require_points=require_points, **kwargs)

    # ------------------------------------------------------------ reading

    def load_images(self) -> tuple[list[PosedImage], ColmapPoints]:
        """See :meth:`PosedImagesDataset.load_images`."""
        path = self.data_root / "transforms.json"
        parts = {"": path}
        if not path.is_file():
            blender = {p: self.data_root / f"transforms_{p}.json" for p in ("train", "val", "test")}
            parts = {part: file for part, file in blender.items() if file.is_file()}
            if "train" not in parts:
                raise FileNotFoundError(
                    f"{path}: expected the file or transforms_train.json, found neither"
                )
        images: dict[str, PosedImage] = {}
        self._listed: dict[str, set[str]] = {}
        points = ColmapPoints.empty()
        for part, file in parts.items():
            data = _read_json(file)
            undo = self._undo(data, file)
            for number, frame in enumerate(data["frames"]):
                image = self._image(file, data, number, frame)
                image.viewmat = (
                    image.viewmat @ np.linalg.inv(undo) if undo is not None else (image.viewmat)
                )
                if undo is not None:
                    image.viewmat = _without_scale(image.viewmat)
                if image.name in images and not part:
                    raise TransformsFormatError(
                        f"{file}: expected images of their own names, got {image.name!r} twice"
                    )
                images.setdefault(image.name, image)
                if part:
                    self._listed.setdefault(part, set()).add(image.name)
            for key in ("train", "val", "test"):
                if data.get(f"{key}_filenames") is not None:
                    names = data[f"{key}_filenames"]
                    if not isinstance(names, list):
                        raise TransformsFormatError(f"{file}: expected a list {key}_filenames")
                    self._listed[key] = {picture_name(str(name)) for name in names}
            if data.get("ply_file_path") and not len(points):
                points = read_point_ply(self.data_root / str(data["ply_file_path"]))
                if undo is not None:
                    points.xyz = points.xyz @ undo[:3, :3].T + undo[:3, 3]
        return list(images.values()), points

    def choose_points(self, points: ColmapPoints) -> ColmapPoints:
        """See :meth:`PosedImagesDataset.choose_points`."""
        return points[:: self.point_stride]

    def assign_splits(self, images: list[PosedImage]) -> str:
        """See :meth:`PosedImagesDataset.assign_splits`."""
        names = [image.name for image in images]
        if self.split_options["rule"] == "auto" and self._listed:
            listed = {
                part: set(
                    match_names(entries, names, f"{self.data_root}: {part}_filenames").values()
                )
                for part, entries in self._listed.items()
            }
            held = listed.get("test") or listed.get("val") or set()
            train = listed.get("train")
            for image in images:
                image.is_test = image.name in held
                image.is_train = image.name in train if train is not None else not image.is_test
            return "lists in the transforms file"
        test, train, reason = held_out(names, self.data_root, **self.split_options)
        for image, is_test, is_train in zip(images, test, train):
            image.is_test, image.is_train = is_test, is_train
        return reason

    def _undo(self, data: dict, file: Path) -> np.ndarray | None:
        """The similarity from the frame of the file to that of the reconstruction, or None."""
        if not self.undo_applied_transform:
            return None
        applied = np.eye(4)
        if "applied_transform" in data:
            applied[:3] = _numbers(data["applied_transform"], file, "applied_transform", 12)[
                :12
            ].reshape(3, 4)
        scale = float(data.get("applied_scale", 1.0))
        if not scale > 0 or abs(np.linalg.det(applied)) < 1e-9:
            raise TransformsFormatError(
                f"{file}: expected applied_transform and applied_scale to invert, got singular ones"
            )
        return np.linalg.inv(np.diag([scale, scale, scale, 1.0]) @ applied)

    def _image(self, file: Path, data: dict, number: int, frame: dict) -> PosedImage:
        where = f"frame {number}"
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
            raise TransformsFormatError(f"{file}: {where}: expected a file_path, got none")
        name = picture_name(frame["file_path"])
        where += f" ({name})"
        pose = _numbers(frame.get("transform_matrix"), file, f"transform_matrix of {where}", 12)
        c2w = np.eye(4)
        c2w[:3] = pose[:12].reshape(3, 4)
        rotation = c2w[:3, :3]
        if abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
            raise TransformsFormatError(
                f"{file}: expected a rotation in transform_matrix of {where}, "
                f"got {rotation.tolist()}"
            )
        # Files carry a few digits only; the nearest exact rotation is what they mean.
        u, _, vt = np.linalg.svd(rotation)
        c2w[:3, :3] = u @ vt
        tried = (find_picture(self.data_root, f"{name}{s}") for s in ("", *IMAGE_SUFFIXES))
        path = next((file for file in tried if file.is_file()), self.data_root / name)
        values = {**data, **frame}
        camera = _camera(values, path, file, where, number + 1)
        extra = {}
        if frame.get("mask_path"):
            extra["mask_path"] = str(self.data_root / frame["mask_path"])
        if frame.get("depth_file_path"):
            extra["depth_path"] = str(self.data_root / frame["depth_file_path"])
            extra["depth_kind"] = "metric"
            extra["depth_scale"] = float(values.get("depth_unit_scale_factor", 0.001))
        viewmat = np.linalg.inv(c2w @ OPENGL_TO_OPENCV)
        return PosedImage(name, path, camera, viewmat, extra)


def _read_json(file: Path) -> dict:
    try:
        data = read_json(file)
    except ValueError as error:
        expected = f"{file}: expected JSON, got "
        reason = str(error).removeprefix(expected)
        raise TransformsFormatError(f"{expected}{reason}") from error
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list):
        raise TransformsFormatError(f"{file}: expected an object with a list 'frames'")
    if not data["frames"]:
        raise TransformsFormatError(f"{file}: expected frames, got an empty list")
    return data


def _numbers(value, file: Path, what: str, least: int) -> np.ndarray:
    try:
        out = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise TransformsFormatError(f"{file}: expected numbers in {what}, got {error}") from error
    if out.size not in (least, 16) or not np.isfinite(out).all():
        raise TransformsFormatError(
            f"{file}: expected a finite 3x4 or 4x4 matrix as {what}, got {str(value)[:120]}"
        )
    return out


def _without_scale(viewmat: np.ndarray) -> np.ndarray:
    """A similarity from the world as the rigid motion that gives the same picture."""
    scale = np.cbrt(np.linalg.det(viewmat[:3, :3]))
    out = viewmat.copy()
    out[:3] /= scale
    return out


def _camera(values: dict, path: Path, file: Path, where: str, camera_id: int) -> ColmapCamera:
    """Intrinsics of one frame."""

    def number(key: str) -> float | None:
        if values.get(key) is None:
            return None
        try:
            return float(values[key])
        except (TypeError, ValueError) as error:
            raise TransformsFormatError(
                f"{file}: expected a number as {key} of {where}, got {values[key]!r}"
            ) from error

    if number("w") is None or number("h") is None:
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: expected the image of {where} of {file} for its size, found none"
            )
        width, height = image_size(path)
    else:
        width, height = (
            int(round(number(key))) if math.isfinite(number(key)) else 0 for key in "wh"
        )
    fx, fy = number("fl_x"), number("fl_y")
    for axis, size in (("x", width), ("y", height)):
        angle = number(f"camera_angle_{axis}")
        if angle is not None and (fx if axis == "x" else fy) is None and 0 < angle < math.pi:
            focal = size / (2 * math.tan(angle / 2))
            fx, fy = (focal, fy) if axis == "x" else (fx, focal)
    fx, fy = fx if fx is not None else fy, fy if fy is not None else fx
    if fx is None:
        raise TransformsFormatError(
            f"{file}: expected fl_x, fl_y or camera_angle_x for {where}, found none"
        )
    cx, cy = number("cx"), number("cy")
    cx, cy = width / 2 if cx is None else cx, height / 2 if cy is None else cy
    k1, k2, k3, k4, p1, p2 = (number(key) or 0.0 for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    kind = str(values.get("camera_model", "OPENCV")).upper()
    try:
        if values.get("is_fisheye") or "FISHEYE" in kind:
            params = [fx, fy, cx, cy, k1, k2, k3, k4]
            return ColmapCamera(camera_id, "OPENCV_FISHEYE", width, height, np.array(params))
        if kind not in _PINHOLE_NAMES:
            raise ValueError(f"expected camera_model {_PINHOLE_NAMES} or *FISHEYE, got {kind!r}")
        if k4:
            raise ValueError(f"expected k4 = 0 for {kind}, got {k4}")
        if not any((k1, k2, k3, p1, p2)):
            return ColmapCamera(camera_id, "PINHOLE", width, height, np.array([fx, fy, cx, cy]))
        params = [fx, fy, cx, cy, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0]
        return ColmapCamera(camera_id, "FULL_OPENCV", width, height, np.array(params))
    except ValueError as error:
        raise TransformsFormatError(f"{file}: {where}: {error}") from error
