"""Draw lidar returns over the camera images of nuScenes key frames: a check of the calibration."""

from mmcity.cli.options import command

EXAMPLE = (
    "tools/analysis_tools/project_lidar.py data/nuscenes/nuscenes_infos_val.pkl "
    "--root data/nuscenes --out outputs/lidar"
)


def _show(files, _):
    for path in files:
        print(path)


add_arguments, run = command(
    "mmcity.apis.occupancy.lidar_overlay:draw_lidar_overlays", "infos", _show,
    root=dict(default="data/nuscenes"), out=dict(default="outputs/lidar"),
)  # fmt: skip
