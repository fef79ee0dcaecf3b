"""Exact semantic occupancy of a toy town on a regular grid."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmcity.structures import geometry
from mmcity.toytown.sensors.renderer import Body, Renderer
from mmcity.toytown.world.meshes import SurfaceMesh
from mmcity.toytown.world.taxonomy import WorldClass

#: Classes whose closed parts are solid.
_SOLID = (
    WorldClass.BUILDING,
    WorldClass.TRUNK,
    WorldClass.CAR,
    WorldClass.TRUCK,
    WorldClass.BUS,
    WorldClass.TRAILER,
    WorldClass.CONSTRUCTION_VEHICLE,
    WorldClass.VEGETATION,
)


_IS_SOLID = np.zeros(256, dtype=bool)
_IS_SOLID[list(_SOLID)] = True

#: Of the four level rays, how many must meet the thing that lies above: rays that slip
#: through an open door or between the meshes of two wings must not hollow a building out.
_LEVEL_HITS = 3

#: Factor on the area of the carriageway when the largest share of a voxel is sought.
_ROAD_SHARE = 0.8


def is_solid(cls: np.ndarray) -> np.ndarray:
    """Whether things of world classes are filled inside, bool."""
    return _IS_SOLID[cls]


@dataclass(frozen=True)
class Grid:
    """A regular grid in a frame of its own.

    Attributes:
        grid_to_world: (4, 4) pose of the frame, for example of the ego vehicle.
        low: (3,) lower corner in that frame, metres.
        voxel_size: (3,) metres.
        shape: Voxels along x, y, z.
    """

    grid_to_world: np.ndarray
    low: tuple[float, float, float]
    voxel_size: tuple[float, float, float]
    shape: tuple[int, int, int]

    def centers(self) -> np.ndarray:
        """(X, Y, Z, 3) world positions of the voxel centres."""
        index = np.stack(np.meshgrid(*[np.arange(n) for n in self.shape], indexing="ij"), axis=-1)
        local = np.asarray(self.low) + (index + 0.5) * np.asarray(self.voxel_size)
        return local @ self.grid_to_world[:3, :3].T + self.grid_to_world[:3, 3]


def _split(triangles: np.ndarray, labels: np.ndarray, axis: int, size: int) -> tuple:
    """Cut triangles (N, 3, 3), in voxel units, at the planes 0..size of an axis."""
    done, done_labels = [], []
    while len(triangles):
        x = triangles[:, :, axis]
        first = np.maximum(np.floor(x.min(1) + 1e-9) + 1, 0)
        last = np.minimum(np.ceil(x.max(1) - 1e-9) - 1, size)
        cut = last >= first
        done.append(triangles[~cut])
        done_labels.append(labels[~cut])
        triangles, labels = triangles[cut], labels[cut]
        if not len(triangles):
            break
        # The middle plane halves long triangles, so that rounds grow with the logarithm.
        plane = np.floor(0.5 * (first + last))[cut]
        side = triangles[:, :, axis] > plane[:, None]
        # Put the vertex that is alone on its side first.
        lone = np.where(
            side.sum(1) == 1, side.argmax(1), np.where(side.sum(1) == 2, (~side).argmax(1), 0)
        )
        order = (lone[:, None] + np.arange(3)) % 3
        a, b, c = np.take_along_axis(triangles, order[..., None], axis=1).transpose(1, 0, 2)
        xa, xb, xc = a[:, axis], b[:, axis], c[:, axis]
        with np.errstate(divide="ignore", invalid="ignore"):
            tb = np.clip(np.nan_to_num((plane - xa) / (xb - xa)), 0, 1)[:, None]
            tc = np.clip(np.nan_to_num((plane - xa) / (xc - xa)), 0, 1)[:, None]
        ab, ac = a + tb * (b - a), a + tc * (c - a)
        ab[:, axis] = plane
        ac[:, axis] = plane
        pieces = np.concatenate(
            [np.stack(p, axis=1) for p in ((a, ab, ac), (ab, b, c), (ab, c, ac))]
        )
        labels = np.concatenate([labels] * 3)
        flat = np.ptp(pieces[:, :, axis], axis=1) <= 1e-12
        area = np.linalg.norm(
            np.cross(pieces[:, 1] - pieces[:, 0], pieces[:, 2] - pieces[:, 0]), axis=1
        )
        keep = ~(flat & (area <= 1e-15)) & (area > 1e-15)
        triangles, labels = pieces[keep], labels[keep]
    if not done:
        return triangles, labels
    return np.concatenate(done), np.concatenate(done_labels)


def surface_shares(
    meshes: list[tuple[SurfaceMesh, np.ndarray]], grid: Grid
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area of each class in each voxel that a surface passes through.

    Triangles are cut at the planes of the grid, so the areas are exact.

    Args:
        meshes: Meshes with their poses (4, 4) to world.
        grid: The grid.

    Returns:
        tuple: flat voxel index (K,) int64, class (K,) uint8, area (K,) float64 in square
        voxel units; one row per pair that occurs, sorted.
    """
    world_to_grid = geometry.se3_inverse(np.asarray(grid.grid_to_world, dtype=np.float64))
    parts, classes = [], []
    for mesh, pose in meshes:
        joint = world_to_grid @ pose
        vertices = mesh.vertices @ joint[:3, :3].T + joint[:3, 3]
        vertices = (vertices - np.asarray(grid.low)) / np.asarray(grid.voxel_size)
        parts.append(vertices[mesh.faces])
        classes.append(mesh.cls[mesh.face_surface])
    triangles, labels = np.concatenate(parts), np.concatenate(classes)
    near = ((triangles.max(1) > 0) & (triangles.min(1) < grid.shape)).all(1)
    triangles, labels = triangles[near], labels[near]
    for axis in range(3):
        triangles, labels = _split(triangles, labels, axis, grid.shape[axis])
        # Pieces are dropped as soon as they are known to lie outside.
        x = triangles[:, :, axis]
        near = (x.max(1) > 0) & (x.min(1) < grid.shape[axis])
        triangles, labels = triangles[near], labels[near]
    index = np.floor(triangles.mean(1)).astype(np.int64)
    inside = ((index >= 0) & (index < grid.shape)).all(1)
    area = 0.5 * np.linalg.norm(
        np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1
    )
    flat = np.ravel_multi_index(tuple(index[inside].T), grid.shape)
    key = flat * len(WorldClass) + labels[inside]
    pairs, rows = np.unique(key, return_inverse=True)
    total = np.bincount(rows, weights=area[inside], minlength=len(pairs))
    return pairs // len(WorldClass), (pairs % len(WorldClass)).astype(np.uint8), total


