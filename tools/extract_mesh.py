r"""Fuse rendered depth of the training views into a mesh.

    python tools/extract_mesh.py CONFIG CHECKPOINT --voxel-size 0.2 --out mesh.ply \
        [--max-depth 500] [--truth gt/visible_points.ply] [--cfg-options data_root=DIR]

The suffix of ``--out`` chooses the format (ply, obj, glb). With ``--truth`` the F1 score of
the vertices within ``--threshold`` (default: 2 voxels) is printed.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import trimesh
from rich.progress import track

from mmcity.engine import launch
from mmcity.engine.scene_loading import load_scene
from mmcity.registry import DATASETS
from mmcity.structures import Cameras
from mmcity.structures.multi_view import consistent_depth, find_neighbours
from mmcity.utils.fileio import atomic_path
from mmcity_ops import TSDFVolume


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, default=Path("mesh.ply"))
    parser.add_argument("--voxel-size", type=float, required=True, help="world units")
    parser.add_argument("--max-depth", type=float, default=float("inf"), help="world units")
    parser.add_argument("--min-alpha", type=float, default=0.5, help="pixels need this opacity")
    parser.add_argument(
        "--use-depth-filter",
        action="store_true",
        help="drop depth that no two neighbours agree with",
    )
    parser.add_argument("--max-angle", type=float, default=30.0, help="of neighbours, degrees")
    parser.add_argument("--max-dis", type=float, default=1.5, help="of neighbours, world units")
    parser.add_argument("--min-triangles", type=int, default=1000, help="smaller parts are dropped")
    parser.add_argument("--truth", type=Path, help="point cloud (ply) to compare with")
    parser.add_argument("--threshold", type=float, help="of the F1 score, world units")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cfg-options", nargs="+", help="KEY=VALUE overrides")
    return parser.parse_args()


@torch.no_grad()
def render_views(model, cameras: Cameras, max_depth: float, min_alpha: float):
    """Depth (0 = none) and colour (H, W, 3) of each camera, on the CPU."""
    depths, colors = [], []
    for row in track(range(len(cameras)), "Rendering depth"):
        view = model.render(cameras[row].to(next(model.parameters()).device))
        depth = view["depth"][0, ..., 0]
        good = (view["alpha"][0, ..., 0] > min_alpha) & (depth <= max_depth)
        depths.append(torch.where(good, depth, 0.0).cpu())
        colors.append(view["rgb"][0].clamp(0, 1).cpu())
    return depths, colors


def filter_views(depths, cameras: Cameras, max_angle: float, max_dis: float):
    """Zero depth that fewer than two neighbours agree with, where there are more than two."""
    infinite = [torch.where(depth > 0, depth, torch.inf) for depth in depths]
    out = []
    for row, rows in enumerate(find_neighbours(cameras, 8, max_angle, 0.01, max_dis)):
        depth = depths[row]
        if len(rows) > 2:
            agreed = consistent_depth(infinite, cameras, row, rows, min_depth=0.1)
            depth = torch.where(agreed, depth, 0.0)
        out.append(depth)
    return out


def main() -> None:
    """Render, fuse, clean, write, compare."""
    args = parse_args()
    cfg = launch.load_config(args.config, launch.parse_options(args.cfg_options))
    model = load_scene(args.checkpoint, cfg).to(args.device)
    dataset_cfg = cfg.train_dataloader.dataset
    if "use_neighbours" in dataset_cfg or dataset_cfg.type == "CityGSXDataset":
        dataset_cfg.update(use_neighbours=False, depth_dir=None, mask_dir=None)
    cameras = DATASETS.build(dataset_cfg).cameras
    depths, colors = render_views(model, cameras, args.max_depth, args.min_alpha)
    if args.use_depth_filter:
        depths = filter_views(depths, cameras, args.max_angle, args.max_dis)
    volume = TSDFVolume((0.0, 0.0, 0.0), args.voxel_size, trunc=4 * args.voxel_size)
    views = list(zip(depths, colors, cameras.Ks, cameras.viewmats))
    for depth, _, K, viewmat in views:
        volume.allocate(depth, K, viewmat, args.max_depth)
    for depth, color, K, viewmat in track(views, "Fusing"):
        volume.integrate(depth, color, K, viewmat, max_depth=args.max_depth)
    vertices, faces, shades = volume.extract_mesh()
    if not len(faces):
        raise SystemExit("no surface found: check --max-depth and --voxel-size")
    mesh = trimesh.Trimesh(
        vertices.numpy(),
        faces.numpy(),
        vertex_colors=(shades.clamp(0, 1) * 255).byte().numpy(),
        process=False,
    )
    mesh = largest_parts(mesh, args.min_triangles)
    with atomic_path(args.out) as temporary:
        mesh.export(temporary)
    print(
        f"{args.out}: {len(mesh.vertices)} vertices, {len(mesh.faces)} triangles, "
        f"{volume.memory_bytes / 1e6:.0f} MB of voxels"
    )
    if args.truth is not None:
        from mmcity.evaluation.functional.point_clouds import f1_score

        truth = np.asarray(trimesh.load(args.truth).vertices)
        score = f1_score(np.asarray(mesh.vertices), truth, args.threshold or 2 * args.voxel_size)
        print(", ".join(f"{name} {value:.3f}" for name, value in score.items()))


def largest_parts(mesh: trimesh.Trimesh, min_triangles: int) -> trimesh.Trimesh:
    """The mesh without connected parts of fewer triangles, loose vertices and empty faces."""
    mesh.update_faces(mesh.nondegenerate_faces())
    labels = trimesh.graph.connected_component_labels(mesh.face_adjacency, len(mesh.faces))
    sizes = np.bincount(labels, minlength=labels.max() + 1 if len(labels) else 0)
    keep = sizes[labels] >= min(min_triangles, sizes.max())
    mesh.update_faces(keep)
    mesh.remove_unreferenced_vertices()
    return mesh


if __name__ == "__main__":
    from mmcity.utils.cli import run_command

    run_command(main)
