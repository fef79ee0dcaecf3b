"""Bicycles and motorcycles in their own frame: x forward, y left, z up, wheels on z = 0."""

from functools import partial

import numpy as np

from mmcity.toytown.world.materials import Material
from mmcity.toytown.world.meshes import MeshBuilder, icosphere
from mmcity.toytown.world.taxonomy import WorldClass
from mmcity.toytown.world.vehicles import VEHICLE_KINDS


def add_two_wheeler(
    builder: MeshBuilder, kind: str, color: tuple, instance: int, seed: int, has_rider: bool
) -> None:
    """Add a bicycle or motorcycle, with or without its rider."""
    spec = VEHICLE_KINDS[kind]
    is_motor = kind == "motorcycle"
    radius, axle = (0.31, 0.72) if is_motor else (0.34, 0.52)
    rubber = builder.surface(Material.RUBBER, spec.cls, instance, (0.03, 0.03, 0.03), seed=seed)
    look = {"axis_v": (0, 0, 1), "seed": seed}
    frame = builder.surface(Material.CAR_PAINT, spec.cls, instance, color, **look)
    spokes = builder.surface(Material.METAL, spec.cls, instance, (0.42, 0.43, 0.45), seed=seed)
    thick = 0.07 if is_motor else 0.025
    for x in (-axle, axle):
        builder.cylinder([x, -thick, radius], [x, thick, radius], (radius, radius), 16, rubber)
        rim = thick + 0.004
        builder.cylinder(
            [x, -rim, radius], [x, rim, radius], (0.86 * radius,) * 2, 16, spokes, False
        )
    tube = 0.05 if is_motor else 0.025
    saddle, bars = np.array([-0.25, 0, 0.9]), np.array([axle - 0.12, 0, 1.02])
    crank = np.array([0.0, 0, 0.35])
    for a, b in (
        ([-axle, 0, radius], crank),
        (crank, saddle),
        (crank, bars),
        (saddle, bars),
        ([axle, 0, radius], bars),
        ([-axle, 0, radius], saddle),
    ):
        builder.cylinder(a, b, (tube, tube), 6, frame)
    builder.cylinder(bars + [0, -0.28, 0.03], bars + [0, 0.28, 0.03], (0.02, 0.02), 6, rubber)
    box = partial(builder.box, cls=spec.cls, instance=instance)
    if is_motor:
        box((0.05, 0, 0.6), (0.75, 0.32, 0.4), Material.CAR_PAINT, color=color, seed=seed)
        black = (0.04, 0.04, 0.04)
        box((-0.45, 0, 0.8), (0.7, 0.26, 0.14), Material.RUBBER, color=black, seed=seed)
    if not has_rider:
        return
    rider = WorldClass.MOTORCYCLIST if is_motor else WorldClass.BICYCLIST
    palette = np.random.Generator(np.random.PCG64(seed))
    cloth, trousers = (
        builder.surface(
            Material.CLOTH, rider, instance, tuple(palette.uniform(*tones, 3)), seed=seed
        )
        for tones in ((0.03, 0.55), (0.02, 0.15))
    )
    tone = (0.06, 0.06, 0.07) if is_motor else (0.45, 0.28, 0.2)  # a helmet, or skin
    skin = builder.surface(Material.PLAIN, rider, instance, tone, seed=seed)
    hip, shoulder = np.array([-0.22, 0, 0.95]), np.array([0.1, 0, 1.42])
    builder.cylinder(hip, shoulder, (0.17, 0.19), 8, cloth)
    vertices, faces = icosphere(1)
    builder.triangles(vertices * [0.12, 0.11, 0.14] + [0.17, 0, 1.6], faces, skin, vertices)
    for sign in (-1, 1):
        knee = np.array([0.2, sign * 0.14, 0.72 + 0.1 * sign])
        foot = np.array([0.02, sign * 0.13, 0.28 + 0.12 * sign])
        builder.cylinder(hip + [0, sign * 0.1, 0], knee, (0.1, 0.075), 6, trousers)
        builder.cylinder(knee, foot, (0.07, 0.05), 6, trousers)
        hand = bars + [-0.02, sign * 0.22, 0.06]
        builder.cylinder(shoulder + [0, sign * 0.18, 0], hand, (0.06, 0.045), 6, cloth)
