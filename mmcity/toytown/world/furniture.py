"""Street furniture: lamps, traffic lights, signs, benches, bins, fences, cones, barriers."""

from functools import partial

import numpy as np

from mmcity.toytown.world.materials import Material
from mmcity.toytown.world.meshes import MeshBuilder
from mmcity.toytown.world.taxonomy import WorldClass

_STEEL = (0.2, 0.21, 0.22)


def _direction(yaw: float) -> np.ndarray:
    return np.array([np.cos(yaw), np.sin(yaw), 0.0])


def _pole(
    builder: MeshBuilder,
    base: np.ndarray,
    height: float,
    radius: float,
    instance: int,
    color: tuple = _STEEL,
    cls: WorldClass = WorldClass.POLE,
) -> None:
    row = builder.surface(Material.METAL, cls, instance, color, base)
    builder.cylinder(base, np.asarray(base) + [0, 0, height], (radius, 0.7 * radius), 8, row)


def add_lamp(builder: MeshBuilder, base: np.ndarray, yaw: float, instance: int) -> None:
    """Street lamp whose arm points along ``yaw``."""
    base, d = np.asarray(base, dtype=np.float64), _direction(yaw)
    _pole(builder, base, 6.0, 0.08, instance)
    row = builder.surface(Material.METAL, WorldClass.POLE, instance, _STEEL, base)
    builder.cylinder(base + [0, 0, 5.9], base + d * 1.5 + [0, 0, 6.3], (0.05, 0.04), 6, row)
    box = partial(builder.box, cls=WorldClass.POLE, yaw=yaw, instance=instance)
    box(base + d * 1.7 + [0, 0, 6.28], (0.7, 0.25, 0.12), Material.PLAIN, color=(0.6, 0.6, 0.58))


def add_traffic_light(builder: MeshBuilder, base: np.ndarray, yaw: float, instance: int) -> None:
    """Traffic light whose lamps face along ``yaw``."""
    base, d = np.asarray(base, dtype=np.float64), _direction(yaw)
    _pole(builder, base, 3.4, 0.07, instance)
    kind = WorldClass.TRAFFIC_LIGHT
    head = base + d * 0.16 + [0, 0, 2.95]
    box = partial(builder.box, cls=kind, yaw=yaw, instance=instance)
    box(head, (0.22, 0.32, 0.95), Material.PLAIN, color=(0.03, 0.035, 0.03))
    for k, color in enumerate([(0.05, 0.5, 0.16), (0.6, 0.38, 0.02), (0.65, 0.03, 0.02)]):
        row = builder.surface(Material.PLAIN, kind, instance, color, base)
        middle = head + [0, 0, 0.3 * (k - 1)]
        builder.cylinder(middle, middle + d * 0.15, (0.11, 0.11), 10, row, smooth=False)


def add_sign(
    builder: MeshBuilder, base: np.ndarray, yaw: float, kind: int, seed: int, instance: int
) -> None:
    """Traffic sign facing along ``yaw``: 0 round, 1 warning triangle, 2 board, 3 stop."""
    base, d = np.asarray(base, dtype=np.float64), _direction(yaw)
    _pole(builder, base, 2.6, 0.035, instance, (0.35, 0.36, 0.37))
    middle = base + [0, 0, 2.35] + d * 0.06
    cls = WorldClass.TRAFFIC_SIGN
    if kind == 2:
        side = np.array([-d[1], d[0], 0])
        box = partial(builder.box, cls=cls, yaw=yaw, instance=instance)
        box(middle - d * 0.02, (0.03, 1.0, 0.6), Material.METAL, color=(0.3, 0.3, 0.3))
        left, right, up = middle - side * 0.5, middle + side * 0.5, np.array([0, 0, 0.3])
        corners, blue = [left - up, right - up, right + up, left + up], (0.03, 0.12, 0.4)
        builder.patch(corners, Material.SIGN, cls, instance=instance, color=blue, seed=seed)
        return
    sides, rim, face = {
        0: (18, (0.55, 0.03, 0.03), (0.75, 0.75, 0.73)),
        1: (3, (0.55, 0.03, 0.03), (0.75, 0.62, 0.1)),
        3: (8, (0.75, 0.75, 0.73), (0.5, 0.02, 0.03)),
    }[kind]
    outer = builder.surface(Material.PLAIN, cls, instance, rim, base, seed=seed)
    inner = builder.surface(Material.PLAIN, cls, instance, face, base, seed=seed)
    builder.cylinder(middle - d * 0.02, middle, (0.36, 0.36), sides, outer, smooth=False)
    builder.cylinder(middle, middle + d * 0.01, (0.26, 0.26), sides, inner, smooth=False)


def add_bench(builder: MeshBuilder, base: np.ndarray, yaw: float, instance: int) -> None:
    """Wooden bench."""
    base, d = np.asarray(base, dtype=np.float64), _direction(yaw)
    back = np.array([-d[1], d[0], 0])
    brown = (0.3, 0.17, 0.08)
    box = partial(builder.box, cls=WorldClass.OTHER, yaw=yaw, instance=instance)
    box(base + [0, 0, 0.45], (1.7, 0.45, 0.06), Material.WOOD, color=brown)
    box(base + back * 0.25 + [0, 0, 0.75], (1.7, 0.05, 0.4), Material.WOOD, color=brown)
    for s in (-0.7, 0.7):
        box(base + d * s + [0, 0, 0.21], (0.07, 0.4, 0.42), Material.METAL, color=_STEEL)


