"""Buildings: wings with inset windows, doors, shop fronts, roofs, chimneys, balconies."""

from functools import partial

import numpy as np

from mmcity.toytown.world.building_style import BuildingStyle, Lot, LotFrame
from mmcity.toytown.world.geometry2d import boxes_overlap, contains, oriented_corners
from mmcity.toytown.world.layout import Block
from mmcity.toytown.world.materials import Material
from mmcity.toytown.world.meshes import MeshBuilder
from mmcity.toytown.world.roofs import add_parapet, add_pitched_roof
from mmcity.toytown.world.taxonomy import WorldClass

_STOREY = 3.0


def plan_lots(block: Block, inner: np.ndarray, rng: np.random.Generator) -> list[Lot]:
    """Place lots along the border of a block without overlaps.

    Args:
        block: The block; parks and plazas get few or no buildings.
        inner: (N, 2) polygon inside the sidewalk.
        rng: Source of randomness.
    """
    if block.use == "park" or len(inner) < 3:
        return []
    lots, taken = [], []
    edges = range(len(inner)) if block.use == "built" else [int(rng.integers(len(inner)))]
    for i in edges:
        a, b = inner[i], inner[(i + 1) % len(inner)]
        length = float(np.hypot(*(b - a)))
        d = (b - a) / max(length, 1e-9)
        normal = np.array([-d[1], d[0]])
        yaw = float(np.arctan2(d[1], d[0]))
        s = 0.3
        while s < length - 7:
            width = float(min(rng.uniform(8.5, 16.0), length - s - 0.3))
            depth = float(rng.uniform(8.0, 12.0))
            setback = float(rng.choice([0.1, 0.1, 1.2, 2.5]))
            if rng.random() < 0.1:  # a gap in the row
                s += rng.uniform(3, 6)
                continue
            for shrink in (1.0, 0.75, 0.6):
                center = a + d * (s + width / 2) + normal * (setback + depth * shrink / 2)
                quad = oriented_corners(center, (width, depth * shrink), yaw)
                if contains(inner, quad).all() and not any(boxes_overlap(quad, q) for q in taken):
                    taken.append(quad)
                    lots.append(Lot(center, yaw, width, depth * shrink))
                    s += width
                    break
            else:
                s += 1.5
                continue
            s += float(rng.choice([0.0, 0.0, 0.0, 3.0]))
    return lots


def add_building(
    builder: MeshBuilder, lot: Lot, rng: np.random.Generator, instance: int, max_storeys: int = 6
) -> float:
    """Add one building and return its height in metres."""
    style = BuildingStyle(rng, instance)
    storeys = int(rng.choice(np.arange(2, max_storeys + 1)))
    shape = rng.choice(["box", "L", "T", "setback"], p=[0.5, 0.2, 0.12, 0.18])
    w, d = lot.width, lot.depth
    roof = str(rng.choice(["flat", "gable", "hip"], p=[0.4, 0.35, 0.25]))
    # Wings in the lot's frame: centre x, centre y, width, depth, first storey, storeys, roof.
    if shape == "L" and w > 9 and d > 8:
        split = 0.55 * d
        wings = [
            (0, -d / 2 + split / 2, w, split, 0, storeys, roof),
            (-w / 4, split / 2, w / 2, d - split, 0, max(storeys - 1, 1), "flat"),
        ]
    elif shape == "T" and w > 10 and d > 8:
        split = 0.6 * d
        wings = [
            (0, -d / 2 + split / 2, w, split, 0, storeys, roof),
            (0, split / 2, w / 3, d - split, 0, max(storeys - 1, 1), "flat"),
        ]
    elif shape == "setback" and storeys > 3:
        wings = [
            (0, 0, w, d, 0, storeys - 2, "flat"),
            (0, 0.6, 0.7 * w, 0.68 * d, storeys - 2, 2, roof),
        ]
    else:
        wings = [(0, 0, w, d, 0, storeys, roof)]
    top = 0.0
    for index, wing in enumerate(wings):
        top = max(top, _add_wing(builder, lot, style, wing, rng, is_front=index == 0))
    return top


