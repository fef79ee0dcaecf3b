"""Mesh of a scene, fused from the rendered depth of its training views."""

import contextlib
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh
from mmengine.config import Config
from mmengine.dist import barrier
from rich.progress import track

from mmcity.engine.distributed import (
    init_cpu_process_group,
    launched_processes,
    lost_processes_told,
)
from mmcity.engine.launch import load_config
from mmcity.engine.scene_loading import build_views
from mmcity.engine.scene_mesh import DepthStore, fuse_region, regions_of, weld
from mmcity.evaluation.functional.point_clouds import f1_score
from mmcity.structures import stamp_frame
from mmcity.structures.io.mesh_files import write_mesh
from mmcity.structures.multi_view import consistent_depth, find_neighbours
from mmcity.utils.cli import UserError
from mmcity.utils.device import device_at_hand
from mmcity.utils.fileio import atomic_path

from .scene_renderer import SceneRenderer
from .scores import world_vertices

#: Voxels over the usual distance between cameras and what they see, where no size is given.
_VOXELS_PER_DEPTH = 150
#: Farthest depth there, of that distance; views that are looked at for it.
_MOST_DEPTHS, _VIEWS_FOR_DEPTH = 3.0, 16


@dataclass(frozen=True)
class ExtractedMesh:
    """A mesh that was written.

    Attributes:
        path: The file.
        vertices: Number of them.
        triangles: Number of them.
        voxel_size: Edge of the voxels, world units.
        voxel_bytes: Memory of the largest volume that was held at a time.
        scores: ``precision``, ``recall`` and ``f1`` against the true cloud, empty without one.
    """

    path: Path
    vertices: int
    triangles: int
    voxel_size: float
    voxel_bytes: int
    scores: dict[str, float]


@lost_processes_told("extraction of a mesh")
def extract_mesh(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike = "mesh.ply",
    *,
    voxel_size: float | None = None,
    max_depth: float | None = None,
    min_alpha: float = 0.5,
    use_depth_filter: bool = False,
    max_angle: float = 30.0,
    max_dis: float = 1.5,
    min_triangles: int = 1000,
    region_size: float | None = None,
    scratch: str | os.PathLike | None = None,
    truth: str | os.PathLike | None = None,
    threshold: float | None = None,
    device: str | None = None,
    cfg_options: Mapping[str, object] | None = None,
) -> ExtractedMesh | None:
    """Render the depth of the training views, fuse it and write the surface.

    Several processes (torchrun) share out views and regions. Vertices are in the frame of the
    scene, which a comment of a ``.ply`` file tells, the extras of a ``.glb`` file, or a file
    ``.frame.json`` beside any other.

    Args:
        config: Config of the scene.
        checkpoint: Its checkpoint, whole or in parts.
        out: Target, ``.ply``, ``.obj`` or ``.glb``. Defaults to ``mesh.ply``.
        voxel_size: World units. Defaults to None: a 150th of the usual distance between
            cameras and what they show.
        max_depth: Farther depth is left out, world units. Defaults to None: no limit beside a
            given voxel size, else three times that distance.
        min_alpha: Opacity that a pixel needs. Defaults to 0.5.
        use_depth_filter: Drop depth that no two neighbours agree with. Defaults to False.
        max_angle: Of neighbours, degrees. Defaults to 30.
        max_dis: Of neighbours, world units. Defaults to 1.5.
        min_triangles: Smaller connected parts are dropped. Defaults to 1000.
        region_size: Edge of the cubes that are fused one at a time, world units; it bounds the
            memory. Defaults to None: all at once.
        scratch: Folder for renders, which several processes have to share. Defaults to a
            temporary one.
        truth: Cloud to score the vertices against. Defaults to None.
        threshold: Of the scores, world units. Defaults to 2 voxels.
        device: Defaults to CUDA where it is, else the CPU.
        cfg_options: Dotted keys of the config and their values. Defaults to None.

    Returns:
        What was written; None on all processes but the first.

    Raises:
        UserError: If no surface was found, or several processes have no ``scratch``.
    """
    cfg = load_config(config, cfg_options)
    rank, size = launched_processes()
    if size > 1:
        if scratch is None:
            raise UserError("--scratch: expected a folder that all processes see, got none")
        init_cpu_process_group("pytorch")
    with contextlib.ExitStack() as stack:
        folder = Path(scratch or stack.enter_context(tempfile.TemporaryDirectory()))
        renderer = SceneRenderer(cfg, checkpoint, device)
        frame = renderer.frame
        if voxel_size is None:
            usual = _usual_depth(cfg, renderer, min_alpha)
            voxel_size = usual / _VOXELS_PER_DEPTH
            max_depth = _MOST_DEPTHS * usual if max_depth is None else max_depth
        elif max_depth is None:
            max_depth = math.inf
        store = _render_depth(cfg, renderer, folder / "views", max_depth, min_alpha)
        del renderer  # fusing needs the memory
        if use_depth_filter:
            store = _filter_depth(store, folder / "filtered", max_angle, max_dis)
        boxes = [None] if region_size is None else regions_of(store, region_size)
        used = 0
        for number in track(range(rank, len(boxes), size), "Fusing"):
            *part, memory = fuse_region(
                store, voxel_size, boxes[number], max_depth, device=device_at_hand(device)
            )
            with atomic_path(folder / f"part{number}.npz") as temporary:
                np.savez(temporary, *part)
            used = max(used, memory)
        barrier()
        if rank:
            return None
        parts = []
        for number in range(len(boxes)):
            with np.load(folder / f"part{number}.npz") as file:
                parts.append(tuple(file[name] for name in file.files))
    vertices, faces, colors = weld(parts, 1e-3 * voxel_size)
    if not len(faces):
        raise UserError(
            "mesh: expected a surface, got none: check --max-depth, --min-alpha and --voxel-size"
        )
    mesh = trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False)
    _drop_small_parts(mesh, min_triangles)
    with atomic_path(out) as temporary:
        write_mesh(mesh, temporary)
        stamp_frame(temporary, out, frame)
    scores = {}
    if truth is not None:
        points = frame.scene_to_world(mesh.vertices)
        scores = f1_score(points, world_vertices(truth), threshold or 2 * voxel_size)
    return ExtractedMesh(Path(out), len(mesh.vertices), len(mesh.faces), voxel_size, used, scores)


