"""Ground of the town: carriageway, markings, kerbs, sidewalks, lawns and the land around."""

import numpy as np

from mmcity.toytown.world.geometry2d import inset, round_corners
from mmcity.toytown.world.layout import CORNER_RADIUS, Road, StreetPlan
from mmcity.toytown.world.materials import Material
from mmcity.toytown.world.meshes import MeshBuilder
from mmcity.toytown.world.noise import fbm
from mmcity.toytown.world.taxonomy import WorldClass

KERB_HEIGHT = 0.15
#: Paint lies this far above the asphalt, so that rays meet it first.
_PAINT = 0.006
_SIDEWALK_COLOR = (0.33, 0.32, 0.3)
_PAINT_COLOR = (0.72, 0.72, 0.7)


def add_ground(builder: MeshBuilder, plan: StreetPlan, rng: np.random.Generator) -> None:
    """Add everything one can walk or drive on."""
    low, high = plan.low, plan.high
    asphalt = builder.surface(Material.ASPHALT, WorldClass.ROAD, color=(0.115, 0.115, 0.12))
    builder.quad(
        [[low[0], low[1], 0], [high[0], low[1], 0], [high[0], high[1], 0], [low[0], high[1], 0]],
        asphalt,
    )
    for road in plan.roads:
        _add_markings(builder, road)
    paint = builder.surface(Material.ROAD_PAINT, WorldClass.ROAD_LINE, color=_PAINT_COLOR)
    for crossing in plan.crossings:
        along = np.array([-crossing.across[1], crossing.across[0]])
        count = int((crossing.length - 0.4) // 1.0)
        for k in range(count):
            middle = crossing.center + crossing.across * (k - (count - 1) / 2) * 1.0
            _painted(builder, middle, along, 3.0, 0.5, paint)
    for block in plan.blocks:
        _add_block(builder, block.polygon, block.use, block.sidewalk, rng)
    _add_surroundings(builder, low, high)


def _painted(
    builder: MeshBuilder,
    center: np.ndarray,
    along: np.ndarray,
    length: float,
    width: float,
    surface: int,
) -> None:
    side = np.array([-along[1], along[0]]) * (width / 2)
    half = along * (length / 2)
    begin, end = center - half, center + half
    corners = [begin - side, end - side, end + side, begin + side]
    builder.quad([[*c, _PAINT] for c in corners], surface)


def _add_markings(builder: MeshBuilder, road: Road) -> None:
    paint = builder.surface(Material.ROAD_PAINT, WorldClass.ROAD_LINE, color=_PAINT_COLOR)
    d = road.direction
    side = np.array([-d[1], d[0]])
    begin, end = road.trims[0] + 5.5, road.length - road.trims[1] - 5.5
    for s in np.arange(begin + 1.0, end - 2.0, 5.0):
        _painted(builder, road.start + d * (s + 1.0), d, 2.4, 0.14, paint)
    # Stop lines on the right-hand lane, before the crossing at either end.
    for s, sign in ((road.trims[0] + 4.6, 1), (road.length - road.trims[1] - 4.6, -1)):
        middle = road.start + d * s + side * (sign * road.width / 4)
        _painted(builder, middle, side, road.width / 2 - 0.5, 0.4, paint)
    if road.has_parking:
        for sign in (-1, 1):
            middle = road.start + d * (begin + end) / 2 + side * sign * (road.width / 2 - 2.0)
            for s in np.arange(begin, end + 0.1, 6.0):
                tick = road.start + d * s + side * sign * (road.width / 2 - 1.05)
                _painted(builder, tick, side, 1.9, 0.1, paint)
            _painted(builder, middle, d, end - begin, 0.1, paint)
    else:
        for sign in (-1, 1):
            middle = road.start + d * (begin + end) / 2 + side * sign * (road.width / 2 - 0.35)
            _painted(builder, middle, d, end - begin, 0.12, paint)


def _add_block(
    builder: MeshBuilder, polygon: np.ndarray, use: str, sidewalk: float, rng: np.random.Generator
) -> None:
    z = KERB_HEIGHT
    outer = round_corners(polygon, CORNER_RADIUS)
    kerb = round_corners(inset(polygon, 0.18), CORNER_RADIUS - 0.18)
    inner_polygon = inset(polygon, sidewalk)
    inner = round_corners(inner_polygon, max(CORNER_RADIUS - sidewalk, 0.6))
    stone = builder.surface(Material.KERB, WorldClass.SIDEWALK, color=(0.42, 0.41, 0.39))
    builder.ring(outer, kerb, z, z, stone)
    arc = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(outer, axis=0).T))])
    for i in range(len(outer)):
        a, b = outer[i], outer[(i + 1) % len(outer)]
        if np.hypot(*(b - a)) > 1e-6:
            face = [[*a, 0.0], [*b, 0.0], [*b, z], [*a, z]]
            look = {"color": (0.4, 0.39, 0.37), "seed": int(arc[i] * 10)}
            builder.patch(face, Material.KERB, WorldClass.SIDEWALK, **look)
    paving = builder.surface(
        Material.PAVING, WorldClass.SIDEWALK, color=_SIDEWALK_COLOR, seed=int(rng.integers(1 << 31))
    )
    builder.ring(kerb, inner, z, z, paving)
    if use == "plaza":
        tone = rng.uniform(0.2, 0.3)
        look = {"color": (tone * 1.05, tone, tone * 0.92), "seed": int(rng.integers(1 << 31))}
        cobble = builder.surface(Material.COBBLE, WorldClass.OTHER_FLAT, **look)
        builder.polygon(inner, z, cobble)
        return
    grass = builder.surface(Material.GRASS, WorldClass.TERRAIN)
    if use == "park":
        _add_lawn(builder, inner_polygon, inner, z, grass)
    else:
        builder.polygon(inner, z, grass)