def _add_wing(
    builder: MeshBuilder,
    lot: Lot,
    style: BuildingStyle,
    wing: tuple,
    rng: np.random.Generator,
    is_front: bool,
) -> float:
    x, y, w, d, first, storeys, roof = wing
    at = LotFrame(lot)
    z0, z1 = first * _STOREY, (first + storeys) * _STOREY + (0.4 if first == 0 else 0.0)
    x0, x1, y0, y1 = x - w / 2, x + w / 2, y - d / 2, y + d / 2
    base = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    parapet = 0.7 if roof == "flat" else 0.0
    for side in range(4):
        a, b = base[side], base[(side + 1) % 4]
        places = {"is_ground": first == 0, "is_street": is_front and side == 0}
        height = z1 - z0 + parapet
        _add_wall(builder, at(*a, z0), at(*b, z0), height, storeys, style, rng, **places)
    roof_args = {"instance": style.instance, "seed": style.seed}
    box = partial(builder.box, cls=WorldClass.BUILDING, yaw=lot.yaw, **roof_args)
    if roof == "flat":
        tone = float(rng.uniform(0.16, 0.42))
        color = (tone, tone * 0.98, tone * 0.95)
        corners = [at(*p, z1) for p in base]
        builder.patch(corners, Material.GRAVEL, WorldClass.BUILDING, color=color, **roof_args)
        add_parapet(builder, at, (x0, y0, x1, y1), z1, parapet, style)
        for _ in range(int(rng.integers(1, 4))):
            size = (*rng.uniform(0.8, 2.4, 2), rng.uniform(0.6, 1.6))
            cx, cy = rng.uniform(x0 + 1.6, x1 - 1.6), rng.uniform(y0 + 1.6, y1 - 1.6)
            box(at(cx, cy, z1 + size[2] / 2), size, Material.METAL, color=(0.45, 0.46, 0.47))
        return z1 + parapet
    rise = min(w, d) / 2 * float(rng.uniform(0.55, 0.95))
    add_pitched_roof(builder, at, (x0, y0, x1, y1), z1, rise, roof, style)
    for _ in range(int(rng.integers(1, 3))):
        cx, cy = rng.uniform(x0 + 1, x1 - 1), y + rng.uniform(-0.2, 0.2) * d
        size = (0.6, 0.8, rise + 0.8)
        box(at(cx, cy, z1 + size[2] / 2), size, Material.BRICK, color=(0.3, 0.13, 0.09))
    return z1 + rise


