"""Meshes of scenes larger than memory: views on disk, volumes of one region at a time."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmcity.structures import Cameras
from mmcity.utils.fileio import write_npy
from mmcity_ops import TSDFVolume, tsdf_integrate

Box = tuple[np.ndarray, np.ndarray]  # lower and upper corner, world units


class DepthStore:
    """Depth and colour of the views of a scene, in files that are mapped when read.

    Args:
        folder: Where the files go.
        cameras: One per view.
    """

    def __init__(self, folder: Path, cameras: Cameras) -> None:
        self.folder, self.cameras = Path(folder), cameras
        self.folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self.cameras)

    def _paths(self, row: int) -> tuple[Path, Path]:
        return self.folder / f"{row:06d}.depth.npy", self.folder / f"{row:06d}.color.npy"

    def put(self, row: int, depth: Tensor, color: Tensor) -> None:
        """Keep depth (H, W), 0 for none, and colour (H, W, 3) in [0, 1]."""
        depth_path, color_path = self._paths(row)
        write_npy(depth_path, depth.float().cpu().numpy())
        write_npy(color_path, (color.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())

    def depth(self, row: int) -> Tensor:
        """(H, W) of a view."""
        return torch.from_numpy(np.array(np.load(self._paths(row)[0], mmap_mode="r")))

    def color(self, row: int) -> Tensor:
        """(H, W, 3) in [0, 1] of a view."""
        return torch.from_numpy(np.array(np.load(self._paths(row)[1], mmap_mode="r"))) / 255

    def points(self, row: int) -> tuple[Tensor, Tensor]:
        """World points (H, W, 3) of a view, and its depth (H, W)."""
        depth = self.depth(row)
        camera = self.cameras[row]
        points = camera.unproject(camera.pixel_grid().flatten(0, 1), depth.flatten())[0]
        return points.view(*depth.shape, 3), depth


def regions_of(store: DepthStore, size: float) -> list[Box]:
    """Cubes with edges of ``size`` on a fixed grid that hold all surface, in a fixed order."""
    found: set[tuple[int, ...]] = set()
    for row in range(len(store)):
        points, depth = store.points(row)
        cells = torch.floor(points[depth > 0] / size).long().unique(dim=0)
        found.update(map(tuple, cells.tolist()))
    return [(np.array(cell) * size, (np.array(cell) + 1) * size) for cell in sorted(found)]


def fuse_region(
    store: DepthStore,
    voxel_size: float,
    box: Box | None = None,
    max_depth: float = math.inf,
    trunc_voxels: float = 4.0,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Surface within a box, as fusing the whole scene would give it there.

    Args:
        store: The views.
        voxel_size: World units.
        box: Half-open. Defaults to None: everything.
        max_depth: Farther depth is left out, world units. Defaults to no limit.
        trunc_voxels: Truncation distance in voxels. Defaults to 4.
        device: Of the volume. Defaults to ``cpu``.

    Returns:
        Vertices (V, 3), triangles (F, 3), colours (V, 3) uint8, and bytes of the volume.
    """
    trunc = trunc_voxels * voxel_size
    volume = TSDFVolume((0.0, 0.0, 0.0), voxel_size, trunc=trunc, device=device)
    margin = trunc + 10 * voxel_size  # a block beyond, so that cells at the border are whole
    for row, mask in _surface_near(store, box, margin):
        camera = store.cameras[row]
        volume.allocate(store.depth(row), camera.Ks[0], camera.viewmats[0], max_depth, mask)
    if not volume.n_blocks:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros((0, 3), np.uint8), 0
    # All views: those that see through a block carve in it.
    for row in range(len(store)):
        camera = store.cameras[row]
        tsdf_integrate(
            volume.tsdf,
            volume.weight,
            volume.color,
            store.depth(row),
            store.color(row),
            camera.Ks[0],
            camera.viewmats[0],
            origin=volume.origin,
            voxel_size=voxel_size,
            trunc=trunc,
            max_depth=max_depth,
            blocks=volume.blocks,
        )
    vertices, faces, shades = volume.extract_mesh()
    vertices, faces = vertices.cpu().numpy(), faces.cpu().numpy().astype(np.int64)
    colors = (shades.clamp(0, 1) * 255).byte().cpu().numpy()
    if box is not None and len(faces):
        centres = vertices[faces].mean(1)
        faces = faces[((centres >= box[0]) & (centres < box[1])).all(1)]
        used, inverse = np.unique(faces, return_inverse=True)
        vertices, colors, faces = vertices[used], colors[used], inverse.reshape(-1, 3)
    return vertices, faces, colors, volume.memory_bytes


def _surface_near(store: DepthStore, box: Box | None, margin: float) -> Iterator:
    """Rows of views that show surface near a box, and which pixels do."""
    for row in range(len(store)):
        if box is None:
            yield row, None
            continue
        points, depth = store.points(row)
        low, high = (torch.from_numpy(corner).to(points) for corner in box)
        mask = (depth > 0) & ((points >= low - margin) & (points < high + margin)).all(-1)
        if bool(mask.any()):
            yield row, mask


def weld(
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One mesh from those of neighbouring boxes: vertices closer than ``tolerance`` are one."""
    starts = np.cumsum([0, *(len(vertices) for vertices, *_ in parts)])
    vertices = np.concatenate([part[0] for part in parts])
    faces = np.concatenate([part[1] + start for part, start in zip(parts, starts)])
    colors = np.concatenate([part[2] for part in parts])
    keys = np.round(vertices / tolerance).astype(np.int64)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    faces = inverse.reshape(-1)[faces]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2])
    whole &= faces[:, 2] != faces[:, 0]
    return vertices[first], faces[whole], colors[first]
