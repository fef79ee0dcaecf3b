"""Checks of a localisation scene before anything is trained on it."""

import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch

from mmcity.datasets import ColmapDataset
from mmcity.datasets.posed_images import PosedImage
from mmcity.utils.picture_files import read_image

#: Relative difference of focal lengths over widths that pose regression bears.
_SAME_FOCAL = 0.01
#: Of the width or height, that a principal point may lie off the centre.
_OFF_CENTRE = 0.05
_FEW_MAPPED, _FEW_POINTS, _MOST_POINTS = 20, 100, 2000
#: Share of the points that some photograph must see, and multiple of the median distance from
#: the middle at which a camera is lost.
_SEEN, _LOST = 0.5, 10.0
#: Distance of centres, of that of what they see, that rounding can make.
_SAME_PLACE = 1e-6
#: Metres of usual distances between cameras and what they see.
_USUAL_DEPTHS = (0.2, 2000.0)


@dataclass
class SceneCheck:
    """One thing that was looked at.

    Attributes:
        what: ``images``, ``intrinsics``, ``split``, ``extent``, ``points`` or ``scale``.
        level: ``ok``, ``warning`` or ``error``.
        message: What was found, and for doubts what to do.
    """

    what: str
    level: str
    message: str

    def __str__(self) -> str:
        return f"{self.level:7s} {self.what}: {self.message}"


def check_localization_scene(
    data_root: str | os.PathLike, regression: bool = True, unit_scale: float | None = None
) -> list[SceneCheck]:
    """Look at a COLMAP scene from which a localiser is to be made.

    Args:
        data_root: Scene folder.
        regression: Whether a pose network will be trained that knows one camera only.
        unit_scale: Metres per scene unit; None if it is not known.

    Returns:
        list[SceneCheck]: In fixed order; training makes sense if none is an ``error``.

    Raises:
        ValueError: If the scene cannot be read at all (see :class:`ColmapDataset`).
    """
    scene = ColmapDataset(data_root, split="all", require_points=False)
    mapped = [image for image in scene.images if image.is_train]
    queries = [image for image in scene.images if image.is_test]
    return [
        _images(scene.images),
        _intrinsics(scene, regression),
        *_split(mapped, queries),
        *_extent(scene, mapped, queries),
        *_points_and_scale(scene, unit_scale),
    ]


def _names(names, most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))


def _images(images: list[PosedImage]) -> SceneCheck:
    broken = []
    for image in images:
        try:
            read_image(image.path)
        except (OSError, ValueError):
            broken.append(image.name)
    if broken:
        todo = "What to do: copy them again, or take them out of the folder and the model"
        return SceneCheck("images", "error", f"cannot be decoded: {_names(broken)}. {todo}")
    sizes = {(image.camera.width, image.camera.height) for image in images}
    text = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
    return SceneCheck("images", "ok", f"{len(images)} of {text} px")


def _intrinsics(scene: ColmapDataset, regression: bool) -> SceneCheck:
    cameras = scene.all_cameras
    ratios = (cameras.Ks[:, 0, 0] / cameras.widths).double().numpy()
    middle = float(np.median(ratios))
    odd = np.flatnonzero(abs(ratios / middle - 1) > _SAME_FOCAL)
    if len(odd):
        names = _names(scene.images[row].name for row in odd)
        text = f"focal length over width is {middle:.4f}, but not in {names}"
        if not regression:
            return SceneCheck("intrinsics", "ok", f"{text}; refinement takes each as it is")
        return SceneCheck(
            "intrinsics", "error",
            f"{text}; a pose network knows one camera: "
            "model.data_preprocessor.normalize_focal=True, or no pose network",
        )  # fmt: skip
    sizes = torch.stack([cameras.widths, cameras.heights], 1)
    off = ((cameras.Ks[:, :2, 2] / sizes - 0.5).abs() > _OFF_CENTRE).any(1).nonzero().flatten()
    if len(off):
        names = _names(scene.images[row].name for row in off.tolist())
        return SceneCheck(
            "intrinsics", "warning", f"the principal point is far off the centre in {names}: "
            "right if pictures were cropped, else a sign of a poor calibration",
        )  # fmt: skip
    return SceneCheck("intrinsics", "ok", f"one camera, focal length over width {middle:.4f}")


