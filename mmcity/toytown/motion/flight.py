"""Camera paths of a survey drone."""

import numpy as np

from mmcity.toytown.sensors.cameras import View, look_at
from mmcity.toytown.world.town import World


def _grid(count: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """About evenly spread points of a serpentine over a rectangle, (count, 2)."""
    size = high - low
    rows = max(1, int(round(np.sqrt(count * size[1] / size[0]))))
    per_row = np.full(rows, count // rows)
    per_row[: count - per_row.sum()] += 1
    points = []
    for k, n in enumerate(per_row):
        x = low[0] + size[0] * (np.arange(n) + 0.5) / max(n, 1)
        y = np.full(n, low[1] + size[1] * (k + 0.5) / rows)
        line = np.column_stack([x, y])
        points.append(line[::-1] if k % 2 else line)
    return np.concatenate(points)


def survey_flight(
    world: World,
    count: int,
    width: int,
    height: int,
    rng: np.random.Generator,
    altitude: float = 55.0,
    fov_x: float = 62.0,
    tilt: float = 42.0,
    nadir_share: float = 0.4,
) -> list[View]:
    """Nadir and oblique views over the whole town, as a survey drone flies them.

    Args:
        world: The town.
        count: Number of images.
        width: Pixels.
        height: Pixels.
        rng: Small deviations from the plan: position, height, angles.
        altitude: Metres above the ground. Defaults to 55.
        fov_x: Horizontal field of view in degrees. Defaults to 62.
        tilt: Degrees of the oblique views off the nadir. Defaults to 42.
        nadir_share: Share of nadir views; the rest looks to the four sides. Defaults to 0.4.
    """
    low, high = world.low, world.high
    margin = 0.06 * (high - low)
    nadir = max(1, int(round(nadir_share * count)))
    groups = [(nadir, None)]
    for side in range(4):
        n = (count - nadir) // 4 + (side < (count - nadir) % 4)
        groups.append((n, side * np.pi / 2))
    views = []
    for n, heading in groups:
        if not n:
            continue
        for target in _grid(n, low + margin, high - margin):
            z = altitude * (1 + 0.04 * rng.uniform(-1, 1))
            target = np.array([*(target + rng.uniform(-1.5, 1.5, 2)), 4.0])
            yaw = rng.normal(0, np.radians(3)) + (np.pi / 2 if heading is None else heading)
            angle = np.radians(rng.normal(0, 2) if heading is None else tilt + rng.normal(0, 2))
            forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
            eye = target - forward * np.tan(angle) * (z - 4) + [0, 0, z - 4]
            views.append(View.from_fov(look_at(eye, target, tuple(forward)), width, height, fov_x))
    return views
