"""Procedural materials: albedo at hit points in local texture coordinates.

Each material is a function of a :class:`Patch`. Only position, footprint and the surface
row enter, so a surface looks the same from everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from mmcity.toytown.world.noise import cell_hash, fbm, fbm3, pulse, ridge


class Material(IntEnum):
    """Material of a surface."""

    PLAIN = 0
    ASPHALT = 1
    ROAD_PAINT = 2
    PAVING = 3
    KERB = 4
    GRASS = 5
    COBBLE = 6
    BRICK = 7
    PLASTER = 8
    PANEL = 9
    STONE = 10
    WINDOW = 11
    DOOR = 12
    ROOF_TILE = 13
    GRAVEL = 14
    METAL = 15
    CAR_PAINT = 16
    GLASS = 17
    RUBBER = 18
    LEAVES = 19
    BARK = 20
    WOOD = 21
    CLOTH = 22
    SIGN = 23
    STRIPES = 24
    SHOP = 25


@dataclass
class Patch:
    """Hit points of one material.

    Attributes:
        u: (N,) metres along the surface frame.
        v: (N,) metres.
        w: (N,) metres along the frame's normal (for solid textures).
        footprint: (N,) metres on the surface that one sample covers.
        color: (N, 3) base colour, linear.
        extent: (N, 2) width and height of the surface.
        seed: (N,) uint32.
    """

    u: np.ndarray
    v: np.ndarray
    w: np.ndarray
    footprint: np.ndarray
    color: np.ndarray
    extent: np.ndarray
    seed: np.ndarray


def _mix(a: np.ndarray | tuple, b: np.ndarray | tuple, t: np.ndarray) -> np.ndarray:
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return a + (b - a) * t[:, None]


def _shade(color: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return color * factor[:, None]


def _plain(p: Patch) -> np.ndarray:
    return _shade(p.color, 1 + 0.06 * fbm(p.u, p.v, p.footprint, p.seed, 3.0, 2))


def _asphalt(p: Patch) -> np.ndarray:
    wear = fbm(p.u, p.v, p.footprint, 11, 0.12, 3)
    grain = fbm(p.u, p.v, p.footprint, 12, 6.0, 3, 0.8)
    # Patches where the road was opened: cells of a coarse grid, darker and smoother.
    patch = (cell_hash(p.u / 5.3, p.v / 4.1, 13) > 0.9).astype(np.float32)
    crack = np.abs(fbm(p.u, p.v, p.footprint, 14, 0.35, 3, 0.6))
    crack = np.clip(1 - crack / (0.008 + p.footprint), 0, 1) * np.clip(0.012 / p.footprint, 0, 1)
    crack = crack * (fbm(p.u, p.v, p.footprint, 16, 0.11, 2) > 0.1)
    return _shade(p.color, (1 + 0.16 * wear + 0.2 * grain) * (1 - 0.22 * patch) * (1 - 0.4 * crack))


def _road_paint(p: Patch) -> np.ndarray:
    worn = fbm(p.u, p.v, p.footprint, 15, 2.5, 3, 0.7)
    return _mix(p.color, (0.13, 0.13, 0.135), np.clip(0.12 + 0.45 * worn, 0, 0.8))


def _tiles(p: Patch, du: float, dv: float, joint: float, shift: float) -> tuple:
    """Cells of a running bond: joint coverage (N,) and a random number per cell (N,)."""
    row = np.floor(p.v / dv)
    along = p.u + shift * du * np.mod(row, 2)
    cover = 1 - (1 - pulse(along, du, joint, p.footprint)) * (
        1 - pulse(p.v, dv, joint, p.footprint)
    )
    # Cells smaller than the footprint must not flicker: fade the variation to its mean.
    keep = np.clip(2 - 2 * p.footprint / min(du, dv), 0, 1)
    return cover, (cell_hash(along / du, row, p.seed) - 0.5) * keep


def _paving(p: Patch) -> np.ndarray:
    joint, tone = _tiles(p, 0.6, 0.4, 0.018, 0.5)
    stain = fbm(p.u, p.v, p.footprint, 21, 0.4, 4, 0.6)
    base = _shade(p.color, 1 + 0.28 * tone + 0.16 * stain)
    return base * (1 - 0.55 * joint)[:, None]


def _kerb(p: Patch) -> np.ndarray:
    joint = pulse(p.u + 0.31 * p.v, 1.0, 0.015, p.footprint)
    return _shade(p.color, (1 + 0.12 * fbm(p.u, p.v, p.footprint, 22, 3.0, 3)) * (1 - 0.4 * joint))


def _grass(p: Patch) -> np.ndarray:
    field = fbm(p.u, p.v, p.footprint, 31, 0.05, 3)
    tuft = fbm(p.u, p.v, p.footprint, 32, 0.8, 5, 0.75)
    dry = np.clip(0.25 + 0.6 * field, 0, 1)
    base = _mix((0.075, 0.14, 0.035), (0.2, 0.19, 0.075), dry)
    return _shade(base, np.clip(1 + 0.42 * tuft, 0.25, 2))


def _cobble(p: Patch) -> np.ndarray:
    joint, tone = _tiles(p, 0.22, 0.18, 0.025, 0.5)
    big, big_tone = _tiles(p, 4.0, 4.0, 0.25, 0.0)
    base = _shade(p.color, 1 + 0.5 * tone + 0.1 * big_tone)
    base = _mix(base, (0.35, 0.32, 0.28), 0.7 * big)
    stain = fbm(p.u, p.v, p.footprint, 41, 0.25, 3)
    return _shade(base, (1 - 0.5 * joint) * (1 + 0.12 * stain))


def _grime(p: Patch) -> np.ndarray:
    """Darkening factor of walls: blotches and streaks that run down, (N,)."""
    blotch = fbm(p.u, p.v, p.footprint, p.seed + np.uint32(5), 0.3, 3, 0.6)
    streak = fbm(p.u * 4.0, p.v * 0.25, 4.0 * p.footprint, p.seed + np.uint32(6), 0.5, 2)
    splash = np.exp(-np.maximum(p.v, 0) / 0.5)
    return (1 + 0.12 * blotch + 0.08 * streak) * (1 - 0.25 * splash)


def _brick(p: Patch) -> np.ndarray:
    joint, tone = _tiles(p, 0.25, 0.085, 0.014, 0.5)
    grain = fbm(p.u, p.v, p.footprint, p.seed, 9.0, 2)
    patch = fbm(p.u, p.v, p.footprint, p.seed + np.uint32(9), 0.7, 2)
    base = _shade(p.color, 1 + 0.75 * tone + 0.12 * grain + 0.13 * patch)
    return _shade(_mix(base, (0.42, 0.39, 0.35), 0.85 * joint), _grime(p))


def _plaster(p: Patch) -> np.ndarray:
    rough = fbm(p.u, p.v, p.footprint, p.seed, 5.0, 3, 0.7)
    return _shade(p.color, (1 + 0.1 * rough) * _grime(p))


def _panel(p: Patch) -> np.ndarray:
    joint, tone = _tiles(p, 1.5, 3.0, 0.03, 0.0)
    rough = fbm(p.u, p.v, p.footprint, p.seed, 2.5, 4, 0.65)
    return _shade(p.color, (1 + 0.16 * tone + 0.12 * rough) * (1 - 0.5 * joint) * _grime(p))


def _stone(p: Patch) -> np.ndarray:
    joint, tone = _tiles(p, 0.8, 0.4, 0.02, 0.5)
    rough = fbm(p.u, p.v, p.footprint, p.seed, 3.0, 4, 0.7)
    return _shade(p.color, (1 + 0.3 * tone + 0.17 * rough) * (1 - 0.45 * joint) * _grime(p))


def _pane(p: Patch) -> np.ndarray:
    """Glass that stands for the dark room behind it, with a hint of a bright sky above."""
    room = cell_hash(np.zeros_like(p.u), np.zeros_like(p.v), p.seed)
    rise = np.clip(p.v / np.maximum(p.extent[:, 1], 0.1), 0, 1)
    cloud = fbm(p.u + 3 * room, p.v, p.footprint, p.seed, 0.8, 3)
    glass = _mix((0.025, 0.032, 0.04), (0.16, 0.21, 0.27), np.clip(0.75 * rise + 0.4 * cloud, 0, 1))
    curtain = (room > 0.62) * ridge(
        np.abs(p.u / np.maximum(p.extent[:, 0], 0.1) - 0.5),
        0.24 + 0.2 * (room - 0.62),
        9.0,
        p.footprint,
    )
    folds = 0.85 + 0.15 * np.sin(p.u * 45.0) * np.clip(1.5 - p.footprint * 20, 0, 1)
    cloth = np.stack([0.55 * folds, (0.3 + 0.5 * (1 - room)) * folds, 0.42 * folds], axis=1)
    blind = (room < 0.18) * ridge(rise, 0.2 + 3.5 * room, 2.0, p.footprint)
    glass = glass + (cloth - glass) * (0.8 * curtain)[:, None]
    return _mix(glass, (0.5, 0.48, 0.44), 0.85 * blind)


def _window(p: Patch) -> np.ndarray:
    width, height = p.extent[:, 0], p.extent[:, 1]
    frame = np.float32(0.07)
    open_u = ridge(p.u, frame, width - frame, p.footprint)
    open_v = ridge(p.v, frame, height - frame, p.footprint)
    bar_u = ridge(p.u, 0.5 * width - 0.03, 0.5 * width + 0.03, p.footprint)
    bar_v = ridge(p.v, 0.68 * height - 0.025, 0.68 * height + 0.025, p.footprint)
    glazed = open_u * open_v * (1 - bar_u) * (1 - bar_v)
    return _mix(p.color, _pane(p), glazed)


def _door(p: Patch) -> np.ndarray:
    width, height = p.extent[:, 0], p.extent[:, 1]
    panel = ridge(p.u, 0.15 * width, 0.85 * width, p.footprint) * (
        1 - pulse(p.v + 0.1, height / 3, 0.12, p.footprint)
    )
    light = ridge(p.v, 0.82 * height, 0.94 * height, p.footprint) * ridge(
        p.u, 0.2 * width, 0.8 * width, p.footprint
    )
    base = _shade(
        p.color, (1 + 0.1 * fbm(p.u * 6, p.v, p.footprint * 6, p.seed, 1.0, 2)) * (1 - 0.25 * panel)
    )
    return _mix(base, (0.08, 0.1, 0.12), light)


def _shop(p: Patch) -> np.ndarray:
    """Shop window: goods on shelves behind glass, in the colours of the shop."""
    pane = pulse(p.u, 1.6, 0.08, p.footprint)
    foot = 1 - ridge(p.v, 0.25, p.extent[:, 1] - 0.08, p.footprint)
    row = p.v / 0.42
    shelf = np.floor(row)
    tone = cell_hash(p.u / 0.14, shelf, p.seed)
    hue = cell_hash(p.u / 0.14, shelf, p.seed + np.uint32(77))
    keep = np.clip(2 - p.footprint / 0.07, 0, 1) * (row - shelf < 0.3 + 0.55 * tone)
    goods = np.stack([0.12 + 0.3 * hue, 0.14 + 0.2 * tone, 0.12 + 0.25 * (1 - hue)], axis=1)
    mean = np.array([0.16, 0.15, 0.15], np.float32)
    inside = mean + (goods * (0.3 + 0.9 * tone)[:, None] - mean) * keep[:, None]
    inside = inside * (0.55 + 0.3 * np.clip(p.v / 2.0, 0, 1))[:, None]
    return _mix(inside, p.color, np.clip(pane + foot, 0, 1))


def _roof_tile(p: Patch) -> np.ndarray:
    joint, tone = _tiles(p, 0.3, 0.36, 0.03, 0.5)
    wave = 0.5 + 0.5 * np.cos(p.u * (2 * np.pi / 0.3)) * np.clip(1.6 - 8 * p.footprint, 0, 1)
    moss = np.clip(fbm(p.u, p.v, p.footprint, p.seed, 0.35, 4, 0.65), 0, 1)
    base = _shade(p.color, (1 + 0.6 * tone) * (0.8 + 0.25 * wave) * (1 - 0.5 * joint))
    return _mix(base, (0.1, 0.12, 0.06), 0.55 * moss)


def _gravel(p: Patch) -> np.ndarray:
    stones = fbm(p.u, p.v, p.footprint, p.seed, 5.0, 3, 0.9)
    puddle = fbm(p.u, p.v, p.footprint, p.seed, 0.25, 3)
    seam = pulse(p.u, 2.2, 0.06, p.footprint)
    return _shade(p.color, (1 + 0.22 * stones + 0.28 * puddle) * (1 - 0.2 * seam))


def _metal(p: Patch) -> np.ndarray:
    brushed = fbm(p.u * 5, p.v, p.footprint * 5, p.seed, 1.5, 2)
    rust = np.clip(fbm(p.u, p.v, p.footprint, p.seed, 1.2, 3) - 0.25, 0, 1)
    return _mix(_shade(p.color, 1 + 0.12 * brushed), (0.2, 0.09, 0.04), 0.6 * rust)


def _car_paint(p: Patch) -> np.ndarray:
    dust = fbm(p.u, p.v, p.footprint, p.seed, 0.9, 3)
    seam = pulse(p.u + 0.37, 1.05, 0.012, p.footprint)
    return _shade(p.color, (1 + 0.1 * dust) * (1 - 0.6 * seam))


def _glass(p: Patch) -> np.ndarray:
    glare = fbm(p.u, p.v, p.footprint, p.seed, 0.7, 2)
    return _mix((0.03, 0.037, 0.045), (0.17, 0.2, 0.24), np.clip(0.35 + 0.6 * glare, 0, 1))


def _rubber(p: Patch) -> np.ndarray:
    tread = fbm(p.u, p.v, p.footprint, p.seed, 12.0, 2)
    return _shade(p.color, 1 + 0.3 * tread)


def _leaves(p: Patch) -> np.ndarray:
    solid = np.column_stack([p.u, p.v, p.w])
    clump = fbm3(solid, p.footprint, p.seed, 0.9, 2)
    leaf = fbm3(solid, p.footprint, 51, 3.6, 3, 0.95)
    light = np.clip(1 + 0.4 * clump + 0.6 * leaf, 0.15, 2.4)
    warm = np.stack([1 + 0.25 * leaf, np.ones_like(leaf), 1 - 0.2 * leaf], axis=1)
    return _shade(p.color, light) * warm


def _bark(p: Patch) -> np.ndarray:
    angle = p.u + 0.7 * p.v
    rough = fbm(angle * 6, p.w, p.footprint * 4, p.seed, 2.5, 3, 0.7)
    return _shade(p.color, np.clip(1 + 0.5 * rough, 0.2, 2))


def _wood(p: Patch) -> np.ndarray:
    plank = pulse(p.v, 0.14, 0.015, p.footprint)
    grain = fbm(p.u, p.v * 9, p.footprint * 5, p.seed, 1.4, 3)
    return _shade(p.color, (1 + 0.3 * grain) * (1 - 0.55 * plank))


def _cloth(p: Patch) -> np.ndarray:
    fold = fbm(p.u, p.v, p.footprint, p.seed, 5.0, 2)
    return _shade(p.color, 1 + 0.25 * fold)


def _sign(p: Patch) -> np.ndarray:
    """Board with a border, a band and rows of blocks that read as letters from afar."""
    width, height = p.extent[:, 0], p.extent[:, 1]
    rim = 0.06 * np.minimum(width, height)
    inner = ridge(p.u, rim, width - rim, p.footprint) * ridge(p.v, rim, height - rim, p.footprint)
    rows = np.maximum(np.floor(height / 0.55), 1.0)
    pitch = height / rows
    row = np.floor(p.v / pitch)
    line = ridge(p.v - row * pitch, 0.25 * pitch, 0.78 * pitch, p.footprint)
    glyph = cell_hash(p.u / (0.22 * pitch), row, p.seed)
    stroke = cell_hash(p.u / (0.22 * pitch), p.v / (0.17 * pitch), p.seed + np.uint32(3))
    ink = (glyph > 0.24) * (stroke > 0.35) * np.clip(2 - p.footprint / (0.11 * pitch), 0, 1)
    ink = ink + 0.5 * np.clip(p.footprint / (0.11 * pitch) - 1, 0, 1) * (ink == 0)
    base = _mix((0.75, 0.75, 0.72), p.color, inner)
    return _mix(base, (0.85, 0.84, 0.78), np.clip(ink, 0, 1) * line * inner)


def _stripes(p: Patch) -> np.ndarray:
    band = pulse(p.u + p.v, 0.5, 0.25, p.footprint)
    base = _mix(p.color, (0.8, 0.8, 0.78), band)
    return _shade(base, 1 + 0.08 * fbm(p.u, p.v, p.footprint, p.seed, 4.0, 2))


_SHADERS: dict[Material, Callable[[Patch], np.ndarray]] = {
    Material.PLAIN: _plain,
    Material.ASPHALT: _asphalt,
    Material.ROAD_PAINT: _road_paint,
    Material.PAVING: _paving,
    Material.KERB: _kerb,
    Material.GRASS: _grass,
    Material.COBBLE: _cobble,
    Material.BRICK: _brick,
    Material.PLASTER: _plaster,
    Material.PANEL: _panel,
    Material.STONE: _stone,
    Material.WINDOW: _window,
    Material.DOOR: _door,
    Material.ROOF_TILE: _roof_tile,
    Material.GRAVEL: _gravel,
    Material.METAL: _metal,
    Material.CAR_PAINT: _car_paint,
    Material.GLASS: _glass,
    Material.RUBBER: _rubber,
    Material.LEAVES: _leaves,
    Material.BARK: _bark,
    Material.WOOD: _wood,
    Material.CLOTH: _cloth,
    Material.SIGN: _sign,
    Material.STRIPES: _stripes,
    Material.SHOP: _shop,
}


def albedo(material: np.ndarray, patch: Patch) -> np.ndarray:
    """Linear albedo of hit points of mixed materials.

    Args:
        material: (N,) uint8.
        patch: Inputs of the N points.

    Returns:
        np.ndarray: (N, 3) float32 in [0, 1].
    """
    out = np.empty((len(material), 3), dtype=np.float32)
    order = np.argsort(material, kind="stable")
    values, starts = np.unique(material[order], return_index=True)
    for value, rows in zip(values, np.split(order, starts[1:])):
        part = Patch(*[getattr(patch, name)[rows] for name in Patch.__dataclass_fields__])
        out[rows] = _SHADERS[Material(value)](part)
    return np.clip(out, 0.0, 1.0, out=out)