def _split(mapped: list[PosedImage], queries: list[PosedImage]) -> list[SceneCheck]:
    text = f"{len(mapped)} mapped images, {len(queries)} queries"
    if len(mapped) < 3:
        todo = "What to do: map more, or hold out fewer (list_test.txt)"
        return [SceneCheck("split", "error", f"{text}; a map needs 3 at least. {todo}")]
    by_content = defaultdict(list)
    for image in mapped:
        by_content[_digest(image)].append(image)
    twins = [query.name for query in queries if _digest(query) in by_content]
    out = []
    if twins:
        out.append(SceneCheck(
            "split", "error", f"{_names(twins)}: the same files are mapped, so that errors would "
            "say nothing: remove copies",
        ))  # fmt: skip
    if len(mapped) < _FEW_MAPPED:
        out.append(SceneCheck(
            "split", "warning", f"{text}: few; synthesised views of such a map are poor, and so is "
            "regression. Take more pictures",
        ))  # fmt: skip
    return out or [SceneCheck("split", "ok", text)]


def _digest(image: PosedImage) -> bytes:
    return hashlib.sha256(image.path.read_bytes()).digest()


def _extent(scene: ColmapDataset, mapped, queries) -> list[SceneCheck]:
    centers = np.stack([np.linalg.inv(image.viewmat)[:3, 3] for image in mapped])
    distance = np.linalg.norm(centers - np.median(centers, 0), axis=1)
    extent = float(scene.scene_extent)
    xyz, seen = scene.points3D.xyz, 1.0  # without points, a scene unit stands in
    if len(xyz):
        seen = float(np.median(np.linalg.norm(xyz - np.median(centers, 0), axis=1)))
    if distance.max() <= _SAME_PLACE * seen:
        todo = "What to do: move between the pictures; turning on the spot gives no depth"
        return [SceneCheck("extent", "error", f"all cameras stand in one place. {todo}")]
    out = []
    lost = np.flatnonzero(distance > _LOST * np.median(distance)) if np.median(distance) else []
    if len(lost):
        out.append(SceneCheck(
            "extent", "warning", f"{_names(mapped[row].name for row in lost)}: more than "
            f"{_LOST:g} times as far from the middle as most; wrong poses? They set the scene's "
            "extent, and with it learning rates and the bounds of synthesised views",
        ))  # fmt: skip
    outside = []
    for query in queries:
        gaps = np.linalg.norm(centers - np.linalg.inv(query.viewmat)[:3, 3], axis=1)
        if gaps.min() > extent:
            outside.append(query.name)
    if outside:
        out.append(SceneCheck(
            "extent", "warning", f"{_names(outside)}: farther than the scene's extent of "
            f"{extent:.4g} units from every mapped image; they cannot be localised",
        ))  # fmt: skip
    return out or [SceneCheck("extent", "ok", f"{extent:.4g} scene units")]


def _points_and_scale(scene: ColmapDataset, unit_scale: float | None) -> list[SceneCheck]:
    count = len(scene.points3D)
    if not count:
        todo = "What to do: triangulate the model (colmap point_triangulator)"
        return [
            SceneCheck("points", "error", f"none, and the map starts from them. {todo}"),
            _scale(unit_scale, None),
        ]
    rows = np.linspace(0, count - 1, min(count, _MOST_POINTS)).astype(int)
    points = torch.from_numpy(scene.points3D.xyz[rows]).to(scene.all_cameras.viewmats)
    seen, depths = torch.zeros(len(points), dtype=torch.bool), []
    for row in range(len(scene.all_cameras)):
        camera = scene.all_cameras[row]
        pixels, depth = (part[0] for part in camera.project(points))
        size = torch.stack([camera.widths[0], camera.heights[0]])
        inside = (depth > 0) & ((pixels > 0) & (pixels < size)).all(1)
        seen |= inside
        depths.append(depth[inside])
    share, depth = float(seen.float().mean()), torch.cat(depths)
    if share < _SEEN:
        check = SceneCheck(
            "points", "error", f"only {share:.0%} of them lie in some picture: poses and points do "
            "not belong together: see whether poses are world to camera (COLMAP's) "
            "and axes are x right, y down, z forward",
        )  # fmt: skip
    elif count < _FEW_POINTS:
        check = SceneCheck("points", "warning", f"only {count}; the map starts from them")
    else:
        check = SceneCheck("points", "ok", f"{count}, {share:.0%} in some picture")
    return [check, _scale(unit_scale, float(depth.median()) if len(depth) else None)]


def _scale(unit_scale: float | None, depth: float | None) -> SceneCheck:
    if unit_scale is None:
        return SceneCheck(
            "scale", "warning", "metres per scene unit are not known: errors will be in scene "
            "units: give positions of cameras (--positions), or say --metric",
        )  # fmt: skip
    text = f"{unit_scale:.6g} m per scene unit"
    if depth is None:
        return SceneCheck("scale", "ok", text)
    text += f", median distance of what is seen {depth * unit_scale:.3g} m"
    low, high = _USUAL_DEPTHS
    if not low <= depth * unit_scale <= high:
        return SceneCheck("scale", "warning", f"{text}: are those metres?")
    return SceneCheck("scale", "ok", text)
