"""One capture about the origin, in UTM and in ECEF coordinates: the same figures, kept places."""

import json

import numpy as np
import pytest
import torch
import trimesh

from mmcity.apis.scenes import export_scene, extract_mesh, film_scene, render_views
from mmcity.apis.scenes.scene_renderer import SceneRenderer
from mmcity.datasets import ColmapDataset
from mmcity.datasets.io.colmap_model import read_colmap_model, write_colmap_model
from mmcity.engine.launch import load_config, train
from mmcity.engine.launch import test as run_test
from mmcity.engine.scene_loading import build_views, load_scene
from mmcity.structures import SceneFrame, read_frame_of, read_gaussians
from mmcity.structures.upright import guess_up
from mmcity.utils.picture_files import read_image
from mmcity.visualization.tiles3d import read_tileset
from tests.conftest import REPO

CONFIG = REPO / "configs" / "gaussian_splatting" / "3dgs_colmap_cpu.py"
PLACES = {
    "near": np.zeros(3),
    "utm": np.array([452310.25, 5411872.75, 213.5]),
    "ecef": np.array([4_177_012.5, 855_043.25, 4_728_211.75]),
}
OPTIONS = {
    "train_cfg.max_iters": 20,
    "train_cfg.val_interval": 20,
    "param_scheduler.0.end": 20,
    "default_hooks.checkpoint.interval": 20,
    "model.resolution_schedule": [(0, 1)],
}


def move(root, by):
    """Write the model of a scene in other coordinates."""
    model = read_colmap_model(root / "sparse" / "0")
    for image in model.images.values():
        image.tvec = image.tvec - image.viewmat[:3, :3] @ by
    model.points3D.xyz = model.points3D.xyz + by
    write_colmap_model(model, root / "sparse" / "0")


@pytest.fixture(scope="module")
def runs(toytown_citygsx, tmp_path_factory):
    """Scene, checkpoint and PSNR of the validation of each place."""
    found = {}
    for name, place in PLACES.items():
        root = tmp_path_factory.mktemp(name)
        for source in toytown_citygsx.iterdir():
            if source.name != "sparse":
                (root / source.name).symlink_to(source)
        write_colmap_model(read_colmap_model(toytown_citygsx), root / "sparse" / "0")
        move(root, place)
        options = {"data_root": str(root), **OPTIONS}
        checkpoint = train(CONFIG, work_dir=root / "run", cfg_options=options)
        scores = run_test(CONFIG, checkpoint, work_dir=root / "test", cfg_options=options)
        found[name] = (root, checkpoint, scores["test/psnr"], options)
    return found


def test_the_figures_are_those_of_the_scene_about_the_origin(runs):
    psnr = {name: run[2] for name, run in runs.items()}
    assert psnr == pytest.approx(dict.fromkeys(psnr, psnr["near"]), abs=0.02)


@pytest.mark.parametrize("name", PLACES)
def test_the_checkpoint_tells_where_the_scene_lies(runs, name):
    root, checkpoint, _, _ = runs[name]
    scene = load_scene(checkpoint, root / "run" / CONFIG.name)
    frame = scene.placement.frame
    assert frame == ColmapDataset(root, split="test").frame
    assert frame.is_identity == (name == "near")
    near = load_scene(runs["near"][1], root / "run" / CONFIG.name).to_gaussians()
    world = frame.scene_to_world(scene.to_gaussians().means) - PLACES[name]
    np.testing.assert_allclose(world, near.means, atol=1e-3)


@pytest.fixture(scope="module")
def utm(runs):
    return runs["utm"]


@pytest.mark.parametrize("target", ["a.ply", "a.splat", "a.spz", "a.glb", "tiles/tileset.json"])
def test_exports_keep_a_known_point(utm, tmp_path, target):
    root, checkpoint, _, _ = utm
    config = root / "run" / CONFIG.name
    scene = load_scene(checkpoint, config).to_gaussians()
    known = scene.frame.scene_to_world(scene.means)
    export_scene(checkpoint, tmp_path / target, config=config, max_per_cell=500)
    if target.endswith("json"):
        tree = read_tileset(tmp_path / target)
        back = tree.gather(tree.leaves)
        root_tile = json.loads((tmp_path / target).read_text())["root"]
        placed = np.array(root_tile["transform"]).reshape(4, 4).T
        np.testing.assert_allclose(placed, scene.frame.matrix, atol=1e-9)
    else:
        back = read_gaussians(tmp_path / target)
    world = back.frame.scene_to_world(back.means)
    nearest = np.linalg.norm(world[:, None] - known[None, :50], axis=-1).min(0)
    assert nearest.max() < (1e-2 if target.endswith("spz") else 1e-3)
    # What was exported covers what the checkpoint does, seen by the files' own cameras.
    if target == "a.ply":
        renderers = [SceneRenderer(config, path) for path in (checkpoint, tmp_path / target)]
        views = [renderer(root / "sparse" / "0") for renderer in renderers]
        for first, second in zip(views[0].alpha, views[1].alpha):
            torch.testing.assert_close(first, second, atol=1e-4, rtol=0)
        assert min(alpha.mean() for alpha in views[0].alpha) > 0.3


