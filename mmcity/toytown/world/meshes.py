"""Triangle meshes with a surface table: what is hit, its class, its texture frame."""

from dataclasses import dataclass, field

import numpy as np

from mmcity.toytown.world.taxonomy import WorldClass


def unit(v: np.ndarray) -> np.ndarray:
    """Normalise along the last axis."""
    v = np.asarray(v, dtype=np.float64)
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


@dataclass
class SurfaceMesh:
    """Triangles and the surfaces they belong to.

    A surface is a patch of one material with one texture frame: ``origin`` and the axes
    ``axis_u``, ``axis_v`` map a point to texture metres.

    Attributes:
        vertices: (N, 3) float64, metres.
        faces: (M, 3) int32.
        face_surface: (M,) int32 row of the surface table.
        vertex_normals: (N, 3) float32, zero where the surface is shaded flat.
        material: (S,) uint8.
        cls: (S,) uint8 world class.
        instance: (S,) int32 instance id, 0 for none.
        color: (S, 3) float32 linear base colour.
        origin: (S, 3) float32.
        axis_u: (S, 3) float32.
        axis_v: (S, 3) float32.
        extent: (S, 2) float32 width and height, for textures that know their borders.
        seed: (S,) uint32.
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_surface: np.ndarray
    vertex_normals: np.ndarray
    material: np.ndarray
    cls: np.ndarray
    instance: np.ndarray
    color: np.ndarray
    origin: np.ndarray
    axis_u: np.ndarray
    axis_v: np.ndarray
    extent: np.ndarray
    seed: np.ndarray

    SURFACE_FIELDS = (
        *("material", "cls", "instance", "color", "origin"),
        *("axis_u", "axis_v", "extent", "seed"),
    )

    @staticmethod
    def concatenate(meshes: list["SurfaceMesh"]) -> "SurfaceMesh":
        """Join meshes; faces and surface rows are shifted, nothing else changes."""
        vertex_offsets = np.cumsum([0] + [len(m.vertices) for m in meshes])
        surface_offsets = np.cumsum([0] + [len(m.material) for m in meshes])
        return SurfaceMesh(
            np.concatenate([m.vertices for m in meshes]),
            np.concatenate([m.faces + o for m, o in zip(meshes, vertex_offsets)]).astype(np.int32),
            np.concatenate([m.face_surface + o for m, o in zip(meshes, surface_offsets)]).astype(
                np.int32
            ),
            np.concatenate([m.vertex_normals for m in meshes]),
            **{
                name: np.concatenate([getattr(m, name) for m in meshes])
                for name in SurfaceMesh.SURFACE_FIELDS
            },
        )


@dataclass
class MeshBuilder:
    """Collects triangles of many surfaces; :meth:`build` makes the arrays."""

    _vertices: list = field(default_factory=list)
    _faces: list = field(default_factory=list)
    _face_surface: list = field(default_factory=list)
    _normals: list = field(default_factory=list)
    _quads: list = field(default_factory=list)
    _quad_surface: list = field(default_factory=list)
    _surfaces: list = field(default_factory=list)
    _count: int = 0

    def surface(
        self,
        material: int,
        cls: WorldClass,
        instance: int = 0,
        color: tuple = (0.5, 0.5, 0.5),
        origin: np.ndarray = (0.0, 0.0, 0.0),
        axis_u: np.ndarray = (1.0, 0.0, 0.0),
        axis_v: np.ndarray = (0.0, 1.0, 0.0),
        extent: tuple = (1.0, 1.0),
        seed: int = 0,
    ) -> int:
        """Add a row to the surface table and return its index; fields as SurfaceMesh."""
        place = (color, origin, axis_u, axis_v, extent)
        row = (int(material), int(cls), int(instance), *place, seed & 0xFFFFFFFF)
        self._surfaces.append(row)
        return len(self._surfaces) - 1

    def triangles(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        surface: int,
        normals: np.ndarray | None = None,
    ) -> None:
        """Add triangles: vertices (N, 3), faces (M, 3), optional smooth normals (N, 3)."""
        self._vertices.append(np.asarray(vertices, dtype=np.float64))
        self._faces.append(np.asarray(faces, dtype=np.int64) + self._count)
        self._face_surface.append(np.full(len(faces), surface, dtype=np.int32))
        if normals is None:
            normals = np.zeros((len(vertices), 3))
        self._normals.append(np.asarray(normals, dtype=np.float32))
        self._count += len(vertices)

    def quad(self, corners: list, surface: int) -> None:
        """Add a flat quad of four corners in order around it."""
        self._quads.append(corners)
        self._quad_surface.append(surface)

    def patch(self, corners: list, material: int, cls: WorldClass, **kwargs) -> None:
        """Add a quad with a texture frame of its own: u from corner 0 to 1, v towards 3."""
        c = np.asarray(corners, dtype=np.float64)
        axis_u = unit(c[1] - c[0])
        normal = unit(np.cross(c[1] - c[0], c[3] - c[0]))
        axis_v = np.cross(normal, axis_u)
        extent = (float(np.linalg.norm(c[1] - c[0])), float((c[3] - c[0]) @ axis_v))
        row = self.surface(
            material, cls, origin=c[0], axis_u=axis_u, axis_v=axis_v, extent=extent, **kwargs
        )
        self.quad(c, row)

    def polygon(self, points: np.ndarray, z: float | np.ndarray, surface: int) -> None:
        """Add a convex polygon: points (N, 2) counter-clockwise at height z."""
        n = len(points)
        vertices = np.column_stack([points, np.broadcast_to(z, n)])
        fan = np.column_stack([np.zeros(n - 2, int), np.arange(1, n - 1), np.arange(2, n)])
        self.triangles(vertices, fan, surface)

    def ring(self, outer: np.ndarray, inner: np.ndarray, z_o: float, z_i: float, s: int) -> None:
        """Add the strip between two closed polygons (N, 2) with matching vertices."""
        n = len(outer)
        vertices = np.concatenate(
            [np.column_stack([outer, np.full(n, z_o)]), np.column_stack([inner, np.full(n, z_i)])]
        )
        i, j = np.arange(n), (np.arange(n) + 1) % n
        faces = np.concatenate([np.column_stack([i, j, n + j]), np.column_stack([i, n + j, n + i])])
        self.triangles(vertices, faces, s)

    def box(
        self,
        center: np.ndarray,
        size: tuple,
        material: int,
        cls: WorldClass,
        yaw: float = 0.0,
        bottom: bool = True,
        **kwargs,
    ) -> None:
        """Add a box: centre (3,), length-width-height, heading in radians."""
        c, s = np.cos(yaw), np.sin(yaw)
        ex, ey, ez = (
            np.array([c, s, 0]) * size[0] / 2,
            np.array([-s, c, 0]) * size[1] / 2,
            np.array([0, 0, size[2] / 2]),
        )
        center = np.asarray(center, dtype=np.float64)
        corner = {
            (i, j, k): center + i * ex + j * ey + k * ez
            for i in (-1, 1)
            for j in (-1, 1)
            for k in (-1, 1)
        }
        sides = [
            [(-1, -1, -1), (1, -1, -1), (1, -1, 1), (-1, -1, 1)],
            [(1, -1, -1), (1, 1, -1), (1, 1, 1), (1, -1, 1)],
            [(1, 1, -1), (-1, 1, -1), (-1, 1, 1), (1, 1, 1)],
            [(-1, 1, -1), (-1, -1, -1), (-1, -1, 1), (-1, 1, 1)],
            [(-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)],
        ]
        if bottom:
            sides.append([(-1, 1, -1), (1, 1, -1), (1, -1, -1), (-1, -1, -1)])
        for side in sides:
            self.patch([corner[k] for k in side], material, cls, **kwargs)

    def cylinder(
        self,
        start: np.ndarray,
        end: np.ndarray,
        radii: tuple[float, float],
        sides: int,
        surface: int,
        smooth: bool = True,
    ) -> None:
        """Add a closed, possibly tapered cylinder between two points."""
        start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
        axis = unit(end - start)
        helper = np.array([0.0, 0, 1]) if abs(axis[2]) < 0.9 else np.array([1.0, 0, 0])
        a = unit(np.cross(helper, axis))
        b = np.cross(axis, a)
        angle = np.arange(sides) * (2 * np.pi / sides)
        around = np.cos(angle)[:, None] * a + np.sin(angle)[:, None] * b  # (sides, 3)
        vertices = np.concatenate(
            [start + radii[0] * around, end + radii[1] * around, start[None], end[None]]
        )
        i, j = np.arange(sides), (np.arange(sides) + 1) % sides
        mantle = np.concatenate(
            [np.column_stack([i, j, sides + j]), np.column_stack([i, sides + j, sides + i])]
        )
        normals = np.concatenate([around, around, np.zeros((2, 3))]) if smooth else None
        self.triangles(vertices, mantle, surface, normals)
        caps = np.concatenate(
            [
                np.column_stack([j, i, np.full(sides, 2 * sides)]),
                np.column_stack([sides + i, sides + j, np.full(sides, 2 * sides + 1)]),
            ]
        )
        self.triangles(vertices, caps, surface)

    def build(self) -> SurfaceMesh:
        """Make the arrays. At least one triangle must have been added."""
        if self._quads:
            quads = np.asarray(self._quads, dtype=np.float64)  # (Q, 4, 3)
            base = 4 * np.arange(len(quads))[:, None]
            faces = np.concatenate([base + [[0, 1, 2]], base + [[0, 2, 3]]], axis=1)
            self.triangles(quads.reshape(-1, 3), faces.reshape(-1, 3), 0)
            self._face_surface[-1] = np.repeat(np.asarray(self._quad_surface, np.int32), 2)
            self._quads, self._quad_surface = [], []
        columns = list(zip(*self._surfaces))
        kinds = [np.uint8, np.uint8, np.int32] + [np.float32] * 5 + [np.uint32]
        return SurfaceMesh(
            np.concatenate(self._vertices),
            np.concatenate(self._faces).astype(np.int32),
            np.concatenate(self._face_surface),
            np.concatenate(self._normals),
            *[np.asarray(column, dtype=kind) for column, kind in zip(columns, kinds)],
        )


def icosphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit icosphere: vertices (N, 3) float64 and faces (M, 3) int64."""
    import trimesh

    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    return np.asarray(sphere.vertices, dtype=np.float64), np.asarray(sphere.faces, dtype=np.int64)
