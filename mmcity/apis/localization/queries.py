"""Localisation of a set of queries, with files, pictures and errors."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmcity.datasets import ColmapDataset
from mmcity.datasets.converters import is_film, take_frames
from mmcity.datasets.io.colmap_types import CAMERA_MODELS, ColmapCamera
from mmcity.structures import Cameras
from mmcity.utils.cli import UserError
from mmcity.utils.fileio import read_rows, split_name
from mmcity.utils.images import IMAGE_SUFFIXES, list_images, tell_none
from mmcity.utils.picture_files import read_image
from mmcity.utils.picture_names import check_once, output_names, picture_name, read_names
from mmcity.visualization import write_image

from .localizer_file import build_localizer, read_localizer_file
from .report import LocalizationReport, read_pose_file
from .result import LocalizationResult

#: What a killed run may lose.
_SECONDS_BETWEEN_WRITES = 5.0
#: First poses by the name of the choice, as arguments of :class:`Localizer`.
_START_OPTIONS = {
    "all": {},
    "regression": {"num_starts": 0, "num_near": 0},
    "mapped": {"start_from_regression": False, "num_near": 0},
}


def localize_queries(
    scene: str | os.PathLike,
    out: str | os.PathLike,
    *,
    queries: str | os.PathLike | None = None,
    map: str | os.PathLike | None = None,
    map_config: str | os.PathLike | None = None,
    config: str | os.PathLike | None = None,
    checkpoint: str | os.PathLike | None = None,
    alignment: str | os.PathLike | None = None,
    long_side: int | None = None,
    unit_scale: float | None = None,
    not_metric: bool = False,
    start: str = "all",
    starts: int = 3,
    poses: str | os.PathLike | None = None,
    matcher: str = "SIFTMatcher",
    matcher_weights: str | os.PathLike | None = None,
    pnp: str = "opencv",
    depth_mode: str | None = None,
    sigma_scale: float = 1.0,
    intrinsics: str | os.PathLike | None = None,
    focal: float | None = None,
    limit: int | None = None,
    good: tuple[float, float] = (0.25, 2.0),
    label: str = "",
    seed: int | None = None,
    up: Sequence[float] | None = None,
    pictures: bool = True,
    device: str | None = None,
) -> LocalizationReport:
    """Poses, covariances and confidences of pictures in a Gaussian map.

    Args:
        scene: COLMAP scene folder of the mapped images, or a localiser file, whose parts stand
            for those arguments that are left out.
        out: Folder for ``poses.txt``, ``results.json`` and pictures.
        queries: Image, folder, or film, of which frames are taken. Defaults to None: the test
            split of the scene, with errors.
        map: 3DGS ``.ply`` file, or checkpoint. Defaults to None.
        map_config: Config of a map given as a checkpoint. Defaults to None.
        config: Config of a pose network. Defaults to None.
        checkpoint: Weights of the pose network. Defaults to None.
        alignment: JSON of a similarity to metres or a geographic frame. Defaults to None.
        long_side: px to which larger pictures are reduced. Defaults to None: as they are.
        unit_scale: Metres per scene unit. Defaults to None: 1.
        not_metric: Scene units are not metres. Defaults to False.
        start: First poses: ``regression``, ``mapped`` images that look alike, or ``all``.
            Defaults to ``all``.
        starts: Mapped images to start from. Defaults to 3.
        poses: File of first poses that take the place of all others: lines
            ``name qw qx qy qz tx ty tz`` (world to camera), such as the ``poses.txt`` of another
            run. Defaults to None.
        matcher: Registered matcher. Defaults to ``SIFTMatcher``.
        matcher_weights: Weights of a learned matcher. Defaults to None.
        pnp: RANSAC backend: ``opencv``, ``poselib`` or ``pycolmap``. Defaults to ``opencv``.
        depth_mode: Depth of the map that lifts matches. Defaults to None: the scene's own.
        sigma_scale: Factor on predicted deviations, such as the ``sigma_factor`` of a run with
            known poses. Defaults to 1.
        intrinsics: Text file of the queries' cameras: ``name MODEL width height params``.
            Defaults to None.
        focal: px, of all queries. Defaults to None: as mapped.
        limit: Localise only the first so many. Defaults to None: all.
        good: Metres and degrees below which a pose is good. Defaults to (0.25, 2).
        label: Name of this run in tables. Defaults to none.
        seed: Seed of the training, for tables. Defaults to None.
        up: Direction to look down from in plots. Defaults to None.
        pictures: Draw each query beside its render, and plots. Defaults to True.
        device: Defaults to CUDA where it is.

    Returns:
        The report of all queries, as it was written.

    Raises:
        UserError: If there is no map, no pose network for ``start="regression"``, or no query.
    """
    parts = dict(scene=scene, map=map, map_config=map_config, config=config, checkpoint=checkpoint,
                 alignment=alignment, long_side=long_side)  # fmt: skip
    if str(scene).endswith(".json"):
        file = read_localizer_file(scene)
        parts = {name: file.get(name) if part is None else part for name, part in parts.items()}
        scene = parts["scene"] = file["scene"]
        unit_scale = file.get("unit_scale") if unit_scale is None else unit_scale
        not_metric = not_metric or file.get("not_metric", False)
    if parts["map"] is None:
        raise UserError("map: expected a .ply file or checkpoint, got none: give --map, or a "
                        "localizer.json that names it")  # fmt: skip
    if start == "regression" and parts["config"] is None:
        raise UserError("start: expected a pose network, got none: give --config and --checkpoint")
    refiner = dict(matcher=dict(type=matcher), pnp=dict(backend=pnp), sigma_scale=sigma_scale)
    if matcher_weights is not None:
        refiner["matcher"]["weights"] = matcher_weights
    localizer = build_localizer(
        **parts,
        depth_mode=depth_mode,
        device=device,
        refiner=refiner,
        **{"num_starts": starts, **_START_OPTIONS[start]},
    )
    unmapped = Path(scene) / "queries_unmapped.txt"
    report = LocalizationReport(
        scene=Path(scene).resolve().name,
        label=label or f"start: {poses or start}",
        scene_extent=float(localizer.mapped.scene_extent),
        unit_scale=unit_scale or 1.0,
        metric=not not_metric,
        mapped_centers=localizer.mapped.cameras.centers.double().numpy() + localizer.mapped.offset,
        frame=localizer.mapped.file_frame,
        unmapped=[*map(picture_name, read_names(unmapped))] if unmapped.is_file() else (),
        seed=seed,
    )
    cameras = {} if intrinsics is None else read_intrinsics(intrinsics)
    first = None if poses is None else read_pose_file(poses)
    if queries is not None and is_film(queries):
        queries = take_frames(queries, Path(out) / "frames").folder
    todo = _Queries(scene, queries, parts["long_side"], limit)
    if todo.test is not None:
        todo.test.express_in(localizer.mapped.frame)
    files = output_names(todo.names, ".png")
    written = time.monotonic()
    try:
        for row, name in enumerate(todo.names):
            result, image, truth = LocalizationResult(name), None, None
            with report.failures.item(name):
                image, truth = todo.read(row)
                if first is not None and name not in first:
                    result = LocalizationResult(name, reason=f"no pose in {poses}")
                else:
                    K, distortion = _query_camera(image, name, truth, focal, cameras)
                    # A query of the scene itself does not start from its own picture.
                    own = name if queries is None else None
                    pose = None if first is None else first[name]
                    result = localizer.localize(
                        image, K, distortion, name=name, exclude=own, start=pose
                    )
            result.reason = report.failures.reasons.get(name, result.reason)
            shown = report.add(result, truth)
            errors = "" if truth is None else (
                f" {shown['error_translation']:.3g} {report.unit} "
                f"{shown['error_rotation']:.3g} deg"
            )  # fmt: skip
            line = f"{name}: {result.status} {result.confidence:.2f}{errors} {result.reason}"
            print(line, flush=True)
            if pictures and result.status != "failed":
                for picture in localizer.visualize(result, image):
                    write_image(Path(out) / "pictures" / files[name], picture)
            if time.monotonic() - written > _SECONDS_BETWEEN_WRITES:
                report.write(out, good)
                written = time.monotonic()
    finally:  # also what an interrupted run has found
        report.write(out, good)
    if pictures:
        report.plot(out, up)
    return report


class _Queries:
    """The queries of a run: their names, and how each is read."""

    def __init__(
        self,
        scene: str | os.PathLike,
        queries: str | os.PathLike | None,
        long_side: int | None,
        limit: int | None,
    ) -> None:
        self.test = None
        if queries is None:
            resize = None if long_side is None else dict(long_side=long_side)
            self.test = ColmapDataset(scene, split="test", resize=resize, require_points=False)
            self.names = self.test.img_names[:limit]
            return
        path = Path(queries)
        if not path.exists():
            raise UserError(f"{path}: expected a picture or a folder or film of some, found none")
        folder = path if path.is_dir() else path.parent
        self.files = (list_images(path, recursive=True) if path.is_dir() else [path])[:limit]
        if not self.files:
            raise UserError(
                f"{path}: expected pictures ({', '.join(IMAGE_SUFFIXES)}), found none"
                f"{tell_none(path, True)}"
            )
        self.names = [picture_name(file.relative_to(folder)) for file in self.files]

    def read(self, row: int) -> tuple[np.ndarray, Cameras | None]:
        """Picture, upright, and true camera (None if unknown)."""
        if self.test is None:
            return read_image(self.files[row], upright=True), None
        return self.test.load(row)["img"], self.test.cameras[row]


def read_intrinsics(path: str | os.PathLike) -> dict[str, ColmapCamera]:
    """Cameras by name, from lines ``name MODEL width height params`` as COLMAP writes them.

    Raises:
        ValueError: If a line is something else, a camera's distortion cannot be taken, or a name
            has two.
    """
    cameras, names = {}, []
    for number, line in read_rows(path):
        try:
            name, camera = _named_camera(line)
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number}: expected name MODEL width height params, got {line!r} "
                f"({error})"
            ) from error
        if "FISHEYE" in camera.model and camera.distortion.any():
            raise ValueError(f"{path}, line {number}: expected undistorted pictures, got a fisheye")
        cameras[picture_name(name)] = camera
        names.append(name)
    check_once(names, path)
    return cameras


def _named_camera(line: str) -> tuple[str, ColmapCamera]:
    """The name ends where a model is followed by its own number of numbers."""
    count = len(line.split())
    for model, layout in CAMERA_MODELS.items():
        name, words = split_name(line, 3 + len(layout.params))
        if words and words[0] == model:
            width, height = (int(word) for word in words[1:3])
            params = np.array(words[3:], dtype=np.float64)
            return name, ColmapCamera(0, model, width, height, params)
    raise ValueError(f"{count} words, none of which is a model with its parameters behind it")


def _query_camera(
    image: np.ndarray,
    name: str,
    truth: Cameras | None,
    focal: float | None,
    cameras: Mapping[str, ColmapCamera],
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Intrinsics at the picture's size (None: as mapped), and OpenCV's distortion."""
    height, width = image.shape[:2]
    if name in cameras:
        camera = cameras[name]
        ratio = np.array([width / camera.width, height / camera.height])
        if abs(ratio[0] / ratio[1] - 1) > 0.02:
            raise ValueError(
                f"{name}: expected {camera.width}x{camera.height} as of its intrinsics, got "
                f"{width}x{height}"
            )
        return np.diag([*ratio, 1.0]) @ camera.K, camera.distortion
    if truth is not None:
        return truth.Ks[0].numpy(), None
    if focal is not None:
        return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), None
    return None, None
