"""A spinning lidar in a toy town."""

from dataclasses import dataclass

import numpy as np

from mmcity.toytown.sensors.renderer import Renderer
from mmcity.toytown.world.taxonomy import WorldClass

#: Degrees below and above the horizon that the 32 beams of nuScenes' lidar cover.
ELEVATION = (-30.67, 10.67)
#: Share of the light that a surface throws back, where it is not 0.35.
_REFLECTANCE = {
    WorldClass.ROAD: 0.1,
    WorldClass.ROAD_LINE: 0.6,
    WorldClass.SIDEWALK: 0.25,
    WorldClass.TRAFFIC_SIGN: 0.95,
    WorldClass.TRAFFIC_CONE: 0.8,
    WorldClass.VEGETATION: 0.3,
}


@dataclass
class LidarScan:
    """Returns of one turn.

    Attributes:
        points: (N, 5) float32: x, y, z in the lidar frame in metres, intensity 0..255, ring.
        cls: (N,) uint8 world class.
        instance: (N,) int32 instance id, 0 for none.
    """

    points: np.ndarray
    cls: np.ndarray
    instance: np.ndarray


def lidar_directions(elevation: tuple[float, float], beams: int, columns: int) -> np.ndarray:
    """(beams * columns, 3) unit directions of one turn; ``elevation`` in degrees, lowest first."""
    pitch = np.radians(np.linspace(*elevation, beams))[:, None]
    yaw = np.linspace(-np.pi, np.pi, columns, endpoint=False)[None]
    up = np.broadcast_to(np.sin(pitch), (beams, columns))
    flat = np.cos(pitch)
    return np.stack([flat * np.cos(yaw), flat * np.sin(yaw), up], axis=-1).reshape(-1, 3)


def scan(
    renderer: Renderer,
    lidar_to_world: np.ndarray,
    beams: int = 32,
    columns: int = 1080,
    reach: float = 100.0,
) -> LidarScan:
    """One turn of the lidar, taken at one moment.

    Args:
        renderer: Holds the scene.
        lidar_to_world: (4, 4).
        beams: Rings, from the lowest. Defaults to 32.
        columns: Directions of a ring. Defaults to 1080.
        reach: Metres beyond which nothing returns. Defaults to 100.
    """
    local = lidar_directions(ELEVATION, beams, columns)
    directions = local @ lidar_to_world[:3, :3].T
    hits = renderer.trace(np.broadcast_to(lidar_to_world[:3, 3], local.shape), directions)
    rows = np.flatnonzero(hits.found & (hits.distance < reach))
    cls = renderer.class_of(hits)[rows]
    reflectance = np.full(len(WorldClass), 0.35)
    for kind, value in _REFLECTANCE.items():
        reflectance[kind] = value
    cosine = np.abs((hits.normal[rows] * directions[rows]).sum(1))
    intensity = np.clip(np.round(255 * reflectance[cls] * (0.3 + 0.7 * cosine)), 0, 255)
    ring = np.repeat(np.arange(beams), columns)[rows]
    points = np.column_stack([local[rows] * hits.distance[rows, None], intensity, ring])
    return LidarScan(points.astype(np.float32), cls, renderer.instance_of(hits)[rows])
