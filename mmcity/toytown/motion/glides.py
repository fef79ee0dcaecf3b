"""Camera that glides over the street in any direction, whatever way it looks."""

import numpy as np

from mmcity.toytown.motion.walks import is_clear, is_telling
from mmcity.toytown.sensors.cameras import View, look_at
from mmcity.toytown.sensors.renderer import Renderer

#: Clear view that the path keeps on all checked moments, metres.
NEAREST = 1.2


def glide_camera(
    renderer: Renderer,
    rng: np.random.Generator,
    fov_x: float,
    size: tuple[int, int],
    duration: float,
):
    """Straight glide over a road with a slowly turning head: time to View.

    Direction of motion and of sight are independent, so that neither follows from what kind
    of picture it is.

    Args:
        renderer: The town, to keep the camera out of walls.
        rng: Source of randomness.
        fov_x: Horizontal field of view in degrees.
        size: Width and height in pixels.
        duration: Seconds that the path must stay clear.
    """
    roads = renderer.world.plan.roads
    moments = np.linspace(0, duration, 5)
    for _ in range(60):
        road = roads[int(rng.integers(len(roads)))]
        along = road.direction
        across = np.array([-along[1], along[0]])
        spot = road.start + along * rng.uniform(0.1, 0.9) * road.length
        spot = spot + across * rng.uniform(-0.35, 0.35) * road.width
        speed, course = float(rng.uniform(1.5, 5.0)), float(rng.uniform(-np.pi, np.pi))
        begin = np.array([*spot, float(rng.uniform(1.4, 2.6))])
        velocity = speed * np.array([np.cos(course), np.sin(course), rng.normal(0, 0.06)])
        yaw, turn = float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(-0.35, 0.35))
        pitch = float(rng.normal(-0.03, 0.05))

        def view_at(
            time: float, begin=begin, velocity=velocity, yaw=yaw, turn=turn, pitch=pitch
        ) -> View:
            eye = begin + velocity * (time - duration / 2)
            heading = yaw + turn * (time - duration / 2)
            d = np.array([np.cos(heading), np.sin(heading), np.tan(pitch)])
            return View.from_fov(look_at(eye, eye + d), *size, fov_x)

        views = [view_at(float(t)) for t in moments]
        above = all(v.center[2] > 0.8 for v in views)
        if above and all(is_clear(renderer, v, NEAREST) for v in views):
            if is_telling(renderer, views[0]) and is_telling(renderer, views[-1]):
                break
    return view_at
