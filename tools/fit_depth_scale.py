"""Fit scale and offset of monocular inverse depths to the sparse points of a COLMAP model.

    python tools/fit_depth_scale.py SCENE [--depth-dir train/depths] [--method median]

Writes ``depth_params.json`` beside the model. Images whose fit fails get 0 and are left out
by the datasets.
"""

import argparse
from pathlib import Path

from mmcity.datasets.depth_scale import FIT_METHODS, fit_depth_params, write_depth_params
from mmcity.datasets.io.colmap_model import find_colmap_model


def main() -> None:
    """Read the command line, fit and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("scene", type=Path, help="scene folder")
    parser.add_argument("--sparse-dir", help="model folder below it; default: look for it")
    parser.add_argument("--depth-dir", default="train/depths", help="inverse depth maps, *.png")
    parser.add_argument("--method", default="median", choices=FIT_METHODS)
    parser.add_argument("--out", type=Path, help="default: depth_params.json beside the model")
    args = parser.parse_args()
    scene = args.scene
    model = scene / args.sparse_dir if args.sparse_dir else find_colmap_model(scene)
    params = fit_depth_params(model, scene / args.depth_dir, args.method)
    out = args.out or model / "depth_params.json"
    write_depth_params(params, out)
    failed = sorted(name for name, row in params.items() if row["scale"] <= 0)
    print(f"{out}: {len(params)} images, {len(failed)} without a fit {failed[:5]}")


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
