"""Writers of the toy town, one function per file format."""

from mmcity.toytown.writers.citygsx import write_citygsx
from mmcity.toytown.writers.colmap_loc import write_colmap_loc
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

__all__ = [
    "WRITERS",
    "write_carlasc",
    "write_citygsx",
    "write_colmap_loc",
    "write_nuscenes",
    "write_occ3d_waymo",
    "write_video",
]
