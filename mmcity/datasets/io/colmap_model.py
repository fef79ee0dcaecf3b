"""Reading and writing COLMAP sparse models without pycolmap."""

import os
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mmcity.structures import SceneFrame, read_frame
from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import atomic_paths
from mmcity.utils.picture_names import picture_name

from . import colmap_binary, colmap_text
from .colmap_types import ColmapFormatError, ColmapModel, ColmapPoints
from .point_ply import read_point_ply

_PARTS = ("cameras", "images", "points3D")
_SEARCHED = ("sparse/0", "sparse", "colmap/sparse/0", ".")


def _extension(folder: Path) -> str | None:
    """``.bin`` or ``.txt`` if the folder holds cameras and images of that kind, else None."""
    for ext in (".bin", ".txt"):
        if all((folder / f"{part}{ext}").is_file() for part in ("cameras", "images")):
            return ext
    return None


def is_model(folder: Path) -> bool:
    """Whether a folder itself holds cameras and images of a model."""
    return _extension(folder) is not None


def _count_images(folder: Path) -> int:
    """Registered images of a model, from as little of its files as tells it."""
    if _extension(folder) == ".bin":
        with open(folder / "images.bin", "rb") as file:
            return int.from_bytes(file.read(8), "little")
    return colmap_text.count_images(folder / "images.txt")


def find_colmap_model(root: str | os.PathLike) -> Path:
    """Folder of the sparse model below a scene.

    That is the largest of ``sparse/0``, ``sparse/1`` and so on, where COLMAP leaves the parts that
    it could not join (the others are named in a message), ``sparse``, the same below ``colmap``,
    or the root itself.

    Raises:
        FileNotFoundError: If none of them holds ``cameras`` and ``images``.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected the folder of a COLMAP scene, found none")
    for name in _SEARCHED:
        folders = [root / name]
        if name.endswith("/0") and folders[0].parent.is_dir():
            numbered = (p for p in folders[0].parent.iterdir() if p.name.isdecimal())
            folders = sorted(numbered, key=lambda path: int(path.name))
        models = [folder for folder in folders if _extension(folder)]
        if models:
            return models[0] if len(models) == 1 else _largest(root, models)
    raise FileNotFoundError(
        f"{root}: expected cameras and images (.bin or .txt) in one of "
        f"{', '.join(_SEARCHED)}, found {sorted(p.name for p in root.iterdir())[:20]}: "
        "name the scene folder, or give the model folder as `sparse_dir`; of pictures without "
        f"poses `mmcity reconstruct {root} OUT` makes a scene"
    )


def _largest(root: Path, models: list[Path]) -> Path:
    counts = {model: _count_images(model) for model in models}
    taken = max(models, key=lambda model: counts[model])
    others = ", ".join(
        f"{model.relative_to(root).as_posix()} ({counts[model]})"
        for model in models
        if model != taken
    )
    print_log(
        f"{root}: {taken.relative_to(root).as_posix()} is taken, with {counts[taken]} images; the "
        f"scene has other models, which are not used: {others}. Choose with sparse_dir",
        "current",
        30,
    )
    return taken


def read_colmap_model(
    path: str | os.PathLike,
    *,
    with_features: bool = True,
    with_points: bool = True,
    require_points: bool = True,
    with_tracks: bool = True,
) -> ColmapModel:
    """Read a sparse model; binary files are preferred over text.

    ``rigs`` and ``frames`` files of COLMAP 3.12 and later are not needed: ``images`` holds
    the final pose of every image there, too.

    Args:
        path: Folder of the model, or of a scene (see :func:`find_colmap_model`).
        with_features (bool): Read the 2D points of the images. Defaults to True.
        with_points (bool): Read ``points3D``, or the ``points3D.ply`` that other programs write
            in its place (without tracks). Defaults to True.
        require_points (bool): Refuse a model that has neither file. Defaults to True.
        with_tracks (bool): Read the tracks of the points. Defaults to True.

    Returns:
        ColmapModel: With numpy arrays, checked for contradictions.

    Raises:
        FileNotFoundError: If there is no model.
        ColmapFormatError: If a file is truncated, corrupt or contradicts another.
    """
    folder = Path(path)
    ext = _extension(folder) if folder.is_dir() else None
    if ext is None:
        folder = find_colmap_model(folder)
        ext = _extension(folder)
    files = {part: folder / f"{part}{ext}" for part in _PARTS}
    cloud = folder / "points3D.ply"
    has_tracks = files["points3D"].is_file()
    if with_points and require_points and not has_tracks and not cloud.is_file():
        raise FileNotFoundError(
            f"{files['points3D']}: expected the points of the model beside its {ext} images, or "
            "points3D.ply, found no such file: export the model again with all three files, or go "
            "on without points where they are not needed (require_points=False)"
        )
    if ext == ".bin":
        cameras = colmap_binary.read_cameras_bin(files["cameras"])
        images = colmap_binary.read_images_bin(files["images"], with_features)
        read_points = colmap_binary.read_points3D_bin
    else:
        cameras = colmap_text.read_cameras_txt(files["cameras"])
        images = colmap_text.read_images_txt(files["images"], with_features)
        read_points = colmap_text.read_points3D_txt
    for image in images.values():
        image.name = picture_name(image.name)
    points = ColmapPoints.empty()
    if with_points and has_tracks:
        points = read_points(files["points3D"], with_tracks)
    elif with_points and cloud.is_file():
        points = read_point_ply(cloud)
    if with_points and not has_tracks:
        for image in images.values():  # which feature belongs to which point is not known
            image.point3D_ids = np.full_like(image.point3D_ids, -1)
    model = ColmapModel(cameras, images, points, path=str(folder))
    try:
        model.check()
    except ValueError as error:
        raise ColmapFormatError(folder, "a consistent model", str(error)) from error
    return model


def frame_of_model(path: str | os.PathLike) -> SceneFrame:
    """From the coordinates of a model to the world, by the ``frame.json`` of its scene.

    Args:
        path: Folder of the scene, or of the model in it (such as ``SCENE/sparse/0``).
    """
    found = (read_frame(folder) for folder in folders_of_scene(Path(path).resolve()))
    return next((frame for frame in found if frame is not None), SceneFrame())


def folders_of_scene(path: Path) -> list[Path]:
    """The folder of a scene, or that of a model with those around it up to the scene's."""
    folders = [path.absolute()]
    while folders[-1].name.isdecimal() or folders[-1].name in ("sparse", "colmap"):
        folders.append(folders[-1].parent)
    return folders


def write_colmap_model(model: ColmapModel, path: str | os.PathLike, ext: str = ".bin") -> None:
    """Write ``cameras``, ``images`` and ``points3D``; all are moved into place when whole.

    Args:
        model (ColmapModel): Checked before anything is written.
        path: Folder; created if missing.
        ext (str): ``.bin`` or ``.txt``. Defaults to ``.bin``.
    """
    check_choice("ext", ext, (".bin", ".txt"))
    model.check()
    writers = colmap_binary if ext == ".bin" else colmap_text
    contents = (model.cameras, model.images, model.points3D)
    with atomic_paths(Path(path) / f"{part}{ext}" for part in _PARTS) as files:
        for part, content, file in zip(_PARTS, contents, files):
            getattr(writers, f"write_{part}_{ext[1:]}")(content, file)
