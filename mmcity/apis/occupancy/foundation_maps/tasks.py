"""Images to make maps of, from info files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmcity.datasets.io.info_pickle import load_info_pickle
from mmcity.datasets.io.map_store import map_name


@dataclass(frozen=True)
class ImageTask:
    """An image to make a map of.

    Attributes:
        path: The file.
        cam2img: (3, 3) intrinsics.
        lidar_path: Sweep of the same key frame, None where the info names none.
        lidar2cam: (4, 4), None where the info has none.
    """

    path: str
    cam2img: np.ndarray
    lidar_path: str | None = None
    lidar2cam: np.ndarray | None = None

    @property
    def name(self) -> str:
        """Name of its map."""
        return map_name(self.path)


def images_of_frame(info: dict, root: str | Path) -> list[ImageTask]:
    """Images of one key frame.

    Args:
        info: Its entry in an info file (format v2).
        root: nuScenes' folder; images lie in ``samples/<CAMERA>`` below it.
    """
    root = Path(root)
    lidar = info.get("lidar_points", {}).get("lidar_path")
    sweep = None if lidar is None else str(root / "samples/LIDAR_TOP" / Path(lidar).name)
    tasks = []
    for camera, image in info["images"].items():
        file = root / "samples" / camera / Path(image["img_path"]).name
        matrix = image.get("lidar2cam")
        tasks.append(
            ImageTask(
                str(file),
                np.asarray(image["cam2img"], dtype=np.float64)[:3, :3],
                sweep,
                None if matrix is None else np.asarray(matrix, dtype=np.float64),
            )
        )
    return tasks


def collect_images(info_files: Sequence[str | Path], root: str | Path) -> list[ImageTask]:
    """Images of all key frames of info files, in their order.

    Args:
        info_files: Info pickles (format v2).
        root: As in :func:`images_of_frame`.
    """
    infos = (info for path in info_files for info in load_info_pickle(path)["data_list"])
    return [task for info in infos for task in images_of_frame(info, root)]