def _usual_depth(cfg: Config, renderer: SceneRenderer, min_alpha: float) -> float:
    """Median depth of training views spread over the scene, world units."""
    cameras = build_views(cfg, "train", renderer.model).cameras
    rows = range(0, len(cameras), max(len(cameras) // _VIEWS_FOR_DEPTH, 1))
    views = (next(renderer.iterate(cameras[row])) for row in rows)
    depths = torch.cat([view["depth"][view["alpha"] > min_alpha] for view in views])
    if not len(depths):
        raise UserError("mesh: expected a surface, got none: check --min-alpha")
    return float(depths.median())


def _render_depth(
    cfg: Config,
    renderer: SceneRenderer,
    folder: Path,
    max_depth: float,
    min_alpha: float,
) -> DepthStore:
    """Depth (0 = none) and colour of the training views."""
    store = DepthStore(folder, build_views(cfg, "train", renderer.model).cameras)
    rank, size = launched_processes()
    for row in track(range(rank, len(store), size), "Rendering depth"):
        view = next(renderer.iterate(store.cameras[row]))
        good = (view["alpha"] > min_alpha) & (view["depth"] <= max_depth)
        store.put(row, torch.where(good, view["depth"], 0.0), view["rgb"].permute(1, 2, 0))
    barrier()
    return store


class _Infinite:
    """Depth maps of a store, infinite where there is none."""

    def __init__(self, store: DepthStore) -> None:
        self.store = store

    def __getitem__(self, row: int) -> torch.Tensor:
        depth = self.store.depth(row)
        return torch.where(depth > 0, depth, torch.inf)


def _filter_depth(store: DepthStore, folder: Path, max_angle: float, max_dis: float) -> DepthStore:
    """Zero depth that fewer than two neighbours agree with, where there are more than two."""
    filtered, infinite = DepthStore(folder, store.cameras), _Infinite(store)
    neighbours = find_neighbours(store.cameras, 8, max_angle, 0.01, max_dis)
    rank, size = launched_processes()
    for row in track(range(rank, len(store), size), "Comparing depth"):
        depth = store.depth(row)
        if len(neighbours[row]) > 2:
            agreed = consistent_depth(infinite, store.cameras, row, neighbours[row], min_depth=0.1)
            depth = torch.where(agreed, depth, 0.0)
        filtered.put(row, depth, store.color(row))
    barrier()
    return filtered


def _drop_small_parts(mesh: trimesh.Trimesh, min_triangles: int) -> None:
    """Drop connected parts of fewer triangles, loose vertices and empty faces."""
    mesh.update_faces(mesh.nondegenerate_faces())
    labels = trimesh.graph.connected_component_labels(mesh.face_adjacency, len(mesh.faces))
    sizes = np.bincount(labels, minlength=labels.max() + 1 if len(labels) else 0)
    mesh.update_faces(sizes[labels] >= min(min_triangles, sizes.max()))
    mesh.remove_unreferenced_vertices()