def test_a_page_has_the_places_of_the_photographs(utm, tmp_path):
    root, checkpoint, _, _ = utm
    config = root / "run" / CONFIG.name
    export_scene(checkpoint, tmp_path / "a.html", config=config)
    text = (tmp_path / "a.html").read_text()
    settings = json.loads(text.partition('application/json">')[2].partition("</script>")[0])
    scene = load_scene(checkpoint, config)
    views = build_views(load_config(config), "train", scene)
    assert [camera["name"] for camera in settings["cameras"]] == views.img_names
    for camera, view in zip(settings["cameras"], views.cameras.viewmats):
        np.testing.assert_allclose(np.reshape(camera["view"], (4, 4)), view, atol=1e-6)
    # In the frame of the scene, near the origin: single precision serves a browser.
    assert np.linalg.norm(settings["origin"]) < 1e3
    up = guess_up(views.cameras.cam_to_world)
    np.testing.assert_allclose(settings["up"], up, atol=1e-6)


def test_a_mesh_lies_in_the_world(runs, tmp_path):
    vertices = {}
    for name in ("near", "utm"):
        root, checkpoint, _, options = runs[name]
        out = tmp_path / f"{name}.ply"
        extract_mesh(
            CONFIG, checkpoint, out, voxel_size=3.0, min_alpha=0.3, min_triangles=1,
            cfg_options=options, device="cpu",
        )  # fmt: skip
        frame = read_frame_of(out) or SceneFrame()
        vertices[name] = frame.scene_to_world(trimesh.load(out).vertices) - PLACES[name]
    assert read_frame_of(tmp_path / "near.ply") is None
    boxes = [np.stack([v.min(0), v.max(0)]) for v in vertices.values()]
    np.testing.assert_allclose(boxes[0], boxes[1], atol=6.0)
    export_scene(tmp_path / "utm.ply", tmp_path / "utm.glb")
    moved = read_frame_of(tmp_path / "utm.glb")
    world = moved.scene_to_world(trimesh.load_mesh(tmp_path / "utm.glb").vertices)
    np.testing.assert_allclose(world.max(0) - PLACES["utm"], boxes[1][1], atol=1e-3)


def test_checkpoints_of_versions_without_frames_are_tested_and_rendered(runs, tmp_path):
    """Such a scene lies where its files do, in single precision."""
    root, checkpoint, psnr, options = runs["near"]
    place = np.array([64.0, 128.0, 32.0])
    far = tmp_path / "far"
    far.mkdir()
    for source in root.iterdir():
        if source.name not in ("sparse", "run"):
            (far / source.name).symlink_to(source)
    write_colmap_model(read_colmap_model(root), far / "sparse" / "0")
    move(far, place * 1024)
    state = torch.load(checkpoint, weights_only=True)
    weights = state["state_dict"]
    assert not any("placement" in key for key in weights)
    weights["splats.means"] += torch.from_numpy(place * 1024)
    torch.save({"state_dict": weights, "meta": {}}, tmp_path / "old.pth")
    options = {**options, "data_root": str(far)}
    found = run_test(CONFIG, tmp_path / "old.pth", cfg_options=options, work_dir=tmp_path / "test")
    assert found["test/psnr"] == pytest.approx(psnr, abs=0.5)
    written = render_views(CONFIG, tmp_path / "old.pth", tmp_path / "out", cfg_options=options)
    assert written["test"]


def test_a_film_follows_cameras_in_world_coordinates(utm, tmp_path):
    root, checkpoint, _, options = utm
    film_scene(
        checkpoint, tmp_path, config=CONFIG, cameras=root, frames=2, long_side=48,
        cfg_options=options,
    )  # fmt: skip
    assert read_image(tmp_path / "view.png").std() > 10
