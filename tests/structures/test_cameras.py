"""Cameras: projection against hand-written formulas, picture geometry, refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcity.structures import CAMERA_TYPES, Cameras, Sim3
from mmcity.structures import geometry as geo


def make_cameras(count=3, model="pinhole", dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    eyes = 4 + torch.rand(count, 3, generator=generator, dtype=dtype)
    focal = 30.0 if model == "ortho" else 90.0
    K = torch.tensor([[focal, 0, 41.5], [0, focal * 1.1, 29.0], [0, 0, 1]], dtype=dtype)
    return Cameras(K, geo.look_at(eyes, torch.zeros(3, dtype=dtype)), 80, 60, model)


def world_points(count=20, seed=1):
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)).double() - 0.5


@pytest.mark.parametrize("model", CAMERA_TYPES)
def test_project_follows_the_formula_of_each_model(model):
    cameras, points = make_cameras(1, model), world_points()
    pixels, depths = cameras.project(points)
    x, y, z = (points @ cameras.viewmats[0, :3, :3].T + cameras.viewmats[0, :3, 3]).T.numpy()
    if model == "pinhole":
        u, v = x / z, y / z
    elif model == "ortho":
        u, v = x, y
    else:
        theta, phi = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
        u, v = theta * np.cos(phi), theta * np.sin(phi)
    K = cameras.Ks[0].numpy()
    np.testing.assert_allclose(pixels[0, :, 0], K[0, 0] * u + K[0, 2], atol=1e-4)
    np.testing.assert_allclose(pixels[0, :, 1], K[1, 1] * v + K[1, 2], atol=1e-4)
    np.testing.assert_allclose(depths[0], z)


@pytest.mark.parametrize("model", CAMERA_TYPES)
def test_unproject_and_rays_invert_project(model):
    cameras, points = make_cameras(3, model), world_points()
    pixels, depths = cameras.project(points)
    back = cameras.unproject(pixels, depths)
    torch.testing.assert_close(back, points.expand_as(back), atol=1e-5, rtol=0)
    origins, directions = cameras.rays(pixels)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(3, 20).double())
    offset = points - origins
    along = (offset * directions).sum(-1, keepdim=True)
    torch.testing.assert_close(along * directions, offset, atol=1e-5, rtol=0)
    if model != "ortho":
        torch.testing.assert_close(origins, cameras.centers[:, None].expand_as(origins))


@given(st.integers(5, 200), st.integers(5, 200))
@settings(max_examples=25, deadline=None)
def test_resize_scales_pixels_by_the_exact_ratio_of_each_axis(width, height):
    cameras, points = make_cameras(), world_points()
    before, after = cameras.project(points)[0], cameras.resize(width, height).project(points)[0]
    ratio = torch.tensor([width / 80, height / 60], dtype=torch.float64)
    torch.testing.assert_close(after, before * ratio)


def test_scale_rounds_and_crop_shifts():
    cameras, points = make_cameras(), world_points()
    small = cameras.scale(1 / 7)
    assert small.one_size() == (11, 9)
    torch.testing.assert_close(small.Ks[0, 0, 0], cameras.Ks[0, 0, 0] * 11 / 80)
    window = cameras.crop(10, 20, 30, 25)
    assert window.one_size() == (30, 25)
    moved = cameras.project(points)[0] - torch.tensor([10.0, 20.0])
    torch.testing.assert_close(window.project(points)[0], moved)


@pytest.mark.parametrize("model", CAMERA_TYPES)
def test_a_transformed_world_gives_the_same_pictures(model):
    cameras, points = make_cameras(2, model), world_points()
    q = torch.tensor([0.3, -0.5, 0.2, 0.9], dtype=torch.float64)
    sim = Sim3(2.5, geo.quat_to_rotmat(q), torch.tensor([1.0, 2.0, 3.0]))
    pixels, depths = cameras.project(points)
    moved_pixels, moved_depths = cameras.transform(sim).project(sim(points))
    torch.testing.assert_close(moved_pixels, pixels, atol=1e-4, rtol=0)
    torch.testing.assert_close(moved_depths, 2.5 * depths)


def test_indexing_concatenation_and_conversion():
    cameras = make_cameras(4)
    one = cameras[-1]
    assert len(one) == 1
    torch.testing.assert_close(one.viewmats[0], cameras.viewmats[3])
    mask = torch.tensor([True, False, True, False])
    torch.testing.assert_close(cameras[mask].centers, cameras.centers[[0, 2]])
    assert len(Cameras.cat(list(cameras))) == 4
    single = cameras.to(torch.float32)
    assert single.dtype == torch.float32 and single.widths.dtype == torch.int64
    with pytest.raises(IndexError):
        cameras[4]
    with pytest.raises(ValueError, match="camera_model"):
        Cameras.cat([cameras, make_cameras(1, "ortho")])


def test_pixel_centres_lie_at_one_half_and_fov_is_textbook():
    cameras = make_cameras(1)
    grid = cameras.pixel_grid()
    assert grid.shape == (60, 80, 2)
    assert grid[0, 0].tolist() == [0.5, 0.5] and grid[-1, -1].tolist() == [79.5, 59.5]
    assert float(cameras.fovs[0, 0]) == pytest.approx(2 * math.atan(80 / 180))


def _nan_view(v, K):
    v[0, 0, 3] = float("nan")


def _scaled_rotation(v, K):
    v[0, :3, :3] *= 2


def _mirror(v, K):
    v[0, 0, :] *= -1


def _zero_rotation(v, K):
    v[0, :3, :3] = 0


def _inf_focal(v, K):
    K[0, 0, 0] = float("inf")


def _negative_focal(v, K):
    K[0, 1, 1] = -1


def _bottom(v, K):
    v[0, 3, 0] = 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_nan_view, "finite viewmat"),
        (_scaled_rotation, "rotation"),
        (_mirror, "rotation"),
        (_zero_rotation, "rotation"),
        (_inf_focal, "finite intrinsics"),
        (_negative_focal, "focal"),
        (_bottom, "last row"),
    ],
)
def test_degenerate_cameras_are_refused(spoil, message):
    good = make_cameras(2)
    views, Ks = good.viewmats.clone(), good.Ks.clone()
    spoil(views, Ks)
    with pytest.raises(ValueError, match=f"camera 0 of 2: .*{message}"):
        Cameras(Ks, views, 80, 60)


def test_other_refusals():
    good = make_cameras(2)
    with pytest.raises(ValueError, match="size above 0"):
        Cameras(good.Ks, good.viewmats, 0, 60)
    with pytest.raises(ValueError, match="camera_model"):
        Cameras(good.Ks, good.viewmats, 80, 60, "panorama")
    with pytest.raises(ValueError, match="viewmats"):
        Cameras(good.Ks, good.viewmats[:, :3], 80, 60)


def test_sizes_stay_on_the_cpu_through_moves_and_edits():
    cameras = Cameras(torch.eye(3).expand(3, 3, 3), torch.eye(4).expand(3, 4, 4), 40, 30)
    moved = cameras.to("meta")[1:].crop(2, 2, 20, 10)
    assert moved.Ks.is_meta and moved.one_size() == (20, 10) and len(moved.widths) == 2
    assert Cameras.cat([moved, moved]).heights.tolist() == [10] * 4
