"""Pictures and a page of one dumped occupancy result."""

import os
import pickle
from pathlib import Path, PurePosixPath

import numpy as np

from mmcity.datasets.io.info_pickle import InfoFileError, load_plain_pickle
from mmcity.datasets.io.occupancy_files import occ3d_grid
from mmcity.datasets.occupancy_labels import OCC3D_NUSCENES_CLASSES
from mmcity.structures.palettes import OCC3D_NUSCENES_PALETTE
from mmcity.utils.fileio import read_arrays
from mmcity.utils.picture_files import read_image
from mmcity.utils.picture_names import picture_name

from .occupancy import render_birds_eye
from .occupancy_page import write_occupancy_page
from .occupancy_scene import legend, overlay_occupancy
from .occupancy_splats import chase_camera, splat_occupancy
from .video import write_image

#: Names of the arrays in the published layout, and in this toolbox's own.
_NAMES = {
    "prediction": ("occ_pred", "pred_occupancy"),
    "truth": ("occ_gt", "gt_occupancy"),
    "mask": ("mask_camera",),
    "images": ("img_path", "meta.img_path"),
    "cam2img": ("cam2img", "meta.cam2img"),
    "cam2ego": ("cam2ego", "meta.cam2ego"),
}
_FREE, _UNLABELLED = 17, 255
#: Height and width of the view from outside, in pixels.
_SPLAT_SIZE = (400, 600)


def _load(path: Path) -> dict:
    if path.suffix == ".npz":
        return read_arrays(path)
    try:
        content = load_plain_pickle(path)
    except (InfoFileError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: expected a dumped result, got another file ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a dict of arrays, got {type(content).__name__}")
    return content


def read_occupancy_result(path: str | Path) -> dict:
    """Read a dumped occupancy result (``.npz`` or ``.pkl``; pickles hold plain data only).

    Returns:
        The grid ``prediction``, and what the file has of ``truth`` (a grid), ``images`` (paths),
        ``cam2img`` and ``cam2ego`` ``(N, 4, 4)``. Grids have the mask ``camera`` of the file.

    Raises:
        ValueError: If it holds no predicted occupancy.
    """
    path = Path(path)
    content = _load(path)
    found = {}
    for name, keys in _NAMES.items():
        key = next((key for key in keys if key in content), None)
        if key is not None:
            found[name] = np.asarray(content[key])
    if "prediction" not in found or found["prediction"].ndim != 3:
        raise ValueError(f"{path}: expected predicted occupancy, got {sorted(content)}")
    masks = {"camera": found.pop("mask")} if "mask" in found else None
    for name in ("prediction", "truth"):
        if name in found:
            labels = found[name].astype(np.uint8)
            found[name] = occ3d_grid(np.where(labels == _UNLABELLED, _FREE, labels), masks=masks)
    return found


def is_occupancy_result(path: str | Path) -> bool:
    """Whether a file is a dumped occupancy result."""
    path = Path(path)
    if path.suffix == ".pkl":
        return True
    return bool(read_arrays(path, _NAMES["prediction"]))


def draw_occupancy_result(
    path: str | Path, out: str | Path, page: bool = True, height: int = 260
) -> list[Path]:
    """Draw a result: cameras with the prediction over them, from above, as splats.

    Args:
        path: The dumped file.
        out: Folder.
        page: Also write the page to turn it in. Defaults to True.
        height: Of a camera's picture in pixels. Defaults to 260.

    Returns:
        Files written: ``<name>.png``, ``<name>_pred.png``, ``<name>_gt.png`` where there is
        ground truth, ``<name>.html``.
    """
    path, out = Path(path), Path(out)
    result = read_occupancy_result(path)
    grids = {"prediction": result["prediction"]}
    volumes = {"prediction": result["prediction"].labels.numpy()}
    if "truth" in result:
        grids["ground truth"] = truth = result["truth"]
        volumes["ground truth"] = truth.labels.numpy()
        if "camera" in truth.masks:
            seen = truth.masks["camera"].numpy()
            volumes["ground truth, seen"] = np.where(seen, volumes["ground truth"], _FREE)
    written, panels, cameras = [], [], _camera_pictures(result, height)
    for name, suffix in (("prediction", "pred"), ("ground truth", "gt")):
        if name not in grids:
            continue
        camera = chase_camera(_SPLAT_SIZE)
        splats = splat_occupancy(grids[name], camera, OCC3D_NUSCENES_PALETTE, _SPLAT_SIZE)
        above = render_birds_eye(volumes[name], OCC3D_NUSCENES_PALETTE, _FREE, scale=2)
        panels.append(np.concatenate([above, splats], axis=1))
        file = out / f"{path.stem}_{suffix}.png"
        write_image(file, splats)
        written.append(file)
    rows = [np.concatenate(panels, axis=1)]
    if cameras:
        grid = list(cameras.values())
        half = -(-len(grid) // 2)
        blank = np.full_like(grid[0], 255)
        grid += [blank] * (2 * half - len(grid))
        rows = [np.concatenate(grid[:half], 1), np.concatenate(grid[half:], 1), *rows]
    width = max(row.shape[1] for row in rows)
    names = OCC3D_NUSCENES_CLASSES[:_FREE]
    rows.append(legend(names, OCC3D_NUSCENES_PALETTE, width))
    rows = [
        np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    sheet = out / f"{path.stem}.png"
    write_image(sheet, np.concatenate(rows))
    written.insert(0, sheet)
    if page:
        file = out / f"{path.stem}.html"
        write_occupancy_page(
            file, volumes, OCC3D_NUSCENES_PALETTE, OCC3D_NUSCENES_CLASSES, _FREE, path.stem, cameras
        )
        written.append(file)
    return written


def _camera_names(files: list[str]) -> list[str]:
    """Names that tell the pictures of one frame apart: their camera's folder, where each has one.

    Else their names below the folder that they share.
    """
    names = [picture_name(file) for file in files]
    folders = [PurePosixPath(name).parent.name for name in names]
    if len(set(folders)) == len(folders) and all(f.startswith("CAM") for f in folders):
        return folders
    shared = os.path.commonpath([PurePosixPath(name).parent for name in names])
    return [str(PurePosixPath(name).relative_to(shared)) for name in names]


def _camera_pictures(result: dict, height: int) -> dict[str, np.ndarray]:
    """Cameras in the order left, front, right with the prediction over them."""
    import cv2

    files = result["images"].tolist() if "images" in result else []
    if not files or not all(Path(file).is_file() for file in files):
        return {}  # dumps may travel without their images
    pictures = {}
    for number, (name, file) in enumerate(zip(_camera_names(files), files)):
        image = read_image(file)
        factor = height / image.shape[0]
        size = (round(image.shape[1] * factor), height)
        kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, size, interpolation=kind)
        if "cam2img" in result and "cam2ego" in result:
            K = result["cam2img"][number][:3, :3] * factor
            K[2] = (0, 0, 1)
            pose = result["cam2ego"][number]
            image = overlay_occupancy(image, result["prediction"], K, pose, OCC3D_NUSCENES_PALETTE)
        pictures[name] = image
    order = ("FRONT_LEFT", "FRONT", "FRONT_RIGHT", "BACK_RIGHT", "BACK", "BACK_LEFT")
    ranked = sorted(pictures, key=lambda n: order.index(n[4:]) if n[4:] in order else len(order))
    return {name: pictures[name] for name in ranked}
