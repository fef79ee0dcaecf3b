"""The static city: street plan, ground, buildings, plants, furniture, parked vehicles."""

from dataclasses import dataclass, field

import numpy as np

from mmcity.toytown.world import furniture as fu
from mmcity.toytown.world.buildings import add_building, plan_lots
from mmcity.toytown.world.config import ToytownConfig
from mmcity.toytown.world.geometry2d import boxes_overlap, contains, inset, oriented_corners
from mmcity.toytown.world.layout import Block, Road, StreetPlan, make_street_plan
from mmcity.toytown.world.meshes import MeshBuilder, SurfaceMesh
from mmcity.toytown.world.streets import KERB_HEIGHT, add_ground, park_height, terrain_height
from mmcity.toytown.world.taxonomy import WorldClass
from mmcity.toytown.world.two_wheelers import add_two_wheeler
from mmcity.toytown.world.vegetation import add_bush, add_hedge, add_tree
from mmcity.toytown.world.vehicles import VEHICLE_KINDS, add_vehicle, paint_color


def stream(config: ToytownConfig, name: str, *extra: int) -> np.random.Generator:
    """Random generator of one named part, so that parts do not disturb each other."""
    key = [config.seed, *(ord(c) for c in name), *extra]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


@dataclass
class Instance:
    """A countable thing that stands still; ``center``, ``size`` and ``yaw`` are its box."""

    id: int
    cls: WorldClass
    kind: str
    center: np.ndarray | None = None
    size: tuple[float, float, float] | None = None
    yaw: float = 0.0


@dataclass
class World:
    """A static city.

    Attributes:
        config: What it was built from.
        plan: Roads, blocks and crossings.
        mesh: All static triangles in world coordinates (x east, y north, z up, metres).
        instances: Countable things by id (1, 2, ...).
    """

    config: ToytownConfig
    plan: StreetPlan
    mesh: SurfaceMesh
    instances: list[Instance] = field(default_factory=list)

    @property
    def low(self) -> np.ndarray:
        """(2,) lower corner of the town, outer kerb."""
        return self.plan.low

    @property
    def high(self) -> np.ndarray:
        """(2,) upper corner of the town."""
        return self.plan.high


class _Town:
    """State while the city is being built."""

    def __init__(self, config: ToytownConfig) -> None:
        self.config = config
        self.builder = MeshBuilder()
        self.instances: list[Instance] = []

    def new(self, cls: WorldClass, kind: str, **box) -> int:
        self.instances.append(Instance(len(self.instances) + 1, cls, kind, **box))
        return self.instances[-1].id


def build_world(config: ToytownConfig) -> World:
    """Build the static city of a configuration.

    Args:
        config: Settings; only those that concern the static city matter.

    Returns:
        World: Same settings give the same arrays.
    """
    plan = make_street_plan(config, stream(config, "plan"))
    town = _Town(config)
    add_ground(town.builder, plan, stream(config, "ground"))
    for index, block in enumerate(plan.blocks):
        _fill_block(town, block, stream(config, "block", index))
    for index, road in enumerate(plan.roads):
        _furnish_road(town, road, stream(config, "road", index))
    _plant_surroundings(town, plan, stream(config, "outside"))
    return World(config, plan, town.builder.build(), town.instances)


def _place_vehicle(
    town: _Town, position: np.ndarray, yaw: float, kind: str, rng: np.random.Generator
) -> None:
    spec = VEHICLE_KINDS[kind]
    center = np.array([position[0], position[1], position[2] + spec.size[2] / 2])
    key = town.new(spec.cls, kind, center=center, size=spec.size, yaw=yaw)
    local = MeshBuilder()
    color, seed = paint_color(rng), int(rng.integers(1 << 31))
    if kind in ("bicycle", "motorcycle"):
        add_two_wheeler(local, kind, color, key, seed, has_rider=False)
    else:
        add_vehicle(local, kind, color, key, seed)
    _insert(town.builder, local.build(), position, yaw)


