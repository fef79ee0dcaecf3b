"""Vehicles in their own frame: x forward, y left, z up, wheels on z = 0."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from mmcity.toytown.world.materials import Material
from mmcity.toytown.world.meshes import MeshBuilder
from mmcity.toytown.world.taxonomy import WorldClass


@dataclass(frozen=True)
class VehicleKind:
    """Class, size (length, width, height in metres) and share in traffic (0: only parked)."""

    cls: WorldClass
    size: tuple[float, float, float]
    share: float


VEHICLE_KINDS = {
    "car": VehicleKind(WorldClass.CAR, (4.4, 1.82, 1.5), 0.5),
    "hatchback": VehicleKind(WorldClass.CAR, (3.8, 1.74, 1.52), 0.18),
    "van": VehicleKind(WorldClass.CAR, (5.0, 1.98, 2.1), 0.1),
    "truck": VehicleKind(WorldClass.TRUCK, (7.6, 2.4, 3.2), 0.08),
    "bus": VehicleKind(WorldClass.BUS, (10.8, 2.55, 3.1), 0.05),
    "trailer": VehicleKind(WorldClass.TRAILER, (5.6, 2.2, 2.6), 0.0),
    "construction": VehicleKind(WorldClass.CONSTRUCTION_VEHICLE, (5.6, 2.4, 3.04), 0.0),
    "bicycle": VehicleKind(WorldClass.BICYCLE, (1.76, 0.6, 1.76), 0.04),
    "motorcycle": VehicleKind(WorldClass.MOTORCYCLE, (2.1, 0.75, 1.76), 0.02),
}
_PAINTS = [
    *((0.55, 0.55, 0.56), (0.75, 0.75, 0.74), (0.03, 0.03, 0.035), (0.4, 0.03, 0.03)),
    *((0.04, 0.09, 0.3), (0.2, 0.21, 0.23), (0.04, 0.18, 0.1)),
    *((0.6, 0.42, 0.05), (0.05, 0.28, 0.4), (0.35, 0.1, 0.04)),
]


def paint_color(rng: np.random.Generator) -> tuple:
    """Colour of a vehicle, linear."""
    return tuple(np.array(_PAINTS[rng.integers(len(_PAINTS))]) * rng.uniform(0.85, 1.1))


def _loft(
    builder: MeshBuilder, stations: list[tuple], sides: int, tops: list[int], bottom: int | None
) -> None:
    """Closed hull through cross sections (x, z low, z high, half width low, half width high).

    ``tops`` names the surface of the upper face of each segment.
    """
    sections = [
        [[x, w0, z0], [x, w1, z1], [x, -w1, z1], [x, -w0, z0]] for x, z0, z1, w0, w1 in stations
    ]
    for k in range(len(sections) - 1):
        a, b = sections[k], sections[k + 1]
        builder.quad([b[0], a[0], a[1], b[1]], sides)
        builder.quad([a[3], b[3], b[2], a[2]], sides)
        builder.quad([a[1], a[2], b[2], b[1]], tops[k])
        if bottom is not None:
            builder.quad([a[0], b[0], b[3], a[3]], bottom)
    builder.quad([sections[0][0], sections[0][3], sections[0][2], sections[0][1]], tops[0])
    builder.quad([sections[-1][3], sections[-1][0], sections[-1][1], sections[-1][2]], tops[-1])


def _wheels(
    builder: MeshBuilder, axles: list[float], half: float, radius: float, cls: int, instance: int
) -> None:
    rubber = builder.surface(Material.RUBBER, cls, instance, (0.025, 0.025, 0.027))
    hub = builder.surface(Material.METAL, cls, instance, (0.4, 0.41, 0.42))
    for x in axles:
        for sign in (-1, 1):
            inner = np.array([x, sign * (half - 0.24), radius])
            outer = np.array([x, sign * (half + 0.005), radius])
            builder.cylinder(inner, outer, (radius, radius), 14, rubber)
            builder.cylinder(
                outer, outer + [0, sign * 0.012, 0], (0.6 * radius, 0.5 * radius), 10, hub, False
            )


def _lights(
    builder: MeshBuilder, front: float, back: float, half: float, z: float, cls: int, instance: int
) -> None:
    box = partial(builder.box, cls=cls, instance=instance)
    for sign in (-1, 1):
        for x, color in ((front, (0.8, 0.8, 0.72)), (back, (0.5, 0.02, 0.02))):
            box((x, sign * (half - 0.2), z), (0.06, 0.32, 0.14), Material.PLAIN, color=color)
    for x in (front, back):
        box((x, 0, z - 0.22), (0.04, 0.5, 0.11), Material.PLAIN, color=(0.7, 0.7, 0.66))


def add_vehicle(builder: MeshBuilder, kind: str, color: tuple, instance: int, seed: int) -> None:
    """Add a four-wheeled vehicle of a kind of :data:`VEHICLE_KINDS` around its origin."""
    spec = VEHICLE_KINDS[kind]
    cls = spec.cls
    # Lamps and hubs stand out a little; the box encloses them.
    length, width, height = spec.size[0] - 0.08, spec.size[1] - 0.04, spec.size[2]
    half = width / 2
    paint = builder.surface(Material.CAR_PAINT, cls, instance, color, axis_v=(0, 0, 1), seed=seed)
    top = builder.surface(Material.CAR_PAINT, cls, instance, color, seed=seed)
    glass = builder.surface(
        Material.GLASS, cls, instance, (0.05, 0.05, 0.06), axis_v=(0, 0, 1), seed=seed
    )
    dark = builder.surface(Material.PLAIN, cls, instance, (0.03, 0.03, 0.03), seed=seed)
    box = partial(builder.box, cls=cls, instance=instance)
    if kind in ("car", "hatchback"):
        f, r = length / 2, -length / 2
        stations = [
            (r, 0.38, 0.8, half * 0.84, half * 0.84),
            (r + 0.15, 0.24, 0.93, half * 0.94, half * 0.92),
            (r + 1.0, 0.2, 0.95, half, half * 0.96),
            (f - 1.3, 0.2, 0.9, half, half * 0.96),
            (f - 0.25, 0.24, 0.74, half * 0.94, half * 0.88),
            (f, 0.36, 0.64, half * 0.8, half * 0.8),
        ]
        _loft(builder, stations, paint, [top] * 5, dark)
        tail = 0.55 if kind == "car" else 0.1
        stations = [
            (r + tail, 0.93, 0.95, half * 0.9, half * 0.88),
            (r + tail + 0.65, 0.93, height - 0.03, half * 0.92, half * 0.72),
            (f - 2.1, 0.9, height, half * 0.92, half * 0.72),
            (f - 1.2, 0.88, 0.9, half * 0.9, half * 0.86),
        ]
        _loft(builder, stations, glass, [glass, top, glass], None)
        _wheels(builder, [r + 0.75, f - 0.8], half, 0.32, cls, instance)
        _lights(builder, f - 0.06, r + 0.03, half * 0.86, 0.62, cls, instance)
    elif kind == "van":
        f, r = length / 2, -length / 2
        stations = [
            (r, 0.3, height - 0.05, half, half * 0.94),
            (f - 1.9, 0.3, height, half, half * 0.94),
            (f - 1.0, 0.3, 1.15, half, half * 0.94),
            (f, 0.35, 0.85, half * 0.9, half * 0.85),
        ]
        _loft(builder, stations, paint, [top, glass, top], dark)
        for sign in (-1, 1):
            box((f - 1.85, sign * half * 0.965, 1.5), (0.9, 0.03, 0.5), Material.GLASS, seed=seed)
        _wheels(builder, [r + 0.9, f - 0.9], half, 0.36, cls, instance)
        _lights(builder, f - 0.05, r, half * 0.9, 0.75, cls, instance)
    elif kind == "bus":
        box((0, 0, 1.72), (length, width, 2.75), Material.CAR_PAINT, color=color, seed=seed)
        for sign in (-1, 1):
            for k in range(6):
                x = -length / 2 + 1.2 + k * 1.6
                y = sign * (half + 0.01)
                corners = [[x, y, 1.5], [x + 1.4, y, 1.5], [x + 1.4, y, 2.55], [x, y, 2.55]]
                builder.quad(corners if sign < 0 else corners[::-1], glass)
            place, size = (0, sign * (half + 0.005), 0.9), (length * 0.98, 0.02, 0.25)
            box(place, size, Material.PLAIN, color=(0.72, 0.72, 0.7))
        box((length / 2, 0, 1.9), (0.05, width * 0.9, 1.3), Material.GLASS, seed=seed)
        x, black = length / 2 + 0.03, (0.05, 0.05, 0.05)
        board = [[x, -0.8, 2.65], [x, 0.8, 2.65], [x, 0.8, 2.95], [x, -0.8, 2.95]]
        builder.patch(board, Material.SIGN, cls, instance=instance, color=black, seed=seed)
        _wheels(builder, [-length / 2 + 2.4, length / 2 - 2.2], half, 0.48, cls, instance)
        _lights(builder, length / 2, -length / 2, half, 0.85, cls, instance)
    elif kind == "truck":
        cargo, grey = length - 2.3, (0.66, 0.66, 0.63)
        place, size = (-length / 2 + cargo / 2, 0, 2.0), (cargo, width, height - 0.85)
        box(place, size, Material.PANEL, color=grey, seed=seed)
        for sign in (-1, 1):
            y, ends = sign * (half + 0.01), (-length / 2 + 0.5, -length / 2 + cargo - 0.5)
            a, b = ends[::-sign]  # seen from outside, from left to right
            side = [[a, y, 1.3], [b, y, 1.3], [b, y, 2.7], [a, y, 2.7]]
            builder.patch(side, Material.SIGN, cls, instance=instance, color=color, seed=seed)
        size = (length * 0.95, width * 0.5, 0.25)
        box((0, 0, 0.68), size, Material.METAL, color=(0.06, 0.06, 0.06))
        f = length / 2
        stations = [
            (f - 2.1, 0.5, 2.6, half * 0.97, half * 0.9),
            (f - 0.5, 0.5, 2.55, half * 0.97, half * 0.9),
            (f - 0.12, 0.5, 1.5, half * 0.97, half * 0.94),
            (f, 0.5, 1.1, half * 0.95, half * 0.94),
        ]
        _loft(builder, stations, paint, [top, glass, top], dark)
        for sign in (-1, 1):
            box((f - 1.15, sign * half * 0.955, 1.95), (0.9, 0.04, 0.65), Material.GLASS, seed=seed)
        _wheels(builder, [-f + 1.3, f - 1.2], half, 0.46, cls, instance)
        _lights(builder, f - 0.02, -f, half, 0.8, cls, instance)
    elif kind == "trailer":
        size = (length * 0.92, width, height - 0.5)
        box((0, 0, 1.55), size, Material.PANEL, color=color, seed=seed)
        place, size = (length * 0.46, 0, 0.45), (length * 0.08, 0.12, 0.1)
        box(place, size, Material.METAL, color=(0.05, 0.05, 0.05))
        _wheels(builder, [-0.9, 0.1], half, 0.36, cls, instance)
    else:
        _add_excavator(builder, cls, instance, seed)


def _add_excavator(builder: MeshBuilder, cls: int, instance: int, seed: int) -> None:
    yellow = {"instance": instance, "color": (0.68, 0.4, 0.03), "seed": seed}
    box = partial(builder.box, cls=cls, instance=instance)
    tracks = {"color": (0.05, 0.05, 0.05), "seed": seed}
    for sign in (-1, 1):
        box((-0.6, sign * 0.95, 0.4), (3.2, 0.5, 0.8), Material.RUBBER, **tracks)
    builder.box((-0.9, 0, 1.35), (2.5, 2.2, 0.95), Material.METAL, cls, **yellow)
    box((-0.2, 0.6, 2.2), (1.3, 0.95, 1.4), Material.GLASS, seed=seed)
    builder.box((-0.2, 0.6, 2.95), (1.4, 1.05, 0.1), Material.METAL, cls, **yellow)
    arm = builder.surface(Material.METAL, cls, instance, (0.68, 0.4, 0.03), seed=seed)
    builder.cylinder([0.3, -0.4, 1.6], [1.7, -0.4, 2.9], (0.2, 0.16), 4, arm, smooth=False)
    builder.cylinder([1.7, -0.4, 2.9], [2.5, -0.4, 1.1], (0.16, 0.13), 4, arm, smooth=False)
    box((2.45, -0.4, 0.75), (0.7, 0.9, 0.7), Material.METAL, color=(0.2, 0.19, 0.18))
