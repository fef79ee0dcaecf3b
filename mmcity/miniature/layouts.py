"""Layouts by name."""

import os
from collections.abc import Callable
from pathlib import Path

from mmcity.miniature import driving, scenes, streaming
from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import is_temporary

#: Layout to what writes it below a folder, which is the ``data_root`` of configs.
LAYOUTS: dict[str, Callable[[Path], None]] = {
    "7scenes": scenes.write_seven_scenes,
    "7scenes_sfm": scenes.write_seven_scenes_sfm,
    "cambridge": scenes.write_cambridge,
    "carlasc": driving.write_carlasc,
    "citygsx": scenes.write_citygsx,
    "colmap": scenes.write_colmap,
    "matrixcity": scenes.write_matrixcity,
    "nuscenes": driving.write_nuscenes,
    "nuscenes_maps": driving.write_nuscenes_maps,
    "occ3d_nuscenes": driving.write_occ3d_nuscenes,
    "occ3d_waymo": driving.write_occ3d_waymo,
    "streaming_evaluation": streaming.write_evaluation_sets,
    "streaming_training": streaming.write_training_sets,
}


def write_miniature(layout: str, out: str | os.PathLike) -> Path:
    """Write a data set of a few small frames in the layout of a published one.

    Names of files and folders, number formats and units are those of the published data set.
    The frames show a room with a pattern on its walls, or a street of boxes: enough to see
    whether a config reads its data and runs, nothing to learn from.

    Args:
        layout: What to write.
        out: Folder to make, the ``data_root`` of configs.

    Returns:
        The folder.

    Raises:
        ValueError: If the layout is unknown.
        FileExistsError: If the folder holds something.
    """
    check_choice("layout", layout, LAYOUTS)
    folder = Path(out)
    if folder.is_dir() and not all(map(is_temporary, os.listdir(folder))):
        raise FileExistsError(
            f"{folder}: expected a new or empty folder, found files: remove it or choose another"
        )
    LAYOUTS[layout](folder)
    return folder
