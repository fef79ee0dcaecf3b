"""Exact outputs of the renderer, checked against the mesh itself."""

import numpy as np
import pytest
import trimesh

from mmcity.toytown import Renderer, ToytownConfig, View, WorldClass, build_world, look_at
from mmcity.toytown.sensors.raycast import make_caster


@pytest.fixture(scope="module")
def view(tiny_world):
    eye = [tiny_world.low[0] - 8, tiny_world.low[1] - 10, 28]
    return View.from_fov(look_at(eye, [0, 0, 2]), 96, 72, 70)


@pytest.fixture(scope="module")
def frame(tiny_renderer, view):
    return tiny_renderer.render(view)


def test_depth_along_rays_lies_on_the_mesh(tiny_world, view, frame):
    rows = np.random.default_rng(0).permutation(np.flatnonzero(frame.valid))[:60]
    rays = view.camera_rays(view.pixel_grid().reshape(-1, 2)[rows])
    points = rays * frame.depth.ravel()[rows, None].astype(np.float64)
    points = points @ view.cam_to_world[:3, :3].T + view.center
    near = points[:, :2] < tiny_world.high + 30
    points = points[near.all(1) & (points[:, :2] > tiny_world.low - 30).all(1)]
    assert len(points) > 30
    corners = tiny_world.mesh.vertices[tiny_world.mesh.faces]
    low, high = corners.min(1) - 0.1, corners.max(1) + 0.1
    for p in points:
        close = ((p > low) & (p < high)).all(1)
        distance = np.linalg.norm(
            trimesh.triangles.closest_point(corners[close], np.tile(p, (close.sum(), 1))) - p,
            axis=1,
        )
        assert distance.min() < 1e-4


def test_normals_are_unit_and_face_the_camera(view, frame):
    normal = frame.normal[frame.valid]
    assert np.allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-5)
    directions = view.camera_rays(view.pixel_grid()[frame.valid]) @ view.cam_to_world[:3, :3].T
    assert ((normal * directions).sum(1) < 1e-6).all()


def test_sky_is_invalid_and_has_no_depth(frame):
    sky = frame.cls == WorldClass.SKY
    assert 0 < sky.mean() < 0.5
    assert (sky == ~frame.valid).all()
    assert (frame.depth[sky] == 0).all() and (frame.depth[~sky] > 0).all()


def test_picture_has_the_contrast_of_a_street(frame):
    """Flat or black pictures would let any method pass."""
    assert 60 < frame.rgb.mean() < 190
    assert frame.rgb.std() > 30
    assert len(np.unique(frame.cls)) >= 6


def test_static_flow_leads_to_the_same_surface(tiny_renderer, view):
    after = View(view.K, view.cam_to_world.copy(), view.width, view.height)
    after.cam_to_world[:3, 3] += [0.6, 0.2, -0.1]
    first, second = tiny_renderer.render(view, after), tiny_renderer.render(after)
    target = view.pixel_grid() + first.flow
    column, row = np.floor(target).astype(int).transpose(2, 0, 1)
    inside = first.valid & (column >= 0) & (column < view.width) & (row >= 0) & (row < view.height)
    column, row = column[inside], row[inside]
    same = first.instance[inside] == second.instance[row, column]
    assert same.mean() > 0.93  # the rest is hidden in the second view
    change = np.abs(first.rgb[inside].astype(int) - second.rgb[row, column]).mean(1)
    assert np.median(change) < 12


def test_undistorted_pixels_and_distorted_projection_are_inverse():
    K = np.array([[80.0, 0, 48], [0, 80, 36], [0, 0, 1]])
    lens = View(K, look_at([0, 0, 2], [5, 1, 2]), 96, 72, (-0.12, 0.03, 0.001, -0.002, 0.0))
    pixels = lens.pixel_grid().reshape(-1, 2)
    points = lens.camera_rays(pixels) * 7 @ lens.cam_to_world[:3, :3].T + lens.center
    back, depth = lens.project(points)
    assert np.abs(back - pixels).max() < 1e-6
    assert np.allclose(depth, 7)


def test_numpy_caster_agrees_with_embree(tiny_world):
    pytest.importorskip("embreex")
    rng = np.random.default_rng(1)
    mesh = tiny_world.mesh
    d = rng.normal(size=(2000, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    o = np.tile([0.0, 0.0, 14.0], (2000, 1))
    fast = make_caster([(mesh.vertices, mesh.faces)], "embree").hit(o, d)
    slow = make_caster([(mesh.vertices, mesh.faces)], "numpy").hit(o, d)
    assert ((fast[0] >= 0) == (slow[0] >= 0)).mean() > 0.999
    both = (fast[0] >= 0) & (slow[0] >= 0)
    assert np.quantile(np.abs(fast[1][both] - slow[1][both]), 0.995) < 1e-2


def test_world_depends_on_the_seed_only():
    a, b, c = (build_world(ToytownConfig(seed=s, blocks=(1, 1))) for s in (5, 5, 6))
    assert np.array_equal(a.mesh.vertices, b.mesh.vertices)
    assert np.array_equal(a.mesh.color, b.mesh.color)
    assert a.mesh.vertices.shape != c.mesh.vertices.shape


@pytest.mark.parametrize(
    "wrong",
    [{"size": "huge"}, {"supersampling": 2}, {"seed": -1}, {"blocks": (0, 1)}, {"lighting": "x"}],
)
def test_wrong_settings_name_the_argument(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ToytownConfig(**wrong)


def test_supersampling_only_touches_edges(tiny_world, view, frame):
    plain = Renderer(tiny_world, supersampling=1).render(view)
    changed = (plain.rgb != frame.rgb).any(-1)
    assert 0.02 < changed.mean() < 0.7
    assert np.array_equal(plain.depth, frame.depth)
