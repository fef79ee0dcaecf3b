"""Lidar returns over the camera images of nuScenes key frames: a check of the calibration.

``python tools/analysis_tools/project_lidar.py data/nuscenes/nuscenes_infos_val.pkl
--root data/nuscenes --out outputs/lidar``
"""

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Draw lidar returns over the camera images")
    parser.add_argument("infos", help="info file (format v2)")
    parser.add_argument("--root", default="data/nuscenes", help="folder of nuScenes")
    parser.add_argument("--out", default="outputs/lidar", help="folder for the pictures")
    parser.add_argument("--frames", type=int, default=4, help="key frames, evenly chosen")
    parser.add_argument("--width", type=int, default=640, help="of one camera in pixels")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Draw."""
    args = parse_args(argv)

    import numpy as np

    from mmcity.apis.occupancy.foundation_maps import collect_images
    from mmcity.datasets.transforms.posed_images import read_image
    from mmcity.visualization import contact_sheet, write_image
    from mmcity.visualization.occupancy_scene import overlay_points

    tasks = collect_images([args.infos], args.root)
    frames: dict[str, list] = {}
    for task in tasks:
        frames.setdefault(task.lidar_path, []).append(task)
    keys = list(frames)
    chosen = np.unique(np.linspace(0, len(keys) - 1, min(args.frames, len(keys))).astype(int))
    for key in (keys[i] for i in chosen):
        points = np.fromfile(key, dtype="<f4").reshape(-1, 5)[:, :3].astype(np.float64)
        cells = []
        for task in frames[key]:
            local = points @ task.lidar2cam[:3, :3].T + task.lidar2cam[:3, 3]
            cells.append(overlay_points(read_image(task.path), local, task.cam2img))
        names = [Path(task.path).parent.name for task in frames[key]]
        half = -(-len(cells) // 2)
        rows = [cells[:half], cells[half:]]
        captions = ["   ".join(names[:half]), "   ".join(names[half:])]
        path = Path(args.out) / f"{Path(key).name.split('.')[0]}.png"
        write_image(path, contact_sheet(rows, captions=captions, cell_width=args.width))
        print(path)


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
