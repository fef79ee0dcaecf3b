"""Writers of the toy town, one function per file format."""

from mmcity.datasets.toytown.writers.citygsx import write_citygsx
from mmcity.datasets.toytown.writers.colmap_loc import write_colmap_loc
from mmcity.datasets.toytown.writers.video import write_video

#: Format name to its writer ``(out, config, image_size=None, workers=1) -> folder``.
WRITERS = {
    "citygsx": write_citygsx,
    "colmap_loc": write_colmap_loc,
    "video": write_video,
}

__all__ = ["WRITERS", "write_citygsx", "write_colmap_loc", "write_video"]