def _insert(builder: MeshBuilder, mesh: SurfaceMesh, position: np.ndarray, yaw: float) -> None:
    """Place a mesh made in its own frame into the static city."""
    c, s = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    rows = [
        builder.surface(
            mesh.material[k],
            WorldClass(int(mesh.cls[k])),
            int(mesh.instance[k]),
            tuple(mesh.color[k]),
            origin=rotation @ mesh.origin[k] + position,
            axis_u=rotation @ mesh.axis_u[k],
            axis_v=rotation @ mesh.axis_v[k],
            extent=tuple(mesh.extent[k]),
            seed=int(mesh.seed[k]),
        )
        for k in range(len(mesh.material))
    ]
    vertices = mesh.vertices @ rotation.T + position
    normals = mesh.vertex_normals @ rotation.T
    for k in np.unique(mesh.face_surface):
        faces = mesh.faces[mesh.face_surface == k]
        used, index = np.unique(faces, return_inverse=True)
        builder.triangles(vertices[used], index.reshape(-1, 3), rows[k], normals[used])


def _fill_block(town: _Town, block: Block, rng: np.random.Generator) -> None:
    clutter = town.config.clutter
    inner = inset(block.polygon, block.sidewalk)
    if len(inner) < 3:
        return
    taken = []
    tallest = int(rng.integers(3, 8))
    for lot in plan_lots(block, inner, rng):
        key = town.new(WorldClass.BUILDING, "building")
        height = add_building(town.builder, lot, rng, key, tallest)
        town.instances[-1].center = np.array([*lot.center, KERB_HEIGHT + height / 2])
        town.instances[-1].size = (lot.width, lot.depth, height)
        town.instances[-1].yaw = lot.yaw
        taken.append(oriented_corners(lot.center, (lot.width + 1.2, lot.depth + 1.2), lot.yaw))

    def is_free(point: np.ndarray, radius: float) -> bool:
        square = oriented_corners(point, (2 * radius, 2 * radius), 0.0)
        return contains(inner, square).all() and not any(boxes_overlap(square, q) for q in taken)

    low, high = inner.min(0), inner.max(0)
    ground = (
        (lambda p: float(park_height(p[None], inner)[0]))
        if block.use == "park"
        else (lambda p: KERB_HEIGHT)
    )
    land = float(np.prod(high - low))
    per_tree = {"park": 55.0, "plaza": 150.0, "built": 45.0}[block.use]
    for _ in range(int(land / per_tree * clutter)):
        point = rng.uniform(low, high)
        if is_free(point, 1.6):
            base = np.array([*point, ground(point)])
            key = town.new(WorldClass.VEGETATION, "tree")
            add_tree(town.builder, base, float(rng.uniform(4.5, 9.5)), rng, key)
            taken.append(oriented_corners(point, (3.0, 3.0), 0.0))
    for _ in range(0 if block.use == "plaza" else int(land / 70.0 * clutter)):
        point = rng.uniform(low, high)
        if is_free(point, 0.8):
            base = np.array([*point, ground(point)])
            key = town.new(WorldClass.VEGETATION, "bush")
            add_bush(town.builder, base, float(rng.uniform(0.5, 1.0)), rng, key)
            taken.append(oriented_corners(point, (1.6, 1.6), 0.0))
    for _ in range(int(land / 160.0 * clutter)):
        point = rng.uniform(low, high)
        yaw = float(rng.uniform(0, 2 * np.pi))
        if is_free(point, 1.2):
            base = np.array([*point, ground(point)])
            if rng.random() < 0.3 and block.use != "built":
                key = town.new(WorldClass.OTHER, "billboard")
                color = tuple(rng.uniform(0.05, 0.5, 3))
                fu.add_billboard(town.builder, base, yaw, int(rng.integers(1 << 31)), color, key)
            else:
                fu.add_bench(town.builder, base, yaw, town.new(WorldClass.OTHER, "bench"))
            taken.append(oriented_corners(point, (2.4, 2.4), 0.0))
    if block.use == "plaza":
        _add_building_site(town, inner, is_free, rng)
    _edge_block(town, block, inner, taken, rng)
    _furnish_sidewalk(town, block, rng)


