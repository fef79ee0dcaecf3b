"""Writers of the toy town, one function per file format."""

from mmcity.toytown.writers.citygsx import write_citygsx
from mmcity.toytown.writers.colmap_loc import write_colmap_loc
from mmcity.toytown.writers.formats import WRITERS, write_formats
from mmcity.toytown.writers.nuscenes import write_nuscenes
from mmcity.toytown.writers.occupancy import write_carlasc, write_occ3d_waymo
from mmcity.toytown.writers.video import write_video

__all__ = [
    "WRITERS",
    "write_carlasc",
    "write_citygsx",
    "write_colmap_loc",
    "write_formats",
    "write_nuscenes",
    "write_occ3d_waymo",
    "write_video",
]