def park_height(points: np.ndarray, polygon: np.ndarray, z: float = KERB_HEIGHT) -> np.ndarray:
    """Height of a park's lawn at points (M, 2): rises gently away from its border, (M,)."""
    center = polygon.mean(0)
    x, y = points.astype(np.float32).T
    bump = fbm(x, y, np.zeros_like(x), 77, 0.06, 2) * 0.5 + 0.4
    edges = np.roll(polygon, -1, axis=0) - polygon
    normals = np.column_stack([-edges[:, 1], edges[:, 0]])
    normals = normals / np.hypot(*normals.T)[:, None]
    border = (points @ normals.T - (polygon * normals).sum(1)).min(1)
    reach = max(float((center @ normals.T - (polygon * normals).sum(1)).min()), 1.0)
    return z + np.clip(border / reach, 0, 1) ** 1.5 * 1.1 * np.clip(bump, 0.05, 1)


def _add_lawn(
    builder: MeshBuilder, polygon: np.ndarray, border: np.ndarray, z: float, surface: int
) -> None:
    center = border.mean(0)
    shares = np.linspace(1.0, 0.0, 13)[:-1]
    rings = np.stack([center + (border - center) * s for s in shares])  # (R, N, 2)
    heights = np.stack([park_height(r, polygon, z) for r in rings])
    heights[0] = z
    count = len(border)
    middle = [*center, float(park_height(center[None], polygon, z)[0])]
    around = np.dstack([rings, heights[..., None]]).reshape(-1, 3)
    points = np.concatenate([around, [middle]])
    faces = []
    i, j = np.arange(count), (np.arange(count) + 1) % count
    for r in range(len(shares) - 1):
        a, b = r * count, (r + 1) * count
        faces += [np.column_stack([a + i, a + j, b + j]), np.column_stack([a + i, b + j, b + i])]
    last = (len(shares) - 1) * count
    faces.append(np.column_stack([last + i, last + j, np.full(count, len(points) - 1)]))
    builder.triangles(
        points, np.concatenate(faces), surface, _smooth(points, np.concatenate(faces))
    )


def _smooth(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(total, faces[:, k], normal)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def terrain_height(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Height of the land around the town at points (M, 2), (M,) metres."""
    outside = np.maximum(np.maximum(low - points, points - high), 0)
    distance = np.hypot(*outside.T)
    x, y = points.astype(np.float32).T
    zero = np.zeros_like(x)
    gentle = 0.5 + 0.5 * fbm(x, y, zero, 91, 0.02, 3)
    hills = np.clip(0.45 + 0.75 * fbm(x, y, zero, 92, 0.004, 3), 0, 2)
    rise = np.clip((distance - 2.5) / 40, 0, 1)
    far = np.clip((distance - 60) / 600, 0, 1)
    return KERB_HEIGHT + 2.0 * rise * gentle + 75.0 * far**1.3 * hills


def _add_surroundings(builder: MeshBuilder, low: np.ndarray, high: np.ndarray) -> None:
    """Outer sidewalk and the land beyond, as frames of growing size around the town."""
    offsets = [0, 2.2, 5, 9, 14, 21, 30, 42, 58, 80, 110, 150, 210, 300, 430, 620, 900, 1400]
    per_side = 24
    t = np.arange(per_side) / per_side
    zeros, ones = np.zeros(per_side), np.ones(per_side)
    sides = ((t, zeros), (ones, t), (1 - t, ones), (zeros, 1 - t))
    square = np.concatenate([np.column_stack(side) for side in sides])
    frames = [(low - o) + square * (high - low + 2 * o) for o in offsets]
    n = len(square)
    i, j = np.arange(n), (np.arange(n) + 1) % n
    walk = np.concatenate([frames[0], frames[1]])
    strip = np.concatenate([np.column_stack([n + i, n + j, j]), np.column_stack([n + i, j, i])])
    z = np.full((2 * n, 1), KERB_HEIGHT)
    paving = builder.surface(Material.PAVING, WorldClass.SIDEWALK, color=_SIDEWALK_COLOR, seed=5)
    builder.triangles(np.hstack([walk, z]), strip, paving)
    kerb = builder.surface(
        Material.KERB, WorldClass.SIDEWALK, color=(0.4, 0.39, 0.37), axis_v=(0, 0, 1)
    )
    builder.ring(frames[0], frames[0], KERB_HEIGHT, 0.0, kerb)
    land = np.concatenate(frames[1:])
    heights = terrain_height(land, low, high)
    heights[:n] = KERB_HEIGHT
    vertices = np.column_stack([land, heights])
    faces = np.concatenate([strip + k * n for k in range(len(frames) - 2)])
    grass = builder.surface(Material.GRASS, WorldClass.TERRAIN)
    builder.triangles(vertices, faces, grass, _smooth(vertices, faces))