def _edge_block(
    town: _Town, block: Block, inner: np.ndarray, taken: list, rng: np.random.Generator
) -> None:
    """Hedges and fences along the border where no building stands."""
    if block.use == "plaza":
        return
    for i in range(len(inner)):
        a, b = inner[i], inner[(i + 1) % len(inner)]
        length = float(np.hypot(*(b - a)))
        d = (b - a) / length
        normal = np.array([-d[1], d[0]])
        style = int(rng.integers(4))
        seed = int(rng.integers(1 << 31))
        for s in np.arange(1.5, length - 4.5, 4.0):
            p, q = a + d * s + normal * 0.5, a + d * (s + 3.9) + normal * 0.5
            strip = oriented_corners((p + q) / 2, (3.9, 0.6), float(np.arctan2(d[1], d[0])))
            if rng.random() < 0.2 or any(boxes_overlap(strip, t) for t in taken):
                continue
            start, end = np.array([*p, KERB_HEIGHT]), np.array([*q, KERB_HEIGHT])
            if style == 0:
                key = town.new(WorldClass.VEGETATION, "hedge")
                add_hedge(town.builder, start, end, float(rng.uniform(0.9, 1.5)), rng, key)
            elif style < 3:
                key = town.new(WorldClass.FENCE, "fence")
                fu.add_fence(town.builder, start, end, key, style == 1, seed)


def _add_building_site(town: _Town, inner: np.ndarray, is_free, rng: np.random.Generator) -> None:
    low, high = inner.min(0), inner.max(0)
    for _ in range(30):
        point = rng.uniform(low, high)
        if is_free(point, 5.0):
            break
    else:
        return
    base = np.array([*point, KERB_HEIGHT])
    yaw = float(rng.uniform(0, 2 * np.pi))
    _place_vehicle(town, base, yaw, "construction", rng)
    for k in range(4):
        angle = yaw + k * np.pi / 2
        d = np.array([np.cos(angle), np.sin(angle), 0])
        side = np.array([-d[1], d[0], 0])
        key = town.new(WorldClass.BARRIER, "barrier")
        start = base + d * 4.6 - side * 1.8
        fu.add_barrier(town.builder, start, start + side * 3.6, key, concrete=k % 2 == 0)
        corner = base + d * 4.4 + side * 3.2
        fu.add_cone(town.builder, corner, town.new(WorldClass.TRAFFIC_CONE, "cone"))


def _furnish_sidewalk(town: _Town, block: Block, rng: np.random.Generator) -> None:
    """Lamps, trees, bins and signs along the kerb."""
    row = inset(block.polygon, 0.55)
    if len(row) < 3:
        return
    for i in range(len(row)):
        a, b = row[i], row[(i + 1) % len(row)]
        length = float(np.hypot(*(b - a)))
        d = (b - a) / length
        outward = float(np.arctan2(-d[0], d[1]))
        has_trees = rng.random() < 0.45
        for k, s in enumerate(np.arange(6.5, length - 6.0, 4.2)):
            base = np.array([*(a + d * (s + rng.uniform(-0.5, 0.5))), KERB_HEIGHT])
            if k % 4 == 1:
                fu.add_lamp(town.builder, base, outward, town.new(WorldClass.POLE, "lamp"))
            elif rng.random() > 0.75 * town.config.clutter:
                continue
            elif has_trees and rng.random() < 0.6:
                key = town.new(WorldClass.VEGETATION, "tree")
                add_tree(town.builder, base, float(rng.uniform(4.0, 6.0)), rng, key)
            elif rng.random() < 0.35:
                key = town.new(WorldClass.TRAFFIC_SIGN, "sign")
                yaw = float(np.arctan2(d[1], d[0])) + (0 if rng.random() < 0.5 else np.pi)
                fu.add_sign(
                    town.builder, base, yaw, int(rng.integers(4)), int(rng.integers(1 << 31)), key
                )
            elif rng.random() < 0.5:
                seed = int(rng.integers(1 << 31))
                fu.add_bin(town.builder, base, seed, town.new(WorldClass.OTHER, "bin"))
            elif rng.random() < 0.5:
                kind = "bicycle" if rng.random() < 0.7 else "motorcycle"
                inward = np.array([-d[1], d[0], 0]) * 0.1
                _place_vehicle(town, base + inward, float(np.arctan2(d[1], d[0])), kind, rng)
            else:
                key = town.new(WorldClass.OTHER, "billboard")
                color = tuple(rng.uniform(0.05, 0.5, 3))
                yaw, seed = float(np.arctan2(d[1], d[0])), int(rng.integers(1 << 31))
                fu.add_billboard(town.builder, base, yaw, seed, color, key)


