"""Boxes of the things in a toy town, with how much of them the sensors see."""

from dataclasses import dataclass

import numpy as np

from mmcity.toytown.motion.traffic import Traffic
from mmcity.toytown.sensors.renderer import Renderer
from mmcity.toytown.world.meshes import SurfaceMesh
from mmcity.toytown.world.taxonomy import WorldClass, nuscenes_detection_name
from mmcity.toytown.world.town import World

#: Points of a thing that rays are sent to.
_PROBES = 64


@dataclass
class AnnotatedBox:
    """A thing at one moment, world frame.

    Attributes:
        instance: Instance id.
        name: nuScenes detection name.
        center: (3,) metres.
        size: Length, width, height.
        yaw: Radians.
        speed: Metres per second.
        is_ridden: Whether a two-wheeler has a rider.
        share_seen: Share of its points in view of the cameras that no other thing hides.
    """

    instance: int
    name: str
    center: np.ndarray
    size: tuple[float, float, float]
    yaw: float
    speed: float
    is_ridden: bool
    share_seen: float = 0.0


class Annotator:
    """Lists the boxes near the ego vehicle.

    Args:
        world: The static city.
        traffic: The moving agents.
        reach: Metres from the ego vehicle. Defaults to 60.
    """

    def __init__(self, world: World, traffic: Traffic, reach: float = 60.0) -> None:
        self.traffic, self.reach = traffic, reach
        self._probes: dict[int, np.ndarray] = {}
        self._static: list[AnnotatedBox] = []
        points = _points_of_instances(world.mesh)
        for thing in world.instances:
            name = nuscenes_detection_name(thing.cls)
            if name is None or thing.id not in points:
                continue
            self._probes[thing.id] = _some(points[thing.id])
            if thing.center is None or thing.size is None:
                center, size, yaw = _tight_box(points[thing.id])
            else:
                center, size, yaw = thing.center, thing.size, thing.yaw
            self._static.append(AnnotatedBox(thing.id, name, center, size, yaw, 0.0, False))
        self._agents = {a.id: a for a in traffic.agents}

    def boxes(self, time: float, position: np.ndarray) -> list[AnnotatedBox]:
        """Boxes around a position (3,) at a time; their visibility is not filled in."""
        found = list(self._static)
        for state in self.traffic.states(time):
            name = nuscenes_detection_name(state.cls)
            if name is not None:
                speed = float(np.hypot(*state.velocity))
                ridden = name in ("bicycle", "motorcycle")
                found.append(
                    AnnotatedBox(state.id, name, state.center, state.size, state.yaw, speed, ridden)
                )
        return [b for b in found if np.hypot(*(b.center - position)[:2]) < self.reach]

    def probes(self, instance: int, time: float) -> np.ndarray:
        """Points (P, 3) on a thing, world frame."""
        if instance in self._probes:
            return self._probes[instance]
        agent = self._agents[instance]
        parts = [
            mesh.vertices @ pose[:3, :3].T + pose[:3, 3]
            for mesh, pose in zip(agent.parts, agent.part_poses(time))
        ]
        return _some(np.concatenate(parts))

    def fill_visibility(
        self, boxes: list[AnnotatedBox], renderer: Renderer, views: list, time: float
    ) -> None:
        """Set ``share_seen`` of boxes from the cameras' :class:`View` at this moment."""
        if not boxes:
            return
        points = np.concatenate([self.probes(b.instance, time) for b in boxes])
        owner = np.repeat(
            np.arange(len(boxes)), [len(self.probes(b.instance, time)) for b in boxes]
        )
        in_view = np.zeros(len(points), dtype=bool)
        seen = np.zeros(len(points), dtype=bool)
        ids = np.array([b.instance for b in boxes])
        for view in views:
            pixels, z = view.project(points)
            rows = np.flatnonzero(
                (z > 0.1) & (pixels >= 0).all(1) & (pixels < (view.width, view.height)).all(1)
            )
            if not len(rows):
                continue
            rays = points[rows] - view.center
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
            hits = renderer.trace(np.broadcast_to(view.center, rays.shape), rays)
            in_view[rows] = True
            seen[rows] |= renderer.instance_of(hits) == ids[owner[rows]]
        total = np.bincount(owner[in_view], minlength=len(boxes))
        share = np.bincount(owner[seen], minlength=len(boxes)) / np.maximum(total, 1)
        for box, value in zip(boxes, share):
            box.share_seen = float(value)


def _some(points: np.ndarray) -> np.ndarray:
    return points[np.linspace(0, len(points) - 1, min(len(points), _PROBES)).astype(int)]


def _points_of_instances(mesh: SurfaceMesh) -> dict[int, np.ndarray]:
    """Corners of the faces of each detectable thing."""
    wanted = np.array([nuscenes_detection_name(c) is not None for c in WorldClass])
    # A thing's surfaces may have several classes; one that counts is enough.
    ids = np.unique(mesh.instance[wanted[mesh.cls]])
    owner = mesh.instance[mesh.face_surface]
    rows = np.flatnonzero(np.isin(owner, ids[ids > 0]))
    rows = rows[np.argsort(owner[rows], kind="stable")]
    values, starts = np.unique(owner[rows], return_index=True)
    groups = np.split(rows, starts[1:])
    return {int(k): mesh.vertices[np.unique(mesh.faces[g])] for k, g in zip(values, groups)}


def _tight_box(points: np.ndarray) -> tuple[np.ndarray, tuple[float, float, float], float]:
    """Upright box of least ground area round points: centre, size, yaw; length >= width."""
    best = None
    for yaw in np.radians(np.arange(0, 90, 1.5)):
        c, s = np.cos(yaw), np.sin(yaw)
        turned = points[:, :2] @ np.array([[c, -s], [s, c]])
        low, high = turned.min(0), turned.max(0)
        area = float(np.prod(high - low))
        if best is None or area < best[0] - 1e-9:
            best = (area, float(yaw), low, high)
    _, yaw, low, high = best
    c, s = np.cos(yaw), np.sin(yaw)
    middle = np.array([[c, -s], [s, c]]) @ (0.5 * (low + high))
    bottom, top = points[:, 2].min(), points[:, 2].max()
    length, width = high - low
    if width > length:
        length, width, yaw = width, length, yaw + np.pi / 2
    center = np.array([*middle, 0.5 * (bottom + top)])
    return center, (float(length), float(width), float(top - bottom)), yaw
