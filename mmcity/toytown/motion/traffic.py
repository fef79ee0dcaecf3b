"""Traffic: vehicles follow lanes and each other, people walk and cross; 10 Hz."""

from dataclasses import dataclass, field

import numpy as np

from mmcity.toytown.motion.agents import STEP, Agent, Traffic
from mmcity.toytown.motion.lanes import LaneGraph, Path2D, footways
from mmcity.toytown.world.config import ToytownConfig
from mmcity.toytown.world.meshes import MeshBuilder
from mmcity.toytown.world.people import PEDESTRIAN_SIZE, make_pedestrian
from mmcity.toytown.world.streets import KERB_HEIGHT
from mmcity.toytown.world.taxonomy import WorldClass
from mmcity.toytown.world.town import World, stream
from mmcity.toytown.world.two_wheelers import add_two_wheeler
from mmcity.toytown.world.vehicles import VEHICLE_KINDS, add_vehicle, paint_color

#: Seconds of green for each direction of a junction, and of red for all in between.
_GREEN, _CLEAR = 7.0, 3.0


@dataclass
class _Driver:
    kind: str
    path: Path2D
    stops: list[tuple[float, int, bool]]
    s: float
    cruise: float
    speed: float = 0.0
    is_ego: bool = False
    log: list = field(default_factory=list)

    @property
    def size(self) -> tuple[float, float, float]:
        return VEHICLE_KINDS[self.kind].size


@dataclass
class _Walker:
    path: Path2D
    kerbs: list[tuple[float, float]]  # arc lengths where a crossing begins and ends
    s: float
    cruise: float
    height: float
    log: list = field(default_factory=list)
    walked: float = 0.0


def simulate_traffic(
    world: World,
    config: ToytownConfig | None = None,
    duration: float = 10.0,
    num_vehicles: int | None = None,
    num_pedestrians: int | None = None,
    has_ego: bool = False,
    warm_up: float = 6.0,
) -> Traffic:
    """Simulate the agents of one sequence.

    Vehicles follow lanes with a car-following speed, stop at red lights and for people,
    and turn at random; people walk round the blocks and cross at zebra crossings.

    Args:
        world: The static city.
        config: Its ``sequence_seed`` and ``traffic`` count; None takes the world's.
        duration: Seconds.
        num_vehicles: None takes about one per 55 m of road.
        num_pedestrians: None takes about one per 25 m of road.
        has_ego: Add the ego car, the first vehicle.
        warm_up: Seconds simulated before time 0, so that it starts in motion. Defaults to 6.

    Returns:
        Traffic: Same world, seed and arguments give the same tracks.
    """
    config = config or world.config
    rng = stream(config, "traffic", config.sequence_seed)
    road_length = sum(r.length for r in world.plan.roads)
    if num_vehicles is None:
        num_vehicles = int(round(road_length / 55 * config.traffic))
    if num_pedestrians is None:
        num_pedestrians = int(round(road_length / 25 * config.traffic))
    drivers = _start_drivers(world, rng, num_vehicles, duration + warm_up, has_ego)
    walkers = _start_walkers(world, rng, num_pedestrians, duration + warm_up)
    steps, warm = int(round(duration / STEP)) + 1, int(round(warm_up / STEP))
    for k in range(-warm, steps):
        _step(drivers, walkers, (k + warm) * STEP)
        for driver in drivers:
            x, y = driver.path.at(driver.s)
            driver.log.append((x, y, 0.0, float(driver.path.heading(driver.s)), driver.s))
        for walker in walkers:
            x, y = walker.path.at(walker.s)
            heading = float(walker.path.heading(walker.s, 0.4))
            walker.log.append((x, y, _kerb_height(walker), heading, walker.walked))
    agents, next_id = [], len(world.instances) + 1
    for number, agent in enumerate([*drivers, *walkers]):
        track = np.array(agent.log[warm:])
        track[:, 3] = np.unwrap(track[:, 3])
        look = stream(config, "look", config.sequence_seed, number)
        if isinstance(agent, _Driver):
            agents.append(_finish_driver(agent, track, look, next_id + number))
        else:
            agents.append(_finish_walker(agent, track, look, next_id + number))
    ego = next((a for a in agents if a.is_ego), None)
    return Traffic(agents, duration, ego)


