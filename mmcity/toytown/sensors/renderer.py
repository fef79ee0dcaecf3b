"""Ray-cast images of a toy town with exact depth, normals, labels and flow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmcity.toytown.sensors.cameras import View
from mmcity.toytown.sensors.lighting import Canyon, Lighting, to_srgb
from mmcity.toytown.sensors.raycast import RayCaster, make_caster
from mmcity.toytown.world.materials import Patch, albedo
from mmcity.toytown.world.meshes import SurfaceMesh
from mmcity.toytown.world.town import World


@dataclass
class Body:
    """A rigid moving part: its mesh in its own frame, and where it is.

    Attributes:
        mesh: Triangles in the body's frame.
        pose: (4, 4) body-to-world now.
        next_pose: (4, 4) body-to-world at the next frame, for flow.
    """

    mesh: SurfaceMesh
    pose: np.ndarray
    next_pose: np.ndarray


@dataclass
class Frame:
    """Rendered maps of one camera.

    Attributes:
        rgb: (H, W, 3) uint8 sRGB.
        depth: (H, W) float32 z-depth in metres, 0 where nothing was hit.
        normal: (H, W, 3) float32 world normal towards the camera, 0 where nothing was hit.
        cls: (H, W) uint8 world class.
        instance: (H, W) int32 instance id, 0 for none.
        flow: (H, W, 2) float32 pixels to the next view, NaN where undefined; None if no
            next view was given.
        valid: (H, W) bool, a surface was hit.
    """

    rgb: np.ndarray
    depth: np.ndarray
    normal: np.ndarray
    cls: np.ndarray
    instance: np.ndarray
    flow: np.ndarray | None
    valid: np.ndarray


@dataclass
class Hits:
    """Closest hits of N rays."""

    found: np.ndarray  # (N,) bool
    distance: np.ndarray  # (N,) float64
    point: np.ndarray  # (N, 3) float64 world
    local: np.ndarray  # (N, 3) float32 in the frame of the body
    body: np.ndarray  # (N,) int32, 0 is the static city
    surface: np.ndarray  # (N,) int32 row of the joint surface table
    normal: np.ndarray  # (N, 3) float32 geometric, towards the viewer
    shading: np.ndarray  # (N, 3) float32 interpolated where the surface is smooth


class Renderer:
    """Renders views of one world.

    Args:
        world: The static city.
        supersampling: Rays per edge pixel; None takes the world's. Defaults to None.
        backend: Ray casting back end, see :func:`make_caster`. Defaults to 'auto'.
        lighting: None takes the world's.
    """

    #: Rays that are shaded at once; keeps the working set in the cache.
    CHUNK = 1 << 16
    #: sRGB difference between neighbours above which a pixel is supersampled.
    CONTRAST = 0.035

    def __init__(
        self,
        world: World,
        supersampling: int | None = None,
        backend: str = "auto",
        lighting: Lighting | None = None,
    ) -> None:
        self.world = world
        self.supersampling = supersampling or world.config.supersampling
        self.lighting = lighting or Lighting.from_config(world.config)
        self._backend = backend
        self._canyon = Canyon(world.mesh, world.low, world.high)
        self._static = make_caster([(world.mesh.vertices, world.mesh.faces)], backend)
        self._bodies: list[Body] = []
        self._join([])
        self.set_bodies([])

    @property
    def static_caster(self) -> RayCaster:
        """Rays against the static city alone; faces are numbered as in ``world.mesh``."""
        return self._static

    def set_bodies(self, bodies: Sequence[Body]) -> None:
        """Place the moving parts for the images that follow."""
        if [id(b.mesh) for b in bodies] != [id(b.mesh) for b in self._bodies]:
            self._join([b.mesh for b in bodies])
        self._bodies = list(bodies)
        poses = [np.eye(4)] + [b.pose for b in bodies]
        self._rotation = np.array([p[:3, :3] for p in poses])
        self._position = np.array([p[:3, 3] for p in poses])
        self._moving: RayCaster | None = None
        if bodies:
            groups = [
                (b.mesh.vertices @ b.pose[:3, :3].T + b.pose[:3, 3], b.mesh.faces) for b in bodies
            ]
            self._moving = make_caster(groups, self._backend)

    def _join(self, meshes: list[SurfaceMesh]) -> None:
        """Tables over the static city and the moving meshes, each in its own frame."""
        self._joint = SurfaceMesh.concatenate([self.world.mesh, *meshes])
        counts = [len(self.world.mesh.faces)] + [len(m.faces) for m in meshes]
        self._face_body = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
        corners = self._joint.vertices[self._joint.faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
        # Planes in the frame of each body: exact distances do not rest on float32 rays.
        self._face_normal = normal
        self._face_offset = (normal * corners[:, 0]).sum(1)
        vertex_normals = self._joint.vertex_normals
        self._smooth = (np.abs(vertex_normals).sum(1) > 0)[self._joint.faces[:, 0]]

    def trace(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """Closest hits of unit rays (N, 3)."""
        face, distance, u, v = self._static.hit(origins, directions)
        if self._moving is not None:
            other = self._moving.hit(origins, directions)
            closer = other[1] < distance
            face = np.where(closer, other[0] + np.int32(len(self.world.mesh.faces)), face)
            distance = np.where(closer, other[1], distance)
            u, v = np.where(closer, other[2], u), np.where(closer, other[3], v)
        found = face >= 0
        face = np.where(found, face, 0)
        body = self._face_body[face]
        normal = self._face_normal[face]
        rotation = None
        local_o, local_d = origins, directions
        if self._moving is not None:
            rotation = self._rotation[body]  # (N, 3, 3)
            local_o = np.einsum("nji,nj->ni", rotation, origins - self._position[body])
            local_d = np.einsum("nji,nj->ni", rotation, directions)
        along = (normal * local_d).sum(1)
        exact = (self._face_offset[face] - (normal * local_o).sum(1)) / np.where(
            np.abs(along) < 1e-9, 1e-9, along
        )
        # At grazing angles the plane is badly conditioned; there the ray's own answer stands.
        exact = np.where(np.abs(exact - distance) < 1e-3 * (1 + distance), exact, distance)
        exact = np.where(found, exact, np.inf)
        step = np.where(found, exact, 0.0)[:, None]
        local = (local_o + local_d * step).astype(np.float32)
        shading = normal
        smooth = self._smooth[face]
        if smooth.any():
            rows = np.flatnonzero(smooth & found)
            corner = self._joint.vertex_normals[self._joint.faces[face[rows]]]  # (R, 3, 3)
            b1, b2 = u[rows, None], v[rows, None]
            mixed = corner[:, 0] * (1 - b1 - b2) + corner[:, 1] * b1 + corner[:, 2] * b2
            shading = normal.copy()
            shading[rows] = mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)
        flip = np.where(along > 0, -1.0, 1.0)[:, None]
        normal = normal * flip
        # A smooth normal must not look away from the side that is seen.
        shading = np.where(
            ((shading * flip) * normal).sum(1, keepdims=True) < 0, normal, shading * flip
        )
        if rotation is not None:
            normal = np.einsum("nij,nj->ni", rotation, normal)
            shading = np.einsum("nij,nj->ni", rotation, shading)
        point = origins + directions * step
        surface = self._joint.face_surface[face]
        return Hits(
            found, exact, point, local, body, surface, normal=normal.astype(np.float32),
            shading=shading.astype(np.float32),
        )  # fmt: skip

    def is_blocked(
        self, origins: np.ndarray, directions: np.ndarray, limit: np.ndarray
    ) -> np.ndarray:
        """Whether unit rays (N, 3) from origins (N, 3) or (3,) meet anything within ``limit``.

        Args:
            origins: Metres.
            directions: Unit.
            limit: (N,) metres.

        Returns:
            np.ndarray: (N,) bool.
        """
        origins = np.broadcast_to(np.asarray(origins, dtype=np.float32), directions.shape)
        blocked = self._static.occluded(origins, directions, limit)
        if self._moving is not None:
            open_rows = np.flatnonzero(~blocked)
            blocked[open_rows] = self._moving.occluded(
                origins[open_rows], directions[open_rows], limit[open_rows]
            )
        return blocked

    def class_of(self, hits: Hits) -> np.ndarray:
        """World class of each hit, (N,) uint8, 0 (sky) where nothing was hit."""
        return np.where(hits.found, self._joint.cls[hits.surface], 0).astype(np.uint8)

    def instance_of(self, hits: Hits) -> np.ndarray:
        """Instance id of each hit, (N,) int32, 0 for none."""
        return np.where(hits.found, self._joint.instance[hits.surface], 0).astype(np.int32)

    def visible(self, points: np.ndarray, center: np.ndarray) -> np.ndarray:
        """Whether nothing stands between points (N, 3) and a camera centre, (N,) bool."""
        to_center = center - points
        distance = np.linalg.norm(to_center, axis=1)
        d = to_center / distance[:, None]
        start = points + d * 2e-3
        return ~self.is_blocked(start, d, distance - 4e-3)

    def radiance(self, hits: Hits, directions: np.ndarray, pixel_angle: float) -> np.ndarray:
        """Linear radiance along rays, (N, 3) float32."""
        out = np.empty((len(directions), 3), dtype=np.float32)
        for start in range(0, len(directions), self.CHUNK):
            rows = slice(start, start + self.CHUNK)
            out[rows] = self._shade_chunk(hits, rows, directions[rows], pixel_angle)
        return out

    def _shade_chunk(
        self, hits: Hits, rows: slice, directions: np.ndarray, pixel_angle: float
    ) -> np.ndarray:
        out = np.empty((len(directions), 3), dtype=np.float32)
        found = hits.found[rows]
        missed = np.flatnonzero(~found)
        if len(missed):
            out[missed] = self.lighting.sky(directions[missed], pixel_angle)
        keep = np.flatnonzero(found)
        if not len(keep):
            return out
        pick = keep + (rows.start or 0)
        table, row = self._joint, hits.surface[pick]
        distance = hits.distance[pick]
        normal, shading = hits.normal[pick], hits.shading[pick]
        cosine = np.abs((normal * directions[keep]).sum(1))
        footprint = (distance * pixel_angle / np.sqrt(np.maximum(cosine, 0.05))).astype(np.float32)
        local = hits.local[pick] - table.origin[row]
        axis_u, axis_v = table.axis_u[row], table.axis_v[row]
        axis_w = np.cross(axis_u, axis_v)
        patch = Patch(
            u=(local * axis_u).sum(1),
            v=(local * axis_v).sum(1),
            w=(local * axis_w).sum(1),
            footprint=footprint,
            color=table.color[row],
            extent=table.extent[row],
            seed=table.seed[row],
        )
        base = albedo(table.material[row], patch)
        sun = self.lighting.sun
        facing = np.flatnonzero((normal @ sun.astype(np.float32) > 0) & (shading @ sun > 0))
        lit = np.zeros(len(keep), dtype=np.float32)
        if len(facing):
            start = hits.point[pick[facing]] + normal[facing] * 3e-3
            d = np.broadcast_to(sun, start.shape)
            limit = np.full(len(start), 1e4, dtype=np.float32)
            dark = self._static.occluded(start, d, limit)
            if self._moving is not None:
                dark |= self._moving.occluded(start, d, limit)
            lit[facing] = ~dark
        openness = self._canyon.openness(hits.point[pick])
        color = self.lighting.shade(base, shading, lit, openness)
        out[keep] = self.lighting.haze(color, distance)
        return out

    def render(self, view: View, next_view: View | None = None) -> Frame:
        """Render one view.

        Args:
            view: The camera.
            next_view: The camera at the next frame; asks for optical flow.

        Returns:
            Frame: Exact outputs belong to the pixel centres.
        """
        h, w = view.height, view.width
        pixels = view.pixel_grid().reshape(-1, 2)
        rays = view.camera_rays(pixels)
        length = np.linalg.norm(rays, axis=1)
        rotation = view.cam_to_world[:3, :3]
        directions = (rays / length[:, None]) @ rotation.T
        origins = np.broadcast_to(view.center, directions.shape)
        hits = self.trace(origins, directions)
        angle = 1.0 / float(view.K[0, 0])
        linear = self.radiance(hits, directions, angle)
        if self.supersampling > 1:
            self._supersample(view, hits, linear, angle)
        rgb = (to_srgb(linear) * 255 + 0.5).astype(np.uint8).reshape(h, w, 3)
        valid = hits.found.reshape(h, w)
        depth = np.where(hits.found, hits.distance / length, 0).astype(np.float32)
        normal = np.where(hits.found[:, None], hits.normal, 0).reshape(h, w, 3)
        cls = self.class_of(hits)
        instance = self.instance_of(hits)
        flow = None
        if next_view is not None:
            flow = self._flow(hits, pixels, directions, next_view).reshape(h, w, 2)
        return Frame(
            rgb, depth.reshape(h, w), normal, cls.reshape(h, w), instance.reshape(h, w), flow, valid
        )

    def _supersample(self, view: View, hits: Hits, linear: np.ndarray, angle: float) -> None:
        """Replace pixels on edges of any kind by the mean of several rays, in place."""
        h, w = view.height, view.width
        srgb = to_srgb(linear).reshape(h, w, 3)
        label = np.where(hits.found, hits.surface, -1).reshape(h, w)
        edge = np.zeros((h, w), dtype=bool)
        for a, b in (
            ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
            ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
        ):
            jump = (np.abs(srgb[a] - srgb[b]).max(-1) > self.CONTRAST) & (
                (label[a] != label[b]) | (np.abs(srgb[a] - srgb[b]).max(-1) > 3 * self.CONTRAST)
            )
            edge[a] |= jump
            edge[b] |= jump
        rows = np.flatnonzero(edge)
        if not len(rows):
            return
        n = int(round(self.supersampling**0.5))
        grid = (np.arange(n) + 0.5) / n - 0.5
        total = np.zeros((len(rows), 3), dtype=np.float32)
        base = np.column_stack([rows % w, rows // w]) + 0.5
        rotation = view.cam_to_world[:3, :3]
        for i, dy in enumerate(grid):
            for j, dx in enumerate(grid):
                # Rotated grid: no two samples share a row or a column.
                shift = np.array([dx + grid[i] / n, dy - grid[j] / n])
                d = view.camera_rays(base + shift)
                d = (d / np.linalg.norm(d, axis=1, keepdims=True)) @ rotation.T
                sub = self.trace(np.broadcast_to(view.center, d.shape), d)
                total += self.radiance(sub, d, angle / n)
        linear[rows] = total / n**2

    def _flow(
        self, hits: Hits, pixels: np.ndarray, directions: np.ndarray, next_view: View
    ) -> np.ndarray:
        poses = [np.eye(4)] + [b.next_pose for b in self._bodies]
        rotation = np.array([p[:3, :3] for p in poses])[hits.body]
        position = np.array([p[:3, 3] for p in poses])[hits.body]
        moved = np.where(
            (hits.body == 0)[:, None],
            hits.point,
            np.einsum("nij,nj->ni", rotation, hits.local.astype(np.float64)) + position,
        )
        # The sky lies at infinity: only the rotation moves it.
        moved = np.where(hits.found[:, None], moved, next_view.center + 1e6 * directions)
        target, z = next_view.project(moved)
        flow = (target - pixels).astype(np.float32)
        flow[z <= 1e-6] = np.nan
        return flow
