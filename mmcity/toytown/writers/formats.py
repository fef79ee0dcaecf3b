"""Every file format of the toy town, by name."""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmcity.toytown.world.config import ToytownConfig
from mmcity.toytown.writers.citygsx import write_citygsx
from mmcity.toytown.writers.colmap_loc import write_colmap_loc
from mmcity.toytown.writers.common import default_workers
from mmcity.toytown.writers.nuscenes import write_nuscenes
from mmcity.toytown.writers.occupancy import write_carlasc, write_occ3d_waymo
from mmcity.toytown.writers.video import write_video

#: Format name to its writer ``(out, config, image_size=None, workers=1) -> folder``.
WRITERS = {
    "carlasc": write_carlasc,
    "citygsx": write_citygsx,
    "colmap_loc": write_colmap_loc,
    "nuscenes": write_nuscenes,
    "occ3d_waymo": write_occ3d_waymo,
    "video": write_video,
}


def write_formats(
    out: str | os.PathLike,
    config: ToytownConfig,
    formats: Iterable[str] | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    workers: int | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
) -> dict[str, Path]:
    """Write a toy town in several file formats, each into a folder of its name.

    Args:
        out: Folder of these folders.
        config: The town.
        formats: Keys of :data:`WRITERS`. Defaults to all.
        image_size: Width and height. Defaults to the preset of the town's size.
        workers: Processes that render. Defaults to one per core, eight at most.
        options: Further arguments of each format's writer. Defaults to None.

    Returns:
        Folder of each format.

    Raises:
        ValueError: If a format is unknown.
    """
    formats = sorted(WRITERS) if formats is None else list(formats)
    unknown = sorted(set(formats) - set(WRITERS))
    if unknown:
        raise ValueError(f"formats: expected some of {sorted(WRITERS)}, got {unknown}")
    folders = {}
    for name in formats:
        start = time.perf_counter()
        folders[name] = WRITERS[name](
            Path(out) / name,
            config,
            image_size=image_size,
            workers=default_workers() if workers is None else workers,
            **(options or {}).get(name, {}),
        )
        print(f"{name}: {folders[name]} ({time.perf_counter() - start:.1f} s)", flush=True)
    return folders