def _start_drivers(
    world: World, rng: np.random.Generator, count: int, duration: float, has_ego: bool
) -> list[_Driver]:
    graph = LaneGraph(world.plan)
    kinds = [k for k, v in VEHICLE_KINDS.items() if v.share > 0]
    shares = np.array([VEHICLE_KINDS[k].share for k in kinds])
    drivers: list[_Driver] = []
    for _ in range(20 * (count + has_ego)):
        if len(drivers) >= count + has_ego:
            break
        is_ego = has_ego and not drivers
        kind = "car" if is_ego else str(rng.choice(kinds, p=shares / shares.sum()))
        path, stops = graph.route(int(rng.integers(len(graph.lanes))), 14 * duration + 60, rng)
        s = float(rng.uniform(3, 30))
        here = path.at(s)
        if any(np.hypot(*(here - d.path.at(d.s))) < 13 for d in drivers):
            continue
        cruise = float(rng.uniform(4, 6) if kind == "bicycle" else rng.uniform(7, 11))
        drivers.append(_Driver(kind, path, stops, s, cruise, 0.6 * cruise, is_ego))
    return drivers


def _start_walkers(
    world: World, rng: np.random.Generator, count: int, duration: float
) -> list[_Walker]:
    lines = footways(world.plan)
    walkers = []
    for _ in range(count if lines else 0):
        path, kerbs = _walk(world, lines, int(rng.integers(len(lines))), 2.2 * duration + 20, rng)
        height = float(np.clip(rng.normal(1.75, 0.1), 1.4, 1.98))
        walkers.append(
            _Walker(path, kerbs, float(rng.uniform(0, 12)), float(rng.uniform(0.9, 1.7)), height)
        )
    return walkers


def _walk(
    world: World, lines: list[np.ndarray], start: int, length: float, rng: np.random.Generator
) -> tuple[Path2D, list[tuple[float, float]]]:
    """Round blocks, now and then over a crossing to the next one."""
    points: list[np.ndarray] = []
    kerbs = []
    current, total = start, 0.0
    at = int(rng.integers(len(lines[current])))
    forward = 1 if rng.random() < 0.5 else -1
    side = float(rng.uniform(-0.35, 0.35))
    for _ in range(500):
        line = lines[current]
        points.append(line[at])
        if len(points) > 1:
            total += float(np.hypot(*(points[-1] - points[-2])))
        if total > length:
            break
        if len(points) > 2 and rng.random() < 0.12:
            over = _crossing_near(world, lines, current, line[at])
            if over is not None:
                entry, leave, current, at = over
                points += [entry, leave, lines[current][at]]
                before = total + float(np.hypot(*(entry - points[-4])))
                after = before + float(np.hypot(*(leave - entry)))
                kerbs.append((before, after))
                total = after + float(np.hypot(*(lines[current][at] - leave)))
                forward = 1 if rng.random() < 0.5 else -1
        at = (at + forward) % len(lines[current])
    path = np.array(points)
    if len(kerbs) == 0:
        d = np.gradient(path, axis=0)
        normal = np.column_stack([-d[:, 1], d[:, 0]]) / np.maximum(np.hypot(*d.T), 1e-6)[:, None]
        path = path + side * normal
    return Path2D(path), kerbs


def _crossing_near(
    world: World, lines: list[np.ndarray], block: int, point: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int, int] | None:
    for crossing in world.plan.crossings:
        half = crossing.across * (crossing.length / 2)
        for sign in (1, -1):
            entry, leave = crossing.center - sign * half, crossing.center + sign * half
            if np.hypot(*(entry - point)) < 6.0:
                for other, line in enumerate(lines):
                    distance = np.hypot(*(line - leave).T)
                    if other != block and distance.min() < 6.0:
                        return entry, leave, other, int(distance.argmin())
    return None


def _is_red(node: int, along_y: bool, time: float) -> bool:
    phase = (time + 3.7 * (node % 5)) % (2 * (_GREEN + _CLEAR))
    begin = 0.0 if along_y else _GREEN + _CLEAR
    return not begin <= phase < begin + _GREEN


