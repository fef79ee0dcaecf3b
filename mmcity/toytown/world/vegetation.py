"""Trees and hedges."""

from functools import partial

import numpy as np

from mmcity.toytown.world.materials import Material
from mmcity.toytown.world.meshes import MeshBuilder, icosphere, unit
from mmcity.toytown.world.noise import fbm
from mmcity.toytown.world.taxonomy import WorldClass

_GREENS = [(0.085, 0.15, 0.035), (0.06, 0.12, 0.03), (0.13, 0.17, 0.045), (0.07, 0.13, 0.06)]
_AUTUMN = (0.28, 0.15, 0.035)


def _blob(
    builder: MeshBuilder,
    center: np.ndarray,
    radii: np.ndarray,
    surface: int,
    rng: np.random.Generator,
    detail: int,
) -> None:
    """Perturbed ellipsoid, shaded smoothly with the normals of the bumpy surface."""
    vertices, faces = icosphere(detail)
    seed = int(rng.integers(1 << 31))
    x, y, z = (2.0 * vertices).astype(np.float32).T
    zero = np.zeros_like(x)
    bump = fbm(x + 0.7 * z + 9, y - 0.6 * z + 9, zero, seed, 0.7, 3) * 0.28
    shaped = vertices * (1 + bump[:, None]) * radii
    corners = shaped[faces]
    face_normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(shaped)
    for k in range(3):
        np.add.at(normals, faces[:, k], face_normal)
    builder.triangles(shaped + center, faces, surface, unit(normals))


def add_tree(
    builder: MeshBuilder,
    base: np.ndarray,
    height: float,
    rng: np.random.Generator,
    instance: int,
    detail: int = 2,
) -> None:
    """Add a broad-leaved tree or a conifer that stands at ``base`` (3,)."""
    base = np.asarray(base, dtype=np.float64)
    seed = int(rng.integers(1 << 31))
    color = _AUTUMN if rng.random() < 0.08 else _GREENS[rng.integers(4)]
    color = tuple(np.array(color) * rng.uniform(0.8, 1.3, 3))
    surface = partial(builder.surface, instance=instance, origin=base, seed=seed)
    bark = surface(Material.BARK, WorldClass.TRUNK, color=(0.13, 0.09, 0.06))
    leaves = surface(Material.LEAVES, WorldClass.VEGETATION, color=color)
    conifer = rng.random() < 0.2
    trunk = height * (0.15 if conifer else rng.uniform(0.28, 0.38))
    radius = 0.028 * height + 0.03
    builder.cylinder(
        base - [0, 0, 0.3], base + [0, 0, trunk + 0.15 * height], (radius, 0.6 * radius), 8, bark
    )
    if conifer:
        for k in range(4):
            share = k / 4
            z = trunk + (height - trunk) * share
            r = height * 0.24 * (1 - 0.75 * share)
            middle = base + [0, 0, z + 0.13 * height]
            _blob(builder, middle, np.array([r, r, 0.2 * height]), leaves, rng, detail)
        return
    crown = height - trunk
    for k in range(int(rng.integers(4, 7))):
        angle = rng.uniform(0, 2 * np.pi)
        reach = 0.0 if k == 0 else rng.uniform(0.2, 0.34) * crown
        r = crown * (0.4 if k == 0 else rng.uniform(0.22, 0.32)) * rng.uniform(0.9, 1.1, 3)
        lift = trunk + crown * (0.55 if k == 0 else rng.uniform(0.3, 0.72))
        middle = base + [reach * np.cos(angle), reach * np.sin(angle), lift]
        _blob(builder, middle, r, leaves, rng, detail)


def add_bush(
    builder: MeshBuilder, base: np.ndarray, size: float, rng: np.random.Generator, instance: int
) -> None:
    """Add a low bush."""
    color = tuple(np.array(_GREENS[rng.integers(4)]) * rng.uniform(0.8, 1.4, 3))
    seed = int(rng.integers(1 << 31))
    row = builder.surface(Material.LEAVES, WorldClass.VEGETATION, instance, color, base, seed=seed)
    radii = size * rng.uniform(0.8, 1.2, 3)
    _blob(builder, np.asarray(base) + [0, 0, 0.6 * size], radii, row, rng, 2)


def add_hedge(
    builder: MeshBuilder,
    start: np.ndarray,
    end: np.ndarray,
    height: float,
    rng: np.random.Generator,
    instance: int,
) -> None:
    """Add a clipped hedge between two ground points (3,)."""
    start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    d = end - start
    length = float(np.hypot(d[0], d[1]))
    color = tuple(np.array(_GREENS[rng.integers(3)]) * rng.uniform(0.8, 1.2, 3))
    middle, yaw = (start + end) / 2 + [0, 0, height / 2], float(np.arctan2(d[1], d[0]))
    look = {"color": color, "instance": instance, "seed": int(rng.integers(1 << 31))}
    size = (length, 0.6, height)
    builder.box(middle, size, Material.LEAVES, WorldClass.VEGETATION, yaw=yaw, **look)
