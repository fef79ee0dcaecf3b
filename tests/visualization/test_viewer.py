"""The viewer in a headless browser: it draws, stays silent, streams and follows."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from mmcity.structures import (
    Cameras,
    GaussianLodTree,
    Gaussians,
    Trajectory,
    VoxelGrid,
    build_lod_tree,
)
from mmcity.structures.io.view_notes import ViewNotes
from tests.structures.test_gaussian_lod import street
from tests.visualization.chromium import Page, find_browser

pytest.importorskip("viser", reason="viser is not installed (requirements/viewer.txt)")

from mmcity.visualization.viewer import Layer, Viewer

#: What a machine without a graphics card makes Chromium say, and what viser's own page says of
#: the flat geometry with which it draws any splats.
_HARMLESS = ("GPU stall", "GroupMarkerNotSet", "computeBoundingSphere(): Computed radius is NaN")
_CLOSE_NOTES = (
    "document.querySelectorAll('.mantine-Notification-root button').forEach(b => b.click())"
)


def is_drawn(picture: np.ndarray, corner=(0.05, 0.95, 0.02, 0.62)) -> float:
    """Part of the canvas (panel left out) that differs from its background."""
    height, width = picture.shape[:2]
    top, bottom, left, right = corner
    canvas = picture[
        int(top * height) : int(bottom * height), int(left * width) : int(right * width)
    ].astype(int)
    background = np.median(canvas.reshape(-1, 3), 0)
    return float((np.abs(canvas - background).sum(-1) > 40).mean())


def settle(page: Page, least: float, seconds: float = 60.0) -> np.ndarray:
    """Wait until something is drawn, and return the picture."""
    for _ in range(int(seconds)):
        page.wait(1)
        page.evaluate(_CLOSE_NOTES)  # "software rendering" covers the picture
        picture = page.screenshot()
        if is_drawn(picture) > least:
            return picture
    return picture


def keep_picture(picture: np.ndarray) -> None:
    """Write the window where MMCITY_PICTURES says, for the documentation."""
    folder = os.environ.get("MMCITY_PICTURES")
    if folder:
        Image.fromarray(picture).save(Path(folder) / "viewer.png")


def assert_silent(page: Page) -> None:
    errors = [e for e in page.errors if not any(word in e for word in _HARMLESS)]
    assert not errors, errors


@pytest.fixture
def viewer():
    find_browser()
    made = Viewer(port=18080, budget=3000)
    yield made
    made.close()


def test_all_layers_at_once(viewer):
    view = torch.eye(4).repeat(4, 1, 1)
    view[:, 0, 3] = -torch.arange(4.0) * 20
    view[:, :3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    view[:, 1, 3] = 6.0
    K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
    cameras = Cameras(K, view, 64, 48)
    viewer.add_gaussians("street", street(3000))
    viewer.add_cameras("cameras", cameras, [np.full((48, 64, 3), 120, np.uint8)] * 4)
    viewer.add_trajectory("path", Trajectory(cameras.cam_to_world.double(), range(4)))
    viewer.add_mesh("house", trimesh.creation.box((8, 8, 12)).apply_translation((30, 30, 6)))
    viewer.add_points("points", np.random.default_rng(0).normal(size=(500, 3)) * 4, np.zeros(3))
    labels = torch.zeros(3, 10, 10, 4, dtype=torch.long)  # the last frame is empty
    labels[0, :, :, 0], labels[1, 2:6, 2:6, :3] = 6, 1
    grid = VoxelGrid(labels, origin=torch.tensor([60.0, 25, 0]), voxel_size=2.0)
    viewer.add_occupancy("town", grid, [(i * 20, 120, 60) for i in range(12)])
    rows = [{"name": "q", "status": "ok", "cam_to_world": np.eye(4).tolist()}]
    viewer.add_localization("query", rows)
    viewer.look_from((-20, -60, 60), (60, 10, 0))
    with Page(viewer.url) as page:
        picture = settle(page, 0.015)
        assert page.evaluate("document.querySelectorAll('canvas').length") >= 1
        assert is_drawn(picture) > 0.015
        text = page.text_with("query")
        for name in ("street", "cameras", "path", "house", "points", "town", "query"):
            assert name in text
        keep_picture(picture)
        # The clip follows its slider.
        viewer._frame.value = 1
        page.wait(2)
        later = page.screenshot()
        assert np.abs(later.astype(int) - picture.astype(int)).max() > 60
        viewer._frame.value = 2
        page.wait(1)
        assert not viewer._handles["town"]
        assert_silent(page)


def test_levels_follow_the_camera_and_keep_the_budget(viewer):
    viewer.add_gaussians("street", small_cells(street(12000)))
    stream = viewer._streams["street"]
    tree = stream.tree
    viewer.look_from((-400, -400, 400), (60, 10, 0))
    with Page(viewer.url, (640, 400)) as page:
        for _ in range(60):  # a busy machine takes its time to connect
            page.wait(0.5)
            if viewer.server.get_clients():
                break
        (client,) = viewer.server.get_clients().values()

        def held() -> set[int]:
            for _ in range(20):
                page.wait(0.5)
                numbers = set(stream._handles.get(client.client_id, {}))
                if numbers:
                    break
            page.wait(2)
            return set(stream._handles[client.client_id])

        far = held()
        client.camera.position = (0.0, 10.0, 3.0)
        client.camera.look_at = (10.0, 10.0, 1.0)
        near = held()
        assert far != near
        for numbers in (far, near):
            total = sum(len(tree.cells[n].gaussians) for n in numbers)
            assert total <= max(3000, len(tree.cells[0].gaussians))
        assert min(tree.cells[n].error for n in near) < min(tree.cells[n].error for n in far)
        assert_silent(page)


def test_up_is_taken_once_and_snaps_to_an_axis_beside_it():
    viewer = Viewer(port=18280)
    try:
        viewer._snap_up(np.array([0.1, -0.99, 0.1]))
        assert viewer._up.tolist() == [0, -1, 0]
        viewer._snap_up(np.array([0.6, 0.0, 0.8]))
        assert viewer._up.tolist() == [0.6, 0, 0.8]
        layer = Layer("a", "gaussians", street(50), notes=ViewNotes((0, 0, -1), ("background",)))
        viewer.add_layer(layer)
        assert viewer._up.tolist() == [0, 0, -1]
        viewer.add_trajectory("path", Trajectory(torch.eye(4).repeat(2, 1, 1), range(2)))
        assert viewer._up.tolist() == [0, 0, -1]
    finally:
        viewer.close()


def test_the_first_view_is_upright_and_full_of_the_scene(viewer):
    """A scene with y down, seen by level cameras: its red roof is above its blue floor."""
    rng = np.random.default_rng(0)
    places = rng.uniform((-40, -6, -30), (40, 0, 30), (6000, 3))
    colors = np.where(places[:, 1:2] < -4, [220, 20, 20], [20, 20, 220]).astype(np.uint8)
    views = torch.eye(4).repeat(5, 1, 1)
    views[:, 0, 3] = torch.arange(5.0) * 3
    for row, angle in enumerate(torch.linspace(-0.5, 0.5, 5)):
        turn = torch.tensor(
            [[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]]
        )
        views[row, :3, :3] = turn
    views[:, 2, 3] = 60.0
    K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
    viewer.add_points("town", places, colors)
    viewer.add_cameras("cameras", Cameras(K, views, 64, 48))
    assert viewer._up.tolist() == [0, -1, 0]
    with Page(viewer.url, (720, 480)) as page:
        settle(page, 0.1)
        for _ in range(20):  # a busy machine draws the first picture before all has come
            page.wait(1)
            picture = page.screenshot()
            canvas = picture[:, : int(0.55 * picture.shape[1])].astype(int)
            is_red = (canvas[..., 0] > 150) & (canvas[..., 1:].max(-1) < 90)
            is_blue = (canvas[..., 2] > 150) & (canvas[..., :2].max(-1) < 90)
            rows, columns = np.nonzero(is_red | is_blue)
            height, width = np.percentile(rows, [2, 98]), np.percentile(columns, [2, 98])
            share = np.ptp(height) * np.ptp(width) / canvas[..., 0].size
            if share > 1 / 3:
                break
        assert share > 1 / 3, share
        assert np.nonzero(is_red)[0].mean() < np.nonzero(is_blue)[0].mean() - 5
        assert_silent(page)


def small_cells(scene: Gaussians) -> GaussianLodTree:
    return build_lod_tree(scene, max_per_cell=600, merge_resolution=12)


def test_what_lies_far_out_does_not_widen_the_first_view():
    scene = street(2000)
    stray = street(1000, seed=1)
    stray.means = (stray.means - 60) * 1e4
    stray.opacities = torch.full((1000,), 0.01)
    viewer = Viewer(port=18180, budget=3000)
    try:
        viewer.update_gaussians("scene", scene)
        wanted = viewer.bounds
        viewer.update_gaussians("live", Gaussians.cat([scene, stray]))
        viewer.add_gaussians("streamed", Gaussians.cat([scene, stray]))
        assert np.abs(viewer.bounds - wanted).max() < 3
    finally:
        viewer.close()


def test_live_updates_replace_the_scene(viewer):
    scene = street(2000)
    viewer.update_gaussians("scene", scene)
    viewer.look_from((-20, -60, 60), (60, 10, 0))
    with Page(viewer.url, (640, 400)) as page:
        before = settle(page, 0.01)
        moved = street(2000)
        moved.sh0 = -moved.sh0
        viewer.update_gaussians("scene", moved)
        viewer.set_status("iteration 7")
        page.wait(4)
        after = page.screenshot()
        assert np.abs(after.astype(int) - before.astype(int)).max() > 60
        assert "iteration 7" in page.text_with("iteration 7")
        assert_silent(page)


def test_frames_of_a_stream_arrive_one_by_one(viewer):
    from mmcity.apis import FrameResult

    rng = np.random.default_rng(0)
    for index in range(3):
        pose = np.eye(4)
        pose[0, 3] = index
        depth = np.full((12, 16), 4.0, np.float32)
        points = rng.normal(size=(12, 16, 3)).astype(np.float32) + [index, 0, 4]
        result = FrameResult(
            index=index, name=str(index), timestamp=float(index),
            image=rng.integers(0, 256, (12, 16, 3), dtype=np.uint8),
            depth=depth, depth_conf=depth, points=points.astype(np.float32),
            points_conf=rng.random((12, 16)), cam_to_world=pose,
            K=np.array([[16.0, 0, 8], [0, 16, 6], [0, 0, 1]]),
        )  # fmt: skip
        viewer.add_frame(result, max_points=50, keep=2)
    assert len(viewer._handles["stream"]) == 2
    assert len(viewer._path) == 3
    with Page(viewer.url, (640, 400)) as page:
        page.wait(4)
        assert "stream path" in page.text_with("stream path")
        assert_silent(page)
