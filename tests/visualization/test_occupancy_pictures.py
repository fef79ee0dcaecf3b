"""Pictures of occupancy: painted, splatted, and as a page."""

import numpy as np
import pytest
import torch

from mmcity.structures import VoxelGrid
from mmcity.structures.palettes import UNIFIED_PALETTE
from mmcity.visualization.occupancy import render_birds_eye, render_oblique
from mmcity.visualization.occupancy_page import write_occupancy_page
from mmcity.visualization.occupancy_splats import grid_camera, splat_occupancy, surface_voxels

BUILDING, ROAD, VEHICLE = 1, 6, 10


@pytest.fixture
def street():
    """A road along x with a building on its left and a car ahead on the right."""
    voxels = np.zeros((32, 32, 8), dtype=np.uint8)
    voxels[:, :, 0] = ROAD
    voxels[4:20, 22:30, 1:7] = BUILDING
    voxels[22:28, 6:10, 1:4] = VEHICLE
    return voxels


def grid_of(voxels):
    return VoxelGrid(torch.from_numpy(voxels), origin=torch.zeros(3), voxel_size=1.0)


def _share(image, label):
    """Share of pixels whose hue is that of a label, whatever the shade."""
    color = np.asarray(UNIFIED_PALETTE[label], dtype=float)
    pixels = image.reshape(-1, 3).astype(float)
    cosine = pixels @ color / np.maximum(np.linalg.norm(pixels, axis=1), 1) / np.linalg.norm(color)
    return (cosine > 0.998).reshape(image.shape[:2])


def test_oblique_painting_hides_what_lies_behind():
    """Against painting one voxel after the other, back to front."""
    rng = np.random.default_rng(0)
    voxels = np.where(rng.random((7, 6, 4)) < 0.4, rng.integers(1, 12, (7, 6, 4)), 0)
    voxels = voxels.astype(np.uint8)
    whole = render_oblique(voxels, scale=4)
    layered = np.full_like(whole, 255)
    x, y, z = np.nonzero(voxels)
    for i in np.argsort(z - x - y, kind="stable"):
        one = np.zeros_like(voxels)
        one[x[i], y[i], z[i]] = voxels[x[i], y[i], z[i]]
        picture = render_oblique(one, scale=4)
        layered = np.where((picture != 255).any(-1, keepdims=True), picture, layered)
    np.testing.assert_array_equal(whole, layered)


def test_splats_from_above_lie_where_the_columns_are(street):
    size = (320, 320)
    grid = VoxelGrid(torch.from_numpy(street), origin=[5.0, -3.0, 0.5], voxel_size=0.4)
    image = splat_occupancy(grid, grid_camera(grid, "birds_eye", size), size=size)
    for label in (BUILDING, VEHICLE):
        rows, cols = np.nonzero(_share(image, label))
        x, y, _ = np.argwhere(street == label).mean(0) + 0.5
        # x is up and y is left, over 96 % of the picture.
        expected = 160 - np.array([x - 16, y - 16]) * 0.96 * 10
        assert np.abs([rows.mean(), cols.mean()] - expected).max() < 5
    painted = _share(render_birds_eye(street, scale=10), BUILDING).mean()
    assert _share(image, BUILDING).mean() == pytest.approx(painted * 0.96**2, rel=0.2)


def test_the_oblique_view_keeps_left_and_right(street):
    grid = grid_of(street)
    camera = grid_camera(grid, "oblique", (320, 480))
    image = splat_occupancy(grid, camera)
    building, car = (_share(image, label) for label in (BUILDING, VEHICLE))
    assert building.mean() > 0.02 and car.mean() > 0.003
    assert np.nonzero(building)[1].mean() < np.nonzero(car)[1].mean()
    assert (splat_occupancy(grid_of(np.zeros_like(street)), camera) == 255).all()
    with pytest.raises(ValueError, match="view"):
        grid_camera(grid, "side", (320, 480))


def test_inner_voxels_are_left_out(street):
    index = surface_voxels(street)
    expected = [
        p
        for p in np.argwhere(street > 0)
        if any(
            not (0 <= q[a] < street.shape[a]) or street[tuple(q)] == 0
            for a in range(3)
            for q in (p + np.eye(3, dtype=int)[a], p - np.eye(3, dtype=int)[a])
        )
    ]
    np.testing.assert_array_equal(index, expected)


def test_a_page_shows_the_clip_without_a_network(street, tmp_path):
    from tests.visualization.chromium import Page, find_browser

    find_browser()
    clip = np.stack([street, np.roll(street, 8, axis=0)])
    path = tmp_path / "clip.html"
    write_occupancy_page(path, {"clip": clip}, title="two frames")
    assert "http" not in path.read_text()
    with Page(path.as_uri()) as page:
        page.evaluate("play(false); show(0)")
        page.wait(1)
        first = page.screenshot()
        page.evaluate("show(1)")
        for _ in range(20):  # a busy machine draws late
            page.wait(1)
            second = page.screenshot()
            if (first != second).any():
                break
        assert not page.errors
        assert "vehicle" in page.evaluate("document.body.innerText")
    assert _share(first, BUILDING).mean() > 0.01 and _share(first, VEHICLE).mean() > 0.001
    assert (first != second).mean() > 0.01


def test_pages_refuse_what_they_cannot_show(tmp_path):
    with pytest.raises(ValueError, match="up to 256"):
        write_occupancy_page(tmp_path / "a.html", {"a": np.zeros((1, 300, 4, 4), np.uint8)})
    with pytest.raises(ValueError, match="colours, got"):
        write_occupancy_page(tmp_path / "a.html", {"a": np.full((1, 4, 4, 4), 40, np.uint8)})