def add_bin(builder: MeshBuilder, base: np.ndarray, seed: int, instance: int) -> None:
    """Litter bin or letter box."""
    base = np.asarray(base, dtype=np.float64)
    if seed % 3 == 0:
        yellow = {"instance": instance, "color": (0.65, 0.45, 0.04), "seed": seed}
        box = partial(builder.box, cls=WorldClass.OTHER, yaw=0.1 * (seed % 60), **yellow)
        box(base + [0, 0, 0.6], (0.45, 0.4, 1.2), Material.PLAIN)
        return
    color = [(0.05, 0.16, 0.08), (0.12, 0.12, 0.13)][seed % 2]
    row = builder.surface(Material.PLAIN, WorldClass.OTHER, instance, color, base, seed=seed)
    builder.cylinder(base, base + [0, 0, 0.95], (0.24, 0.28), 10, row)


def add_fence(
    builder: MeshBuilder, start: np.ndarray, end: np.ndarray, instance: int, wooden: bool, seed: int
) -> None:
    """Fence between two ground points: boards, or rails on posts."""
    start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    d = end - start
    length = float(np.linalg.norm(d))
    yaw = float(np.arctan2(d[1], d[0]))
    middle = (start + end) / 2
    color = (0.28, 0.19, 0.11) if wooden else (0.06, 0.09, 0.07)
    common = {"instance": instance, "color": color, "seed": seed}
    box = partial(builder.box, cls=WorldClass.FENCE, yaw=yaw, **common)
    if wooden:
        box(middle + [0, 0, 0.7], (length, 0.05, 1.4), Material.WOOD)
        return
    for z in (0.15, 0.95):
        box(middle + [0, 0, z], (length, 0.04, 0.05), Material.METAL)
    for s in np.linspace(0, 1, max(int(length / 0.45), 2)):
        box(start + d * s + [0, 0, 0.52], (0.035, 0.035, 1.04), Material.METAL, bottom=False)


def add_cone(builder: MeshBuilder, base: np.ndarray, instance: int) -> None:
    """Traffic cone."""
    base = np.asarray(base, dtype=np.float64)
    cls = WorldClass.TRAFFIC_CONE
    black = {"instance": instance, "color": (0.05, 0.05, 0.05)}
    builder.box(base + [0, 0, 0.02], (0.4, 0.4, 0.04), Material.RUBBER, cls, **black)
    orange = builder.surface(Material.PLAIN, cls, instance, (0.75, 0.16, 0.02), base)
    white = builder.surface(Material.PLAIN, cls, instance, (0.75, 0.75, 0.73), base)
    for a, b, row in ((0.04, 0.3, orange), (0.3, 0.48, white), (0.48, 0.75, orange)):
        radii = tuple(0.17 * (1 - z / 0.85) for z in (a, b))
        builder.cylinder(base + [0, 0, a], base + [0, 0, b], radii, 10, row)


def add_barrier(
    builder: MeshBuilder, start: np.ndarray, end: np.ndarray, instance: int, concrete: bool
) -> None:
    """Concrete or striped barrier between two ground points."""
    start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    d = end - start
    length, yaw = float(np.hypot(d[0], d[1])), float(np.arctan2(d[1], d[0]))
    middle = (start + end) / 2
    box = partial(builder.box, cls=WorldClass.BARRIER, instance=instance, yaw=yaw)
    if concrete:
        box(middle + [0, 0, 0.2], (length, 0.5, 0.4), Material.PANEL, color=(0.42, 0.41, 0.39))
        box(middle + [0, 0, 0.6], (length, 0.22, 0.4), Material.PANEL, color=(0.42, 0.41, 0.39))
        return
    box(middle + [0, 0, 0.85], (length, 0.05, 0.28), Material.STRIPES, color=(0.6, 0.04, 0.03))
    for s in (0.12, 0.88):
        box(start + d * s + [0, 0, 0.45], (0.08, 0.5, 0.9), Material.METAL, color=(0.5, 0.5, 0.5))


def add_billboard(
    builder: MeshBuilder, base: np.ndarray, yaw: float, seed: int, color: tuple, instance: int
) -> None:
    """Advertisement column with boards on two sides."""
    base, d = np.asarray(base, dtype=np.float64), _direction(yaw)
    side = np.array([-d[1], d[0], 0])
    box = partial(builder.box, cls=WorldClass.OTHER, yaw=yaw, instance=instance)
    box(base + [0, 0, 1.35], (0.16, 1.3, 2.1), Material.PLAIN, color=(0.12, 0.13, 0.14))
    for sign in (1, -1):
        face = base + sign * d * 0.085 + [0, 0, 0.4]
        left, right = face - side * sign * 0.6, face + side * sign * 0.6
        corners = [left, right, right + [0, 0, 1.9], left + [0, 0, 1.9]]
        look = {"instance": instance, "color": color, "seed": seed + sign}
        builder.patch(corners, Material.SIGN, WorldClass.OTHER, **look)
    row = builder.surface(Material.METAL, WorldClass.OTHER, instance, _STEEL, base)
    builder.cylinder(base, base + [0, 0, 0.4], (0.12, 0.12), 8, row)