def _step(drivers: list[_Driver], walkers: list[_Walker], time: float) -> None:
    """Move everyone by one step; those ahead are where they were at its beginning."""
    places = [d.path.at(d.s) for d in drivers] + [w.path.at(w.s) for w in walkers]
    places = np.array(places).reshape(-1, 2)
    # Vehicles are seen as three points along their length.
    yaws = [float(d.path.heading(d.s)) for d in drivers]
    blobs, owners = [], []
    for k, driver in enumerate(drivers):
        d = np.array([np.cos(yaws[k]), np.sin(yaws[k])])
        for share in (-0.45, 0.0, 0.45):
            blobs.append(places[k] + share * driver.size[0] * d)
            owners.append(k)
    for k, walker in enumerate(walkers):
        if any(a - 0.8 < walker.s < b for a, b in walker.kerbs):
            blobs.append(places[len(drivers) + k])
            owners.append(len(drivers) + k)
    blobs, owners = np.array(blobs).reshape(-1, 2), np.array(owners)
    for k, driver in enumerate(drivers):
        free = _free_way(driver, k, blobs, owners)
        for s, node, along_y in driver.stops:
            gap = s - driver.s - driver.size[0] / 2
            if -0.5 < gap < 30 and _is_red(node, along_y, time) and gap > driver.speed**2 / 14 - 1:
                free = min(free, max(gap, 0.0))
        # The speed from which one can stop in the free way, with a second of headway.
        allowed = max(0.0, np.sqrt(1.0 + 5.0 * max(free - 0.3, 0)) - 1.0)
        turn = abs(_wrap(float(driver.path.heading(driver.s + 6)) - yaws[k]))
        wanted = min(driver.cruise * (0.5 if turn > 0.35 else 1.0), allowed)
        change = np.clip(wanted - driver.speed, -6.0 * STEP, 1.8 * STEP)
        driver.speed = max(0.0, driver.speed + float(change))
        driver.s = min(driver.s + driver.speed * STEP, driver.path.length - 0.01)
    for walker in walkers:
        speed = walker.cruise
        for a, _ in walker.kerbs:
            if 0 <= a - walker.s < 0.5 and len(drivers):
                near = np.hypot(*(places[: len(drivers)] - walker.path.at(a + 3)).T)
                fast = np.array([d.speed > 1.0 for d in drivers])
                if (fast & (near < 12)).any():
                    speed = 0.0
        before = walker.s
        walker.s = min(walker.s + speed * STEP, walker.path.length - 0.01)
        walker.walked += walker.s - before


def _free_way(driver: _Driver, index: int, blobs: np.ndarray, owners: np.ndarray) -> float:
    """Metres between the bumper and the first thing on the path ahead."""
    reach = 8.0 + 2.6 * driver.speed
    ahead = np.arange(driver.size[0] / 2 + 0.4, driver.size[0] / 2 + reach, 0.8)
    line = driver.path.at(driver.s + ahead)
    others = owners != index
    if not others.any():
        return reach
    distance = np.hypot(*(line[:, None] - blobs[others][None]).transpose(2, 0, 1))
    blocked = (distance < 0.5 * driver.size[1] + 0.75).any(1)
    return (
        float(max(ahead[int(blocked.argmax())] - driver.size[0] / 2 - 1.2, 0))
        if blocked.any()
        else reach
    )


def _wrap(angle: float) -> float:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _kerb_height(walker: _Walker) -> float:
    for a, b in walker.kerbs:
        if a < walker.s < b:
            return float(KERB_HEIGHT * np.clip(1 - min(walker.s - a, b - walker.s) / 0.3, 0, 1))
    return KERB_HEIGHT


def _finish_driver(driver: _Driver, track: np.ndarray, rng: np.random.Generator, key: int) -> Agent:
    builder = MeshBuilder()
    color, seed = paint_color(rng), int(rng.integers(1 << 31))
    if driver.kind in ("bicycle", "motorcycle"):
        add_two_wheeler(builder, driver.kind, color, key, seed, has_rider=True)
    else:
        add_vehicle(builder, driver.kind, color, key, seed)
    spec = VEHICLE_KINDS[driver.kind]
    return Agent(key, spec.cls, driver.kind, spec.size, [builder.build()], track, driver.is_ego)


def _finish_walker(walker: _Walker, track: np.ndarray, rng: np.random.Generator, key: int) -> Agent:
    scale = walker.height / PEDESTRIAN_SIZE[2]
    parts = make_pedestrian(rng, key)
    for part in parts:
        part.vertices *= scale
    size = tuple(scale * v for v in PEDESTRIAN_SIZE)
    return Agent(key, WorldClass.PEDESTRIAN, "pedestrian", size, parts, track)
