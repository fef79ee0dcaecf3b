"""Fuse rendered depth of the training views of a scene into a mesh.

The suffix of --out chooses the format (ply, obj, glb). With --truth the F1 score of the
vertices within --threshold (default: 2 voxels) is printed. --region-size bounds memory: the
volume holds one cube of the world at a time, and renders wait on disk. Several processes
(torchrun) share out views and cubes.
"""

import argparse
import math
from pathlib import Path

from mmcity.cli import flags

EXAMPLE = (
    "mmcity mesh configs/citygsx/citygsx_toytown_cpu.py work_dirs/town/iter_1000.pth"
    " --voxel-size 0.4 --max-depth 150 --out mesh.ply"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of meshing."""
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, default=Path("mesh.ply"))
    parser.add_argument("--voxel-size", type=float, required=True, help="world units")
    parser.add_argument("--max-depth", type=float, default=math.inf, help="world units")
    parser.add_argument("--min-alpha", type=float, default=0.5, help="pixels need this opacity")
    parser.add_argument(
        "--use-depth-filter",
        action="store_true",
        help="drop depth that no two neighbours agree with",
    )
    parser.add_argument("--max-angle", type=float, default=30.0, help="of neighbours, degrees")
    parser.add_argument("--max-dis", type=float, default=1.5, help="of neighbours, world units")
    parser.add_argument("--min-triangles", type=int, default=1000, help="smaller parts are dropped")
    parser.add_argument("--region-size", type=float, help="edge of the cubes, world units")
    parser.add_argument("--scratch", type=Path, help="folder for renders; default: temporary")
    parser.add_argument("--truth", type=Path, help="point cloud (ply) to compare with")
    parser.add_argument("--threshold", type=float, help="of the F1 score, world units")
    flags.add_device(parser)
    flags.add_cfg_options(parser)


def run(args: argparse.Namespace) -> None:
    """Make the mesh."""
    from mmcity.apis.scenes import extract_mesh

    mesh = extract_mesh(**flags.function_arguments(args))
    if mesh is None:  # another process writes it
        return
    print(
        f"{mesh.path}: {mesh.vertices} vertices, {mesh.triangles} triangles, "
        f"{mesh.voxel_bytes / 1e6:.0f} MB of voxels at a time"
    )
    if mesh.scores:
        print(", ".join(f"{name} {value:.3f}" for name, value in mesh.scores.items()))
