"""Occupancy as a mesh of the faces that can be seen."""

from collections.abc import Sequence

import numpy as np
import trimesh

from mmcity.structures import VoxelGrid

#: Corners of the unit cube's faces, counter-clockwise from outside, by axis and direction.
_FACES = {
    (0, -1): ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)),
    (0, 1): ((1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)),
    (1, -1): ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)),
    (1, 1): ((0, 1, 0), (0, 1, 1), (1, 1, 1), (1, 1, 0)),
    (2, -1): ((0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)),
    (2, 1): ((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)),
}
#: Brightness of faces by axis, so that edges show without light.
_SHADES = {0: 0.82, 1: 0.7, 2: 1.0}


def occupancy_mesh(grid: VoxelGrid, palette: Sequence[Sequence[int]]) -> trimesh.Trimesh:
    """Faces between occupied and free cells, coloured by label.

    Args:
        grid: A single grid with labels.
        palette: RGB per label, 0 to 255.

    Returns:
        Two triangles per face, vertices not shared; empty for a grid without occupied cells.

    Raises:
        ValueError: If the grid has time steps, no labels, or a label without a colour.
    """
    if grid.labels is None or grid.labels.ndim != 3:
        raise ValueError(f"expected a single grid with labels, got {grid}")
    labels = grid.labels.cpu().numpy()
    occupied = grid.occupied.cpu().numpy()
    colors = np.asarray(palette, dtype=np.float64)
    if occupied.any() and int(labels[occupied].max()) >= len(colors):
        raise ValueError(
            f"labels: expected below {len(colors)} colours, got {int(labels[occupied].max())}"
        )
    padded = np.pad(occupied, 1)
    corners, shades = [], []
    for (axis, direction), face in _FACES.items():
        neighbour = np.roll(padded, -direction, axis)[1:-1, 1:-1, 1:-1]
        cells = np.argwhere(occupied & ~neighbour)
        corners.append(cells[:, None] + np.array(face))
        shades.append(colors[labels[tuple(cells.T)]] * _SHADES[axis])
    quads = np.concatenate(corners).astype(np.float64)  # (F, 4, 3) in cells
    origin, size = grid.origin.cpu().double().numpy(), grid.voxel_size.cpu().double().numpy()
    first = np.arange(len(quads))[:, None] * 4
    faces = np.concatenate([first + [0, 1, 2], first + [0, 2, 3]])
    rgb = np.concatenate(shades).round().astype(np.uint8).repeat(4, axis=0)
    return trimesh.Trimesh(
        quads.reshape(-1, 3) * size + origin, faces, vertex_colors=rgb, process=False
    )
