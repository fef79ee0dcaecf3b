"""Occupancy of many grids of one town: what stands still is cut into voxels once."""

import numpy as np

from mmcity.structures import geometry
from mmcity.toytown.sensors.raycast import make_caster
from mmcity.toytown.sensors.renderer import Body, Renderer
from mmcity.toytown.truth.occupancy import (
    Grid,
    is_solid,
    label_by_share,
    solid_points,
    surface_shares,
)
from mmcity.toytown.world.taxonomy import WorldClass

#: Samples of a surface lie a fifth of a voxel apart.
_FINE = 5
#: Voxels along the edge of a tile.
_TILE = 24
#: Longest edge, in voxels, of the triangles that are sampled.
_LONGEST = 16.0
#: Extra height of tiles above and below what is asked for, metres.
_MARGIN = 0.5


class TownRays:
    """Closest hits in a town with its moving parts, without what only pictures need.

    Distances are those to the planes of the triangles (float64), as ``Renderer.trace`` gives.

    Args:
        renderer: Holds the static city.
    """

    def __init__(self, renderer: Renderer) -> None:
        mesh = renderer.world.mesh
        self._caster = renderer.static_caster
        self._static = _FaceTable.of([(mesh, np.eye(4))])
        self._bodies: _FaceTable | None = None

    def set_bodies(self, bodies: list[Body]) -> None:
        """Place the moving parts."""
        self._bodies = None
        if bodies:
            self._bodies = _FaceTable.of([(b.mesh, b.pose) for b in bodies])
            self._body_caster = make_caster([(self._bodies.vertices, self._bodies.faces)])

    def cast(
        self, origins: np.ndarray, directions: np.ndarray, with_bodies: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First hits of unit rays (N, 3): distance (inf for none), class and instance (0)."""
        face, distance, _, _ = self._caster.hit(origins, directions)
        result = self._static.look_up(face, distance, origins, directions)
        if with_bodies and self._bodies is not None:
            face, other, _, _ = self._body_caster.hit(origins, directions)
            rows = np.flatnonzero(other < distance)
            closer = self._bodies.look_up(face[rows], other[rows], origins[rows], directions[rows])
            for whole, part in zip(result, closer):
                whole[rows] = part
        return result


class _FaceTable:
    """Planes, classes and instances of the triangles of placed meshes."""

    def __init__(self, vertices, faces, cls, instance) -> None:
        self.vertices, self.faces, self.cls, self.instance = vertices, faces, cls, instance
        a, b, c = vertices[faces].transpose(1, 0, 2)
        normal = np.cross(b - a, c - a)
        self._normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
        self._offset = (self._normal * a).sum(1)

    @classmethod
    def of(cls, placed: list) -> "_FaceTable":
        starts = np.cumsum([0] + [len(mesh.vertices) for mesh, _ in placed])
        return cls(
            np.concatenate([m.vertices @ p[:3, :3].T + p[:3, 3] for m, p in placed]),
            np.concatenate([m.faces + s for (m, _), s in zip(placed, starts)]).astype(np.int32),
            np.concatenate([m.cls[m.face_surface] for m, _ in placed]),
            np.concatenate([m.instance[m.face_surface] for m, _ in placed]),
        )

    def look_up(self, face, distance, origins, directions) -> tuple:
        found = face >= 0
        face = np.where(found, face, 0)
        normal = self._normal[face]
        along = (normal * directions).sum(1)
        exact = (self._offset[face] - (normal * origins).sum(1)) / np.where(
            np.abs(along) < 1e-9, 1e-9, along
        )
        # At grazing angles the plane is badly conditioned; there the ray's own answer stands.
        limit = np.where(found, distance, 0.0)
        exact = np.where(np.abs(exact - limit) < 1e-3 * (1 + limit), exact, limit)
        return (
            np.where(found, exact, np.inf),
            np.where(found, self.cls[face], 0),
            np.where(found, self.instance[face], 0),
        )


class OccupancyMap:
    """Semantic occupancy of one town on grids of one voxel size, wherever they lie.

    The surfaces of the static city become points a fifth of a voxel apart, each with its
    share of the area, in tiles that are made when a grid first needs them; moving parts are
    cut exactly. Against ``voxelize``, which cuts everything at the planes of the grid, only
    voxels differ that a surface enters by less than a tenth of their width or in which two
    classes have nearly equal shares.

    Args:
        renderer: Holds the static city.
        voxel_size: (3,) metres; x and y equal, since grids are turned about z.

    Raises:
        ValueError: If x and y differ.
    """

    def __init__(self, renderer: Renderer, voxel_size: tuple[float, float, float]) -> None:
        if voxel_size[0] != voxel_size[1]:
            raise ValueError(f"voxel_size: expected voxels as wide as long, got {voxel_size}")
        self.rays = TownRays(renderer)
        self._size = np.asarray(voxel_size, dtype=np.float64)
        self._edge = _TILE * voxel_size[0]
        self._heights: tuple[float, float] | None = None
        self._tiles: dict[tuple[int, int], _Tile] = {}
        mesh = renderer.world.mesh
        self._corners = mesh.vertices[mesh.faces]
        self._face_class = mesh.cls[mesh.face_surface]
        self._face_low, self._face_high = self._corners.min(1), self._corners.max(1)
        self._strips: dict[int, np.ndarray] = {}

    def voxelize(self, grid: Grid, bodies: list[Body] | None = None) -> np.ndarray:
        """World class of each voxel, ``grid.shape`` uint8, 0 is free.

        Args:
            grid: Voxels of the map's size; the frame is upright.
            bodies: Moving parts. Defaults to none.

        Raises:
            ValueError: If the voxel size is another or the grid leans.
        """
        self._check(grid)
        bodies = _near(bodies or [], grid)
        self.rays.set_bodies(bodies)
        cells = int(np.prod(grid.shape))
        tiles = self._tiles_under(grid)
        keys, areas = self._static_areas(grid, tiles)
        if bodies:
            voxel, cls, area = surface_shares([(b.mesh, b.pose) for b in bodies], grid)
            keys.append(voxel * len(WorldClass) + cls)
            areas.append(area)
        pair, rows = np.unique(np.concatenate(keys), return_inverse=True)
        voxel, cls = np.divmod(pair, len(WorldClass))
        out = label_by_share(cells, voxel, cls, np.bincount(rows, np.concatenate(areas)))
        free = np.flatnonzero(out == 0)
        centers = grid.centers().reshape(-1, 3)[free]
        out[free] = self._static_solid(centers, tiles)
        if bodies:
            rows = (out[free] == 0) & _around(bodies, grid)[free]
            inside, cls = solid_points(lambda o, d: self.rays.cast(o, d)[1:], centers[rows])
            out[free[rows][inside]] = cls[inside]
        return out.reshape(grid.shape)

    def _check(self, grid: Grid) -> None:
        if not np.allclose(grid.voxel_size, self._size):
            raise ValueError(
                f"grid: expected voxels of {self._size} as in this map, got {grid.voxel_size}"
            )
        if not np.allclose(np.asarray(grid.grid_to_world)[2, :3], (0, 0, 1), atol=1e-6):
            raise ValueError("grid: expected an upright frame, got another: use `voxelize`")

    def _tiles_under(self, grid: Grid) -> list["_Tile"]:
        bottom = grid.grid_to_world[2, 3] + grid.low[2]
        top = bottom + grid.shape[2] * self._size[2]
        known = self._heights
        if known is None or bottom < known[0] or top > known[1]:
            low = bottom if known is None else min(bottom, known[0])
            high = top if known is None else max(top, known[1])
            self._heights = (low - _MARGIN, high + _MARGIN)
            self._tiles.clear()
        half = np.asarray(grid.shape[:2]) * self._size[:2] / 2
        rotation = np.asarray(grid.grid_to_world)[:2, :2]
        middle = rotation @ (np.asarray(grid.low[:2]) + half) + grid.grid_to_world[:2, 3]
        reach = np.abs(rotation) @ half
        first = np.floor((middle - reach) / self._edge).astype(int)
        last = np.floor((middle + reach) / self._edge).astype(int)
        # Corners of the bounding rectangle that the turned grid does not reach are left out.
        slack = self._edge / 2 * np.abs(rotation).sum(0)
        tiles = []
        for i in range(first[0], last[0] + 1):
            for j in range(first[1], last[1] + 1):
                offset = rotation.T @ ((np.array([i, j]) + 0.5) * self._edge - middle)
                if (np.abs(offset) <= half + slack).all():
                    if (i, j) not in self._tiles:
                        self._tiles[i, j] = self._make_tile(i, j)
                    tiles.append(self._tiles[i, j])
        return tiles

    def _make_tile(self, i: int, j: int) -> "_Tile":
        low = np.array([i * self._edge, j * self._edge, self._heights[0]])
        layers = int(np.ceil((self._heights[1] - self._heights[0]) / self._size[2]))
        shape = np.array([_TILE, _TILE, layers])
        high = low + shape * self._size
        over = self._faces_over(i, low, high)
        near = over[self._face_low[over, 2] <= high[2]]
        triangles = (self._corners[near] - low) / self._size  # (N, 3, 3) in voxels
        point, row, area = sample_triangles(triangles, shape, 1.0 / _FINE)
        cls = self._face_class[near][row]
        # Whether a thing is solid need only be known half a voxel apart: nearer to its
        # surface, the surface itself fills the voxel.
        half = Grid(np.eye(4), tuple(low), tuple(self._size / 2), tuple(2 * shape))
        solid = np.zeros(half.shape, dtype=np.uint8)
        lids = over[is_solid(self._face_class[over])]
        below = _below((self._corners[lids] - low) / self._size * 2, half.shape)
        inside, kind = solid_points(
            lambda o, d: self.rays.cast(o, d, with_bodies=False)[1:], half.centers()[below]
        )
        solid[below] = np.where(inside, kind, 0)
        return _Tile((i, j), point * self._size + low, cls, area, solid)

    def _faces_over(self, i: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Rows of the faces in or above the box of a tile, which is in the ``i``-th strip."""
        if i not in self._strips:
            touches = (self._face_high[:, 0] >= low[0]) & (self._face_low[:, 0] <= high[0])
            self._strips[i] = np.flatnonzero(touches)
        rows = self._strips[i]
        near = (self._face_high[rows, 1] >= low[1]) & (self._face_low[rows, 1] <= high[1])
        return rows[near & (self._face_high[rows, 2] >= low[2])]

    def _static_areas(self, grid: Grid, tiles: list["_Tile"]) -> tuple[list, list]:
        """Per tile: voxels times classes plus class (K,), and the area (K,) of each."""
        keys, areas = [], []
        matrix = np.asarray(grid.grid_to_world)
        for tile in tiles:
            index = (tile.point - matrix[:3, 3]) @ matrix[:3, :3]
            index = np.floor((index - grid.low) / self._size).astype(np.int64)
            inside = ((index >= 0) & (index < grid.shape)).all(1)
            i, j, k = index[inside].T
            key = (i * grid.shape[1] + j) * grid.shape[2] + k
            key = key * len(WorldClass) + tile.cls[inside]
            pairs, rows = np.unique(key, return_inverse=True)
            keys.append(pairs)
            areas.append(np.bincount(rows, tile.area[inside]))
        return keys, areas

    def _static_solid(self, points: np.ndarray, tiles: list["_Tile"]) -> np.ndarray:
        """Class of the solid thing around each point (N, 3), 0 where there is none."""
        first = np.min([t.key for t in tiles], axis=0)
        count = np.max([t.key for t in tiles], axis=0) - first + 1
        side, _, layers = tiles[0].solid.shape
        joint = np.zeros((count[0] * side, count[1] * side, layers), dtype=np.uint8)
        for tile in tiles:
            x, y = (np.array(tile.key) - first) * side
            joint[x : x + side, y : y + side] = tile.solid
        low = np.array([*(first * self._edge), self._heights[0]])
        index = np.floor((points - low) / (self._size / 2)).astype(np.int64)
        i, j, k = np.clip(index, 0, np.array(joint.shape) - 1).T
        return joint[i, j, k]


def sample_triangles(
    triangles: np.ndarray, size: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points on triangles, in rows along the longest edge, that share out the area.

    Args:
        triangles: (N, 3, 3).
        size: (3,) what lies outside of the box [0, size) is left out.
        spacing: Distance of rows, and of points in a row, at most.

    Returns:
        tuple: points (K, 3), row of the triangle (K,), area (K,).
    """
    source = np.arange(len(triangles))
    small, small_source = [], []
    while len(triangles):
        edges = np.linalg.norm(triangles - np.roll(triangles, -1, axis=1), axis=2)
        done = edges.max(1) <= _LONGEST
        small.append(triangles[done])
        small_source.append(source[done])
        a, b, c = triangles[~done].transpose(1, 0, 2)
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        quarters = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
        triangles = np.concatenate([np.stack(q, axis=1) for q in quarters])
        source = np.tile(source[~done], 4)
        near = ((triangles.max(1) >= 0) & (triangles.min(1) < size)).all(1)
        triangles, source = triangles[near], source[near]
    if not small:
        return np.zeros((0, 3)), np.zeros(0, dtype=np.int64), np.zeros(0)
    triangles, source = np.concatenate(small), np.concatenate(small_source)
    edges = np.linalg.norm(triangles - np.roll(triangles, -1, axis=1), axis=2)
    order = (edges.argmax(1)[:, None] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(triangles, order[..., None], axis=1).transpose(1, 0, 2)
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    keep = area > 1e-15
    a, b, c, area, source = a[keep], b[keep], c[keep], area[keep], source[keep]
    base = edges[keep].max(1)
    rows = np.maximum(np.ceil(2 * area / base / spacing).astype(np.int64), 1)
    triangle, number = _enumerate(rows)
    rise = (number + 0.5) / rows[triangle]  # towards the corner opposite the longest edge
    strip = area[triangle] * 2 * (1 - rise) / rows[triangle]
    count = np.maximum(np.ceil((1 - rise) * base[triangle] / spacing).astype(np.int64), 1)
    row, number = _enumerate(count)
    triangle, rise = triangle[row], rise[row][:, None]
    along = ((number + 0.5) / count[row])[:, None] * (1 - rise)
    a, b, c = a[triangle], b[triangle], c[triangle]
    points = a + along * (b - a) + rise * (c - a)
    inside = ((points >= 0) & (points < size)).all(1)
    return points[inside], source[triangle[inside]], (strip / count)[row][inside]


def _below(triangles: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Cells under the bounding boxes of triangles (N, 3, 3), in cells; ``shape`` bool.

    What lies inside a thing lies under one of its faces, so rays need only go from there.
    """
    if not len(triangles):
        return np.zeros(shape, dtype=bool)
    first = np.clip(np.floor(triangles[..., :2].min(1)), 0, shape[:2]).astype(int)
    last = np.clip(np.ceil(triangles[..., :2].max(1)), 0, shape[:2]).astype(int)
    change = np.zeros((shape[0] + 1, shape[1] + 1), dtype=np.int64)
    for x, y, step in ((first, first, 1), (first, last, -1), (last, first, -1), (last, last, 1)):
        np.add.at(change, (x[:, 0], y[:, 1]), step)
    covered = change.cumsum(0).cumsum(1)[:-1, :-1] > 0
    top = min(int(np.ceil(triangles[..., 2].max())), shape[2])
    return covered[..., None] & (np.arange(shape[2]) < top)


def _enumerate(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For counts (2, 3): owners (0, 0, 1, 1, 1) and numbers (0, 1, 0, 1, 2)."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


class _Tile:
    """Samples of the surfaces in a column of the world, and what is solid there."""

    def __init__(self, key, point, cls, area, solid) -> None:
        self.key = key
        self.point = point.astype(np.float64)  # (N, 3) world
        self.cls = cls.astype(np.int64)  # (N,)
        self.area = area  # (N,) square voxel units
        self.solid = solid  # (X, Y, Z) class at half voxel size


def _near(bodies: list[Body], grid: Grid) -> list[Body]:
    """Bodies whose bounding sphere touches the grid."""
    size = np.asarray(grid.shape) * np.asarray(grid.voxel_size)
    middle = grid.grid_to_world[:3, :3] @ (np.asarray(grid.low) + size / 2)
    middle = middle + grid.grid_to_world[:3, 3]
    near = []
    for body in bodies:
        low, high = body.mesh.vertices.min(0), body.mesh.vertices.max(0)
        center = body.pose[:3, :3] @ ((low + high) / 2) + body.pose[:3, 3]
        reach = np.linalg.norm(high - low) / 2
        offset = np.abs(grid.grid_to_world[:3, :3].T @ (center - middle))
        if (offset <= size / 2 + reach).all():
            near.append(body)
    return near


def _around(bodies: list[Body], grid: Grid) -> np.ndarray:
    """Voxels in the bounding box, along the grid's axes, of any body; flat bool."""
    world_to_grid = geometry.se3_inverse(np.asarray(grid.grid_to_world, dtype=np.float64))
    mask = np.zeros(grid.shape, dtype=bool)
    for body in bodies:
        pose = world_to_grid @ body.pose
        vertices = body.mesh.vertices @ pose[:3, :3].T + pose[:3, 3]
        index = (vertices - np.asarray(grid.low)) / np.asarray(grid.voxel_size)
        first = np.clip(np.floor(index.min(0)), 0, grid.shape).astype(int)
        last = np.clip(np.ceil(index.max(0)), 0, grid.shape).astype(int)
        mask[tuple(slice(a, b) for a, b in zip(first, last))] = True
    return mask.reshape(-1)
