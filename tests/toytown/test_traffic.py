"""Moving agents: tracks, boxes, flow of moving surfaces."""

import numpy as np
import pytest

from mmcity.toytown import Renderer, View, WorldClass, look_at
from mmcity.toytown.motion.traffic import STEP, simulate_traffic
from mmcity.toytown.world.meshes import MeshBuilder
from mmcity.toytown.world.people import PEDESTRIAN_SIZE, limb_pose, make_pedestrian
from mmcity.toytown.world.two_wheelers import add_two_wheeler
from mmcity.toytown.world.vehicles import VEHICLE_KINDS, add_vehicle

DURATION = 6.0


@pytest.fixture(scope="module")
def traffic(tiny_world):
    return simulate_traffic(
        tiny_world, duration=DURATION, num_vehicles=7, num_pedestrians=14, has_ego=True
    )


@pytest.fixture(scope="module")
def renderer(tiny_world):
    return Renderer(tiny_world, supersampling=1)


@pytest.fixture(scope="module")
def overview(tiny_world):
    return View.from_fov(look_at([0, 0.1, 70], [0, 0, 0], (0, 1, 0)), 320, 320, 80)


def test_same_seed_gives_the_same_tracks(tiny_world, traffic):
    again = simulate_traffic(
        tiny_world, duration=DURATION, num_vehicles=7, num_pedestrians=14, has_ego=True
    )
    for a, b in zip(traffic.agents, again.agents):
        assert a.kind == b.kind and np.array_equal(a.track, b.track)


def test_ids_continue_after_the_static_city(tiny_world, traffic):
    ids = [a.id for a in traffic.agents]
    assert len(set(ids)) == len(ids) == 22
    assert min(ids) == len(tiny_world.instances) + 1


def test_velocity_is_the_derivative_of_the_box_centre(traffic):
    for agent in traffic.agents:
        before, after = agent.state(2.9).center, agent.state(3.1).center
        expected = (after - before)[:2] / 0.2
        assert np.allclose(agent.state(3.0).velocity, expected, atol=1e-9)


def test_vehicles_move_along_their_heading_and_never_jump(traffic):
    for agent in traffic.agents:
        step = np.diff(agent.track[:, :2], axis=0)
        speed = np.hypot(*step.T) / STEP
        limit = 2.5 if agent.cls == WorldClass.PEDESTRIAN else 13
        assert speed.max() < limit
        moving = speed > 2
        if agent.cls != WorldClass.PEDESTRIAN and moving.any():
            yaw = agent.track[:-1, 3]
            along = (step * np.column_stack([np.cos(yaw), np.sin(yaw)])).sum(1) / STEP
            assert (along[moving] > 0.9 * speed[moving]).all()
    assert sum(np.hypot(*a.velocity(3.0)) > 0.5 for a in traffic.agents) >= 8


def test_vehicles_keep_apart(traffic):
    vehicles = [a for a in traffic.agents if a.cls != WorldClass.PEDESTRIAN]
    for time in np.arange(0, DURATION, 0.5):
        centers = np.array([v.state(time).center[:2] for v in vehicles])
        gap = np.hypot(*(centers[:, None] - centers[None]).transpose(2, 0, 1))
        assert gap[~np.eye(len(gap), dtype=bool)].min() > 1.6


@pytest.mark.parametrize("kind", list(VEHICLE_KINDS))
def test_boxes_hold_the_meshes_of_vehicles(kind):
    builder = MeshBuilder()
    if kind in ("bicycle", "motorcycle"):
        add_two_wheeler(builder, kind, (0.1, 0.2, 0.3), 1, 7, has_rider=True)
    else:
        add_vehicle(builder, kind, (0.1, 0.2, 0.3), 1, 7)
    vertices = builder.build().vertices
    length, width, height = VEHICLE_KINDS[kind].size
    assert (np.abs(vertices[:, 0]) <= length / 2 + 1e-3).all()
    assert (np.abs(vertices[:, 1]) <= width / 2 + 1e-3).all()
    assert vertices[:, 2].min() >= -1e-3 and vertices[:, 2].max() <= height + 1e-3
    assert np.ptp(vertices[:, 0]) > 0.8 * length  # and the box is not loose


def test_boxes_hold_the_limbs_of_people():
    parts = make_pedestrian(np.random.default_rng(0), 1)
    for phase in np.linspace(0, 6.28, 12):
        for k, part in enumerate(parts):
            pose = limb_pose(k, phase, 1.0)
            moved = part.vertices @ pose[:3, :3].T + pose[:3, 3]
            assert (np.abs(moved[:, :2]) <= np.array(PEDESTRIAN_SIZE[:2]) / 2).all()
            assert moved[:, 2].min() > -0.03 and moved[:, 2].max() <= PEDESTRIAN_SIZE[2]


def test_projected_boxes_enclose_instance_masks(renderer, traffic, overview):
    renderer.set_bodies(traffic.bodies(2.0))
    frame = renderer.render(overview)
    seen = 0
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) / 2
    for state in traffic.states(2.0):
        rows, columns = np.nonzero(frame.instance == state.id)
        if not len(rows):
            continue
        seen += 1
        c, s = np.cos(state.yaw), np.sin(state.yaw)
        corners = (signs * state.size) @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + state.center
        pixels, _ = overview.project(corners)
        low, high = pixels.min(0) - 0.51, pixels.max(0) + 0.51
        assert columns.min() + 0.5 >= low[0] and columns.max() + 0.5 <= high[0]
        assert rows.min() + 0.5 >= low[1] and rows.max() + 0.5 <= high[1]
    assert seen >= 5


def test_the_ego_vehicle_does_not_see_itself(renderer, traffic):
    renderer.set_bodies(traffic.bodies(1.0))
    x, y, z = traffic.ego.state(1.0).center
    view = View.from_fov(look_at([x, y, z + 12], [x, y, z], (1, 0, 0)), 64, 64, 30)
    assert (renderer.render(view).instance != traffic.ego.id).all()
    assert traffic.ego.id in {s.id for s in traffic.states(1.0, include_ego=True)}


def test_flow_of_moving_surfaces_is_exact(renderer, traffic, overview):
    """A moved point must lie, along the next view's ray, at the depth seen there."""
    renderer.set_bodies(traffic.bodies(2.0, 2.0 + STEP))
    first = renderer.render(overview, overview)
    renderer.set_bodies(traffic.bodies(2.0 + STEP))
    second = renderer.render(overview)
    mobile = np.isin(first.instance, [a.id for a in traffic.agents])
    flow = first.flow[mobile]
    assert np.abs(first.flow[first.valid & ~mobile]).max() < 1e-2  # the camera stands still
    assert np.hypot(*flow.T).max() > 1.5
    target = np.floor(overview.pixel_grid()[mobile] + flow).astype(int)
    inside = ((target >= 0) & (target < 320)).all(1)
    same = second.instance[target[inside, 1], target[inside, 0]] == first.instance[mobile][inside]
    assert same.mean() > 0.85  # borders of small things fall on neighbours
    # Against the motion of rigid bodies: all pixels of a car on a straight share one shift.
    checked = 0
    for agent in traffic.agents:
        state = agent.state(2.05)
        rows = first.instance == agent.id
        turning = abs(agent.state(2.1).yaw - agent.state(2.0).yaw)
        if state.kind in ("car", "hatchback") and rows.sum() > 20 and turning < 1e-3:
            expected = state.velocity * STEP * overview.K[0, 0] / (70 - state.center[2])
            assert np.allclose(np.median(first.flow[rows], axis=0) * [1, -1], expected, atol=0.1)
            checked += 1
    assert checked
