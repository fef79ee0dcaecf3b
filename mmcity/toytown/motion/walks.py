"""Camera paths at street level: walking, driving and orbiting."""

from collections.abc import Callable

import numpy as np

from mmcity.toytown.motion.lanes import Path2D, footways
from mmcity.toytown.motion.traffic import Agent
from mmcity.toytown.sensors.cameras import View, look_at
from mmcity.toytown.sensors.renderer import Hits, Renderer
from mmcity.toytown.world.streets import KERB_HEIGHT
from mmcity.toytown.world.taxonomy import WorldClass
from mmcity.toytown.world.town import World

#: Height of the eyes of a person above the sidewalk, metres.
EYE_HEIGHT = 1.65


def _coarse(renderer: Renderer, view: View) -> Hits:
    """Hits of 16 x 12 rays spread over a view."""
    x = (np.arange(16) + 0.5) / 16 * view.width
    y = (np.arange(12) + 0.5) / 12 * view.height
    pixels = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    d = view.camera_rays(pixels) @ view.cam_to_world[:3, :3].T
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    return renderer.trace(np.broadcast_to(view.center, d.shape), d)


def is_clear(renderer: Renderer, view: View, nearest: float = 0.7, share: float = 0.08) -> bool:
    """Whether at most ``share`` of a view is nearer than ``nearest`` metres."""
    return bool((_coarse(renderer, view).distance < nearest).mean() <= share)


def _aim(eye: np.ndarray, yaw: float, pitch: float) -> np.ndarray:
    d = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    return look_at(eye, eye + d)


def is_telling(renderer: Renderer, view: View) -> bool:
    """Whether a view is worth a picture: clear, not a bare wall, and not only open land."""
    hits = _coarse(renderer, view)
    near = (hits.distance < 0.8).mean()
    cls = renderer.class_of(hits)
    return bool(
        near <= 0.06
        and np.median(hits.distance) > 3.5
        and ((cls == WorldClass.BUILDING) & (hits.distance < 60)).mean() > 0.15
    )


def walk_stretches(
    world: World, keep: Callable[[np.ndarray], bool], max_length: float
) -> list[tuple[Path2D, np.ndarray]]:
    """Parts of the footways that a walk passes.

    Args:
        world: The town.
        keep: Which points (2,) of the town the walk may pass.
        max_length: Metres after which the walk ends.

    Returns:
        list: Paths and the arc lengths on them, every 0.25 m.

    Raises:
        ValueError: If no sidewalk passes ``keep``.
    """
    # Round built blocks first: a walk round a lawn sees few houses.
    order = sorted(zip(world.plan.blocks, footways(world.plan)), key=lambda b: b[0].use != "built")
    stretches, left = [], max_length
    for _, line in order:
        path = Path2D(np.concatenate([line, line[:1]]))
        arcs = np.arange(0, path.length, 0.25)
        arcs = arcs[[bool(keep(p)) for p in path.at(arcs)]]
        arcs = arcs[: int(max(left, 0) / 0.25)]
        if len(arcs):
            stretches.append((path, arcs))
            left -= 0.25 * len(arcs)
    if not stretches:
        raise ValueError("walk_stretches: expected a sidewalk in this part of town, found none")
    return stretches