def label_by_share(cells: int, voxel: np.ndarray, cls: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Class of the largest area of each of ``cells`` voxels, (cells,) uint8, 0 without any."""
    out = np.zeros(cells, dtype=np.uint8)
    # The carriageway runs on under yards and sidewalks; what lies on it is what is seen.
    area = np.where(cls == WorldClass.ROAD, _ROAD_SHARE * area, area)
    order = np.argsort(area, kind="stable")  # the largest share is written last
    out[voxel[order]] = cls[order]
    return out


def voxelize(renderer: Renderer, grid: Grid, bodies: list[Body] | None = None) -> np.ndarray:
    """World class of each voxel.

    A voxel is occupied if a surface passes through it, with the class of the largest area,
    or if its centre lies inside a closed part of a solid thing.

    Args:
        renderer: Holds the static city; its bodies are set to ``bodies``.
        grid: The grid.
        bodies: Moving parts. Defaults to none.

    Returns:
        np.ndarray: ``grid.shape`` uint8, 0 is free.
    """
    bodies = bodies or []
    renderer.set_bodies(bodies)
    meshes = [(renderer.world.mesh, np.eye(4))] + [(b.mesh, b.pose) for b in bodies]
    voxel, cls, area = surface_shares(meshes, grid)
    out = label_by_share(int(np.prod(grid.shape)), voxel, cls, area)
    free = np.flatnonzero(out == 0)

    def cast(origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hits = renderer.trace(origins, directions)
        return renderer.class_of(hits), renderer.instance_of(hits)

    inside, inner_class = solid_points(cast, grid.centers().reshape(-1, 3)[free])
    out[free[inside]] = inner_class[inside]
    return out.reshape(grid.shape)


def solid_points(
    cast: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mask of the points inside a solid thing: above and around them is the same instance.

    Args:
        cast: Class and instance (N,) that rays of origins and directions (N, 3) meet first,
            0 for none.
        points: (N, 3) world.

    Returns:
        tuple: inside (N,) bool, and the class (N,) uint8 above each point.
    """

    def look(rows: np.ndarray, direction: tuple) -> tuple[np.ndarray, np.ndarray]:
        ray = np.broadcast_to(np.array(direction, dtype=np.float64), (len(rows), 3))
        kind, instance = cast(points[rows], ray)
        return np.where(is_solid(kind), instance, 0), kind

    above, cls = look(np.arange(len(points)), (0, 0, 1))
    rows = np.flatnonzero(above > 0)
    level = np.zeros(len(rows), dtype=np.int64)
    for direction in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)):
        level += look(rows, direction)[0] == above[rows]
    inside = np.zeros(len(points), dtype=bool)
    inside[rows] = level >= _LEVEL_HITS
    return inside, cls