def _add_wall(
    builder: MeshBuilder,
    start: np.ndarray,
    end: np.ndarray,
    height: float,
    storeys: int,
    style: BuildingStyle,
    rng: np.random.Generator,
    is_ground: bool,
    is_street: bool,
) -> None:
    """Wall from start to end (outside on the right), with one row of openings per storey."""
    length = float(np.linalg.norm(end - start))
    d = (end - start) / max(length, 1e-9)
    inward = np.array([-d[1], d[0], 0.0])
    up = np.array([0.0, 0, 1])
    common = {"instance": style.instance, "seed": style.seed}
    axes = {"origin": start, "axis_u": d, "axis_v": up}
    surface = partial(builder.surface, cls=WorldClass.BUILDING, **axes, **common)
    wall = surface(style.material, color=style.color)
    reveal = surface(Material.PLASTER, color=style.trim)

    def at(s: float, z: float, depth: float = 0.0) -> np.ndarray:
        return start + d * s + up * z + inward * depth

    def plain(s0: float, s1: float, a: float, b: float) -> None:
        if s1 - s0 > 1e-6 and b - a > 1e-6:
            builder.quad([at(s0, a), at(s1, a), at(s1, b), at(s0, b)], wall)

    plinth = 0.4 if is_ground else 0.0
    count = int((length - 0.8) // style.spacing)
    if count < 1:
        plain(0, length, 0, height)
        return
    first = (length - (count - 1) * style.spacing) / 2
    centers = first + style.spacing * np.arange(count)
    z = 0.0
    for storey in range(storeys):
        ground = is_ground and storey == 0
        floor = _STOREY * storey + plinth if not ground else 0.0
        openings = _row_of_openings(centers, style, rng, ground, is_street)
        sill = min(o[2] for o in openings) + floor + (plinth if ground else 0)
        lintel = max(o[3] for o in openings) + floor + (plinth if ground else 0)
        plain(0, length, z, sill)
        s = 0.0
        for s0, s1, low, high, material, color, seed in openings:
            a = low + floor + (plinth if ground else 0)
            b = high + floor + (plinth if ground else 0)
            plain(s, s0, sill, lintel)
            plain(s0, s1, sill, a)
            plain(s0, s1, b, lintel)
            t = style.inset
            pane = [at(s0, a, t), at(s1, a, t), at(s1, b, t), at(s0, b, t)]
            look = {"color": color, "instance": style.instance, "seed": seed}
            builder.patch(pane, material, WorldClass.BUILDING, **look)
            for e in (
                [at(s0, a), at(s1, a), at(s1, a, t), at(s0, a, t)],
                [at(s0, b, t), at(s1, b, t), at(s1, b), at(s0, b)],
                [at(s0, a), at(s0, a, t), at(s0, b, t), at(s0, b)],
                [at(s1, a, t), at(s1, a), at(s1, b), at(s1, b, t)],
            ):
                builder.quad(e, reveal)
            if style.has_balconies and not ground and is_street and seed % 3 == 0:
                _add_balcony(builder, at, s0, s1, floor, style, d)
            s = s1
        plain(s, length, sill, lintel)
        z = lintel
    plain(0, length, z, height)
    if is_ground and is_street and storeys > 1:
        yaw = float(np.arctan2(d[1], d[0]))
        box = partial(builder.box, cls=WorldClass.BUILDING, yaw=yaw, **common)
        if style.has_shops:  # name board above the shop windows
            board = 0.6 * length
            a, b = length / 2 - board / 2, length / 2 + board / 2
            corners = [at(s, z, -0.1) for s, z in ((a, 2.95), (b, 2.95), (b, 3.45), (a, 3.45))]
            box(at(length / 2, 3.2, -0.04), (board, 0.1, 0.5), Material.PLAIN, color=style.accent)
            builder.patch(corners, Material.SIGN, WorldClass.BUILDING, color=style.accent, **common)
        else:
            box(at(length / 2, 3.35, -0.03), (length, 0.12, 0.2), Material.KERB, color=style.trim)


def _row_of_openings(
    centers: np.ndarray,
    style: BuildingStyle,
    rng: np.random.Generator,
    is_ground: bool,
    is_street: bool,
) -> list[tuple]:
    """Openings of a storey: (start, end, sill, lintel, material, colour, seed) from left."""
    rows = []
    door = int(rng.integers(len(centers))) if is_ground and is_street else -1
    for k, c in enumerate(centers):
        seed = int(rng.integers(1 << 31))
        w, h = style.window
        if k == door:
            rows.append((c - 0.55, c + 0.55, 0.0, 2.25, Material.DOOR, style.accent, seed))
        elif is_ground and is_street and style.has_shops:
            half = 0.5 * style.spacing - 0.18
            rows.append((c - half, c + half, 0.15, 2.5, Material.SHOP, style.accent, seed))
        else:
            rows.append((c - w / 2, c + w / 2, 0.85, 0.85 + h, Material.WINDOW, style.frame, seed))
    return rows


def _add_balcony(
    builder: MeshBuilder,
    at,
    s0: float,
    s1: float,
    floor: float,
    style: BuildingStyle,
    d: np.ndarray,
) -> None:
    yaw = float(np.arctan2(d[1], d[0]))
    width = s1 - s0 + 0.7
    common = {"instance": style.instance, "seed": style.seed}
    box = partial(builder.box, cls=WorldClass.BUILDING, yaw=yaw, **common)
    box(at((s0 + s1) / 2, floor + 0.05, -0.5), (width, 1.0, 0.15), Material.KERB, color=style.trim)
    rail = at((s0 + s1) / 2, floor + 0.6, -0.98)
    box(rail, (width, 0.05, 0.95), Material.METAL, color=(0.1, 0.11, 0.12))
