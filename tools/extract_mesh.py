r"""Fuse rendered depth of the training views into a mesh.

    python tools/extract_mesh.py CONFIG CHECKPOINT --voxel-size 0.2 --out mesh.ply \
        [--max-depth 500] [--truth gt/visible_points.ply] [--cfg-options data_root=DIR]

The suffix of ``--out`` chooses the format (ply, obj, glb). With ``--truth`` the F1 score of
the vertices within ``--threshold`` (default: 2 voxels) is printed. ``--region-size`` bounds
memory: the volume holds one cube of the world at a time, and renders wait on disk. Several
processes (torchrun) share out views and cubes.
"""

import argparse
import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import trimesh
from mmengine.dist import barrier
from rich.progress import track

from mmcity.engine import launch
from mmcity.engine.distributed import init_cpu_process_group
from mmcity.engine.scene_loading import load_scene
from mmcity.engine.scene_mesh import DepthStore, fuse_region, regions_of, weld
from mmcity.registry import DATASETS
from mmcity.structures.multi_view import consistent_depth, find_neighbours
from mmcity.utils.cli import UserError, run_command
from mmcity.utils.fileio import atomic_path


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
    parser.add_argument("--region-size", type=float, help="edge of the cubes, world units")
    parser.add_argument("--scratch", type=Path, help="folder for renders; default: temporary")
    parser.add_argument("--truth", type=Path, help="point cloud (ply) to compare with")
    parser.add_argument("--threshold", type=float, help="of the F1 score, world units")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cfg-options", nargs="+", help="KEY=VALUE overrides")
    return parser.parse_args()


@torch.no_grad()
def render_views(model, store: DepthStore, rows: list[int], max_depth: float, min_alpha: float):
    """Put depth (0 = none) and colour of views into the store."""
    device = next(model.parameters()).device
    for row in track(rows, "Rendering depth"):
        view = model.render(store.cameras[row].to(device))
        depth = view["depth"][0, ..., 0]
        good = (view["alpha"][0, ..., 0] > min_alpha) & (depth <= max_depth)
        store.put(row, torch.where(good, depth, 0.0), view["rgb"][0])


class _Infinite:
    """Depth maps of a store, infinite where there is none."""

    def __init__(self, store: DepthStore) -> None:
        self.store = store

    def __getitem__(self, row: int) -> torch.Tensor:
        depth = self.store.depth(row)
        return torch.where(depth > 0, depth, torch.inf)


def filter_views(store: DepthStore, out: DepthStore, rows: list[int], max_angle, max_dis) -> None:
    """Zero depth that fewer than two neighbours agree with, where there are more than two."""
    cameras, infinite = store.cameras, _Infinite(store)
    neighbours = find_neighbours(cameras, 8, max_angle, 0.01, max_dis)
    for row in track(rows, "Comparing depth"):
        depth = store.depth(row)
        if len(neighbours[row]) > 2:
            agreed = consistent_depth(infinite, cameras, row, neighbours[row], min_depth=0.1)
            depth = torch.where(agreed, depth, 0.0)
        out.put(row, depth, store.color(row))


def main() -> None:
    """Render, fuse, clean, write, compare."""
    args = parse_args()
    cfg = launch.load_config(args.config, launch.parse_options(args.cfg_options))
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if size > 1:
        if args.scratch is None:
            raise UserError("several processes need --scratch, a folder that all of them see")
        init_cpu_process_group("pytorch")
    with contextlib.ExitStack() as stack:
        scratch = args.scratch or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mesh, used = fuse_scene(args, cfg, scratch, rank, size)
    if mesh is None:
        return
    if not len(mesh.faces):
        raise UserError("no surface found: check --max-depth, --min-alpha and --voxel-size")
    mesh = largest_parts(mesh, args.min_triangles)
    with atomic_path(args.out) as temporary:
        mesh.export(temporary)
    print(
        f"{args.out}: {len(mesh.vertices)} vertices, {len(mesh.faces)} triangles, "
        f"{used / 1e6:.0f} MB of voxels at a time"
    )
    if args.truth is not None:
        from mmcity.evaluation.functional.point_clouds import f1_score

        truth = np.asarray(trimesh.load(args.truth).vertices)
        score = f1_score(np.asarray(mesh.vertices), truth, args.threshold or 2 * args.voxel_size)
        print(", ".join(f"{name} {value:.3f}" for name, value in score.items()))


def fuse_scene(args, cfg, scratch: Path, rank: int, size: int):
    """Mesh on rank 0 (None elsewhere) and the largest volume of this process, bytes."""
    model = load_scene(args.checkpoint, cfg).to(args.device)
    dataset_cfg = cfg.train_dataloader.dataset
    if "use_neighbours" in dataset_cfg or dataset_cfg.type == "CityGSXDataset":
        dataset_cfg.update(use_neighbours=False, depth_dir=None, mask_dir=None)
    cameras = DATASETS.build(dataset_cfg).cameras
    store = DepthStore(scratch / "views", cameras)
    rows = list(range(len(cameras)))[rank::size]
    render_views(model, store, rows, args.max_depth, args.min_alpha)
    barrier()
    if args.use_depth_filter:
        filtered = DepthStore(scratch / "filtered", cameras)
        filter_views(store, filtered, rows, args.max_angle, args.max_dis)
        store = filtered
        barrier()
    boxes = [None] if args.region_size is None else regions_of(store, args.region_size)
    parts, used = [], 0
    for number in track(range(rank, len(boxes), size), "Fusing"):
        *part, memory = fuse_region(store, args.voxel_size, boxes[number], args.max_depth)
        np.savez(scratch / f"part{number}.npz", *part)
        used = max(used, memory)
    barrier()
    if rank:
        return None, used
    for number in range(len(boxes)):
        with np.load(scratch / f"part{number}.npz") as part:
            parts.append([part[name] for name in part.files])
    vertices, faces, colors = weld(parts, 1e-3 * args.voxel_size)
    return trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False), used


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
