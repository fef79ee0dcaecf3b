"""Style shared by the parts of one building: its lot, its frame, its materials."""

from dataclasses import dataclass

import numpy as np

from mmcity.toytown.world.materials import Material
from mmcity.toytown.world.streets import KERB_HEIGHT

_BRICKS = [(0.34, 0.13, 0.085), (0.42, 0.2, 0.12), (0.28, 0.1, 0.075), (0.45, 0.33, 0.2)]
_PLASTERS = [
    *((0.62, 0.5, 0.3), (0.66, 0.6, 0.5), (0.5, 0.27, 0.2), (0.42, 0.5, 0.52)),
    *((0.36, 0.42, 0.27), (0.7, 0.66, 0.6), (0.55, 0.4, 0.42)),
]
_WALLS = (
    (Material.BRICK, _BRICKS),
    (Material.PLASTER, _PLASTERS),
    (Material.STONE, [(0.45, 0.42, 0.36), (0.38, 0.35, 0.32)]),
    (Material.PANEL, [(0.42, 0.43, 0.44), (0.5, 0.46, 0.4), (0.34, 0.38, 0.42)]),
)
_FRAMES = [(0.75, 0.74, 0.7), (0.18, 0.1, 0.05), (0.1, 0.13, 0.15), (0.5, 0.48, 0.42)]
_TILES = [(0.36, 0.12, 0.07), (0.28, 0.1, 0.07), (0.16, 0.16, 0.18), (0.24, 0.17, 0.12)]


@dataclass
class Lot:
    """Ground of one building: frame (centre, heading) and size; the street lies at -y."""

    center: np.ndarray
    yaw: float
    width: float
    depth: float


class BuildingStyle:
    """Everything that the walls of one building share."""

    def __init__(self, rng: np.random.Generator, instance: int) -> None:
        kind = int(rng.choice(4, p=[0.32, 0.4, 0.12, 0.16]))
        self.material, colors = _WALLS[kind]
        self.color = tuple(
            np.clip(np.array(colors[rng.integers(len(colors))]) * rng.uniform(0.85, 1.12, 3), 0, 1)
        )
        self.trim = tuple(np.full(3, rng.uniform(0.35, 0.72)) * rng.uniform(0.95, 1.05, 3))
        self.frame = _FRAMES[rng.integers(4)]
        self.window = (float(rng.uniform(1.0, 1.7)), float(rng.uniform(1.3, 1.9)))
        self.spacing = self.window[0] + float(rng.uniform(0.9, 1.9))
        self.inset = float(rng.uniform(0.1, 0.2))
        self.has_shops = bool(rng.random() < 0.45)
        self.has_balconies = bool(rng.random() < 0.35)
        self.tile = tuple(np.array(_TILES[rng.integers(4)]) * rng.uniform(0.85, 1.15))
        self.accent = tuple(rng.uniform(0.04, 0.5, 3))
        self.seed = int(rng.integers(1 << 31))
        self.instance = instance


class LotFrame:
    """Lot coordinates to world."""

    def __init__(self, lot: Lot) -> None:
        c, s = np.cos(lot.yaw), np.sin(lot.yaw)
        self.x, self.y = np.array([c, s, 0.0]), np.array([-s, c, 0.0])
        self.origin = np.array([lot.center[0], lot.center[1], KERB_HEIGHT])

    def __call__(self, x: float, y: float, z: float) -> np.ndarray:
        """(3,) world position of a point of the lot."""
        return self.origin + x * self.x + y * self.y + np.array([0, 0, z])