def _furnish_road(town: _Town, road: Road, rng: np.random.Generator) -> None:
    """Parked vehicles, traffic lights and a few road works."""
    d = road.direction
    side = np.array([-d[1], d[0]])
    yaw = float(np.arctan2(d[1], d[0]))
    begin, end = road.trims[0] + 6.5, road.length - road.trims[1] - 6.5
    if road.has_parking:
        kinds = ["car", "hatchback", "van", "car", "truck", "trailer"]
        share = np.array([0.42, 0.24, 0.14, 0.1, 0.06, 0.04])
        for sign in (-1, 1):
            s = begin
            while s < end - 3:
                kind = str(rng.choice(kinds, p=share))
                length = VEHICLE_KINDS[kind].size[0]
                if s + length > end:
                    break
                if rng.random() < 0.62 * min(town.config.clutter, 1.5):
                    middle = (
                        road.start
                        + d * (s + length / 2)
                        + side * sign * (road.width / 2 - 0.1 - VEHICLE_KINDS[kind].size[1] / 2)
                    )
                    heading = yaw if sign < 0 else yaw + np.pi
                    jitter = float(rng.normal(0, 0.015))
                    _place_vehicle(town, np.array([*middle, 0.0]), heading + jitter, kind, rng)
                s += length + float(rng.uniform(0.7, 1.6))
    if town.config.clutter > 0 and not road.has_parking and rng.random() < 0.35:
        s = rng.uniform(begin + 3, max(end - 6, begin + 3.1))
        edge = road.start + d * s + side * (road.width / 2 - 0.5)
        for k in range(4):
            base = np.array([*(edge + d * 1.3 * k - side * 0.12 * k), 0.0])
            fu.add_cone(town.builder, base, town.new(WorldClass.TRAFFIC_CONE, "cone"))
    for end_node, sign, trim in ((road.start, 1, road.trims[0]), (road.end, -1, road.trims[1])):
        # On the right-hand kerb of the lane that enters the junction.
        base = end_node + sign * d * (trim + 4.2) + sign * side * (road.width / 2 + 0.35)
        facing = yaw if sign > 0 else yaw + np.pi
        if trim < 14:
            key = town.new(WorldClass.TRAFFIC_LIGHT, "traffic light")
            fu.add_traffic_light(town.builder, np.array([*base, KERB_HEIGHT]), facing, key)


def _plant_surroundings(town: _Town, plan: StreetPlan, rng: np.random.Generator) -> None:
    low, high = plan.low, plan.high
    perimeter = 2 * float((high - low).sum())
    for _ in range(int(perimeter / 5 * min(town.config.clutter, 1.5))):
        distance = 4.0 + 55.0 * rng.random() ** 1.5
        t = rng.random() * 4
        along = low - distance + (high - low + 2 * distance) * (t % 1)
        point = [
            np.array([along[0], low[1] - distance]),
            np.array([high[0] + distance, along[1]]),
            np.array([along[0], high[1] + distance]),
            np.array([low[0] - distance, along[1]]),
        ][int(t)]
        base = np.array([*point, float(terrain_height(point[None], low, high)[0]) - 0.2])
        key = town.new(WorldClass.VEGETATION, "tree")
        detail = 2 if distance < 30 else 1
        add_tree(town.builder, base, float(rng.uniform(5, 12)), rng, key, detail)
