"""Fit scale and offset of monocular inverse depths to the sparse points of a COLMAP model.

Writes depth_params.json beside the model. Images whose fit fails get 0 and are left out by the
datasets.
"""

import argparse

EXAMPLE = "mmcity data fit-depth-scale SCENE --depth-dir train/depths --method median"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the fit."""
    parser.add_argument("scene", help="scene folder")
    parser.add_argument("--sparse-dir", help="model folder below it; default: look for it")
    parser.add_argument("--depth-dir", default="train/depths", help="inverse depth maps, *.png")
    parser.add_argument("--method", default="median", choices=("median", "lsq", "ransac"))
    parser.add_argument("--out", help="default: depth_params.json beside the model")


def run(args: argparse.Namespace) -> None:
    """Fit and write."""
    from mmcity.datasets.depth_scale import fit_scene_depths

    path, params = fit_scene_depths(**vars(args))
    failed = sorted(name for name, row in params.items() if row["scale"] <= 0)
    print(f"{path}: {len(params)} images, {len(failed)} without a fit {failed[:5]}")