def street_walk(
    renderer: Renderer,
    stretches: list[tuple[Path2D, np.ndarray]],
    count: int,
    width: int,
    height: int,
    rng: np.random.Generator,
    fov_x: float = 68.0,
    sway: float = 0.3,
) -> list[View]:
    """Pictures that a person takes along the sidewalks, of the houses mostly.

    Args:
        renderer: The town, to keep the camera out of trees and off bare walls.
        stretches: From :func:`walk_stretches`.
        count: Number of pictures.
        width: Pixels.
        height: Pixels.
        rng: Source of randomness.
        fov_x: Horizontal field of view in degrees. Defaults to 68.
        sway: Standard deviation of position across the walk, metres. Defaults to 0.3.
    """
    lengths = np.array([len(arcs) for _, arcs in stretches])
    ends = np.cumsum(lengths)
    turns = np.radians([0.0, 35.0, -20.0, -50.0, 15.0])
    views: list[View] = []
    for k in range(count):
        for attempt in range(25):
            at = (k + rng.uniform(0, 0.5 + 0.04 * attempt)) / count * ends[-1]
            part = min(int(np.searchsorted(ends, at, side="right")), len(stretches) - 1)
            path, arcs = stretches[part]
            s = float(arcs[min(int(at - ends[part] + lengths[part]), len(arcs) - 1)])
            yaw = float(path.heading(s))
            side = np.array([-np.sin(yaw), np.cos(yaw)]) * rng.normal(0, sway)
            z = KERB_HEIGHT + EYE_HEIGHT + rng.normal(0, 0.05)
            eye = np.array([*(path.at(s) + side), z])
            # Looking back helps where the way ahead shows nothing.
            back = np.pi if attempt >= 8 and attempt % 2 else 0.0
            look = yaw + turns[(k + attempt) % len(turns)] + back + rng.normal(0, 0.08)
            view = View.from_fov(_aim(eye, look, rng.normal(0.08, 0.04)), width, height, fov_x)
            if is_telling(renderer, view):
                break
        views.append(view)
    return views


def walk_camera(world: World, rng: np.random.Generator, fov_x: float, size: tuple[int, int]):
    """Hand-held camera of someone who walks round a block: time to View."""
    lines = footways(world.plan)
    line = lines[int(rng.integers(len(lines)))]
    if rng.random() < 0.5:
        line = line[::-1]
    path = Path2D(np.concatenate([line, line, line[:1]]))
    start, speed = float(rng.uniform(3, path.length / 2)), float(rng.uniform(1.1, 1.6))
    phase = rng.uniform(0, 2 * np.pi, 3)

    def view_at(time: float) -> View:
        s = start + speed * time
        bob = 0.02 * np.sin(2 * np.pi * 1.8 * time + phase[0])
        yaw = float(path.heading(s, 2.0)) + 0.25 * np.sin(0.7 * time + phase[1])
        pitch = 0.03 + 0.04 * np.sin(0.9 * time + phase[2])
        eye = np.array([*path.at(s), KERB_HEIGHT + EYE_HEIGHT + bob])
        return View.from_fov(_aim(eye, yaw, pitch), *size, fov_x)

    return view_at


def drive_camera(ego: Agent, fov_x: float, size: tuple[int, int], mount_yaw: float = 0.0):
    """Camera behind the windscreen of the ego car: time to View.

    Args:
        ego: The car.
        fov_x: Horizontal field of view in degrees.
        size: Width and height in pixels.
        mount_yaw: Degrees that the camera looks to the left of the way ahead. Defaults to 0.
    """
    turn = np.radians(mount_yaw)

    def view_at(time: float) -> View:
        pose = ego.pose(time)
        eye = (pose @ [0.6, 0.0, 1.55, 1.0])[:3]
        yaw = float(np.arctan2(pose[1, 0], pose[0, 0])) + turn
        return View.from_fov(_aim(eye, yaw, -0.02), *size, fov_x)

    return view_at


def orbit_camera(
    renderer: Renderer,
    rng: np.random.Generator,
    fov_x: float,
    size: tuple[int, int],
    duration: float,
):
    """Camera on an arc around a junction or a lawn: time to View."""
    plan = renderer.world.plan
    spots = [*plan.nodes, *[b.polygon.mean(0) for b in plan.blocks]]
    best = None
    for _ in range(40):
        spot = spots[int(rng.integers(len(spots)))]
        radius, z = float(rng.uniform(4, 12)), float(rng.uniform(1.8, 9.0))
        begin, sweep = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.8, 1.8))
        target = np.array([*spot, float(rng.uniform(0.5, 2.5))])

        def view_at(
            time: float, spot=spot, radius=radius, z=z, begin=begin, sweep=sweep, target=target
        ) -> View:
            angle = begin + sweep * time / duration
            eye = np.array([*(spot + radius * np.array([np.cos(angle), np.sin(angle)])), z])
            return View.from_fov(look_at(eye, target), *size, fov_x)

        best = view_at
        moments = np.linspace(0, duration, 5)
        if all(is_clear(renderer, view_at(t), 1.5) for t in moments):
            break
    return best
