"""What the viewer makes of the files of every stage; no browser needed."""

import json
import shutil

import numpy as np
import pytest
import torch
import trimesh

from mmcity.apis.scenes import export_scene
from mmcity.datasets.io.point_ply import write_point_ply
from mmcity.structures import (
    GaussianLodTree,
    Gaussians,
    Trajectory,
    VoxelGrid,
    build_lod_tree,
    write_gaussians,
)
from mmcity.visualization.frusta import frustum_lines
from mmcity.visualization.occupancy_mesh import occupancy_mesh
from mmcity.visualization.tiles3d import write_tileset
from mmcity.visualization.viewer import UnknownFileError, open_layers
from mmcity.visualization.viewer.occupancy_clip import OccupancyClip
from mmcity.visualization.viewer.shapes import first_look, free_name
from tests.datasets.scenes import write_scene, write_transforms
from tests.structures.io.test_gaussian_formats import scene


def kinds(path) -> list[str]:
    return [layer.kind for layer in open_layers(path)]


@pytest.mark.parametrize("name", ["a.ply", "a.splat", "a.spz", "a.glb"])
def test_gaussians(tmp_path, name):
    write_gaussians(scene(30, degree=0), tmp_path / name)
    (layer,) = open_layers(tmp_path / name)
    assert layer.kind == "gaussians" and isinstance(layer.data, Gaussians)
    assert len(layer.data) == 30


def test_tileset_as_file_and_folder(tmp_path):
    write_tileset(build_lod_tree(scene(300, degree=0), max_per_cell=50), tmp_path / "tiles")
    for path in ("tiles", "tiles/tileset.json"):
        (layer,) = open_layers(tmp_path / path)
        assert isinstance(layer.data, GaussianLodTree)


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb", "stl"])
def test_mesh(tmp_path, suffix):
    trimesh.creation.box().export(tmp_path / f"box.{suffix}")
    (layer,) = open_layers(tmp_path / f"box.{suffix}")
    assert layer.kind == "mesh" and len(layer.data.faces) == 12


def test_point_cloud(tmp_path):
    xyz = np.random.default_rng(0).normal(size=(20, 3))
    rgb = np.full((20, 3), 77, np.uint8)
    write_point_ply(tmp_path / "points.ply", xyz, rgb)
    (layer,) = open_layers(tmp_path / "points.ply")
    assert layer.kind == "points"
    assert np.allclose(layer.data[0], xyz, atol=1e-6) and (layer.data[1] == 77).all()


def test_scenes_of_colmap_and_nerfstudio(tmp_path):
    model = write_scene(tmp_path / "colmap")
    assert kinds(tmp_path / "colmap") == ["cameras", "points"]
    write_transforms(tmp_path / "colmap", model)
    (tmp_path / "colmap" / "sparse").rename(tmp_path / "gone")
    layers = open_layers(tmp_path / "colmap")
    assert layers[0].kind == "cameras" and len(layers[0].data[0]) == len(model.images)


def test_model_without_pictures(tmp_path):
    model = write_scene(tmp_path / "colmap")
    cameras, _ = open_layers(tmp_path / "colmap" / "sparse" / "0")
    assert len(cameras.data[1]) == len(model.images)  # those of the scene above
    shutil.rmtree(tmp_path / "colmap" / "images")
    cameras, _ = open_layers(tmp_path / "colmap" / "sparse" / "0")
    assert len(cameras.data[0]) == len(model.images) and cameras.data[1] is None


def test_reconstructed_stream(tmp_path):
    poses = torch.eye(4).repeat(5, 1, 1)
    Trajectory(poses, range(5)).write_tum(tmp_path / "trajectory.txt")
    write_point_ply(tmp_path / "points.ply", np.zeros((3, 3)), np.zeros((3, 3), np.uint8))
    (tmp_path / "intrinsics.txt").write_text("# fx fy cx cy\n1 1 1 1\n")
    assert sorted(kinds(tmp_path)) == ["points", "trajectory"]
    Trajectory(poses, range(5)).write_kitti(tmp_path / "kitti.txt")
    assert kinds(tmp_path / "kitti.txt") == ["trajectory"]


def test_localised_queries(tmp_path):
    row = {"name": "a.jpg", "status": "ok", "cam_to_world": np.eye(4).tolist()}
    (tmp_path / "results.json").write_text(json.dumps({"summary": {}, "queries": [row]}))
    (layer,) = open_layers(tmp_path)
    assert layer.kind == "localization" and layer.data[0]["name"] == "a.jpg"


def test_occupancy_of_every_kind(tmp_path):
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 12, (3, 6, 6, 4)).astype(np.uint8)
    np.savez(tmp_path / "clip.npz", voxels=clip, voxel_size=0.4, origin=[-1.2, -1.2, 0])
    (layer,) = open_layers(tmp_path / "clip.npz")
    grid, palette, poses = layer.data
    assert len(grid) == 3 and len(palette) == 12 and poses is None
    assert torch.allclose(grid.extent[1], torch.tensor([1.2, 1.2, 1.6]))

    ones = np.ones((6, 6, 4), bool)
    for token in ("t0", "t1"):
        (tmp_path / "gts" / token).mkdir(parents=True)
        np.savez(
            tmp_path / "gts" / token / "labels.npz",
            semantics=rng.integers(0, 18, (6, 6, 4)).astype(np.uint8),
            mask_lidar=ones,
            mask_camera=ones,
        )
    grid, palette, _ = open_layers(tmp_path / "gts")[0].data
    assert len(grid) == 2 and grid.free_label == 17 and len(palette) == 18

    folder = tmp_path / "cartesian" / "evaluation"
    folder.mkdir(parents=True)
    bounds = dict(grid_size=[6, 6, 4], min_bound=[-3, -3, -1], max_bound=[3, 3, 1])
    (folder / "params.json").write_text(json.dumps(dict(bounds, num_channels=23)))
    clip.astype("<u4")[0].tofile(folder / "000000.label")
    grid, _, _ = open_layers(tmp_path / "cartesian")[0].data
    assert torch.allclose(grid.voxel_size, torch.tensor([1.0, 1.0, 0.5]))


def test_a_clip_that_drives_along_lies_where_it_was(tmp_path):
    """The grid turns left and moves 10 m along y in its second frame."""
    poses = np.stack([np.eye(4)] * 2)
    poses[1, :2, :2], poses[1, :3, 3] = [[0, -1], [1, 0]], (0, 10, 0)
    np.savez(tmp_path / "drive.npz", voxels=np.ones((2, 2, 4, 1), np.uint8), origin=[0, 0, 0],
             voxel_size=1.0, poses=poses)  # fmt: skip
    (layer,) = open_layers(tmp_path / "drive.npz")
    clip = OccupancyClip(None, "drive", *layer.data)
    assert clip.corners.tolist() == [[0, 0, 0], [2, 4, 1], [0, 10, 0], [-4, 12, 1]]
    np.savez(tmp_path / "drive.npz", voxels=np.ones((3, 2, 4, 1), np.uint8), poses=poses)
    with pytest.raises(ValueError, match=r"expected poses \(3, 4, 4\)"):
        open_layers(tmp_path / "drive.npz")


def test_a_name_that_is_taken_gets_a_number():
    assert free_name("town", []) == "town"
    assert free_name("town", ["town", "town (2)"]) == "town (3)"


def test_what_is_not_known_is_refused(tmp_path):
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(UnknownFileError, match="notes.docx"):
        open_layers(tmp_path / "notes.docx")
    with pytest.raises(UnknownFileError, match="nothing of that kind"):
        open_layers(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_layers(tmp_path / "missing")
    (tmp_path / "words.txt").write_text("no numbers here\n")
    with pytest.raises(UnknownFileError, match="TUM"):
        open_layers(tmp_path / "words.txt")


def test_mesh_of_two_voxels_has_ten_faces():
    labels = torch.zeros(4, 4, 4, dtype=torch.long)
    labels[1, 1, 1], labels[2, 1, 1] = 1, 2
    grid = VoxelGrid(labels, origin=torch.tensor([10.0, 0, 0]), voxel_size=0.5)
    mesh = occupancy_mesh(grid, [(0, 0, 0), (200, 0, 0), (0, 200, 0)])
    assert len(mesh.faces) == 20  # two triangles per face, the shared face is hidden
    assert np.allclose(mesh.bounds, [[10.5, 0.5, 0.5], [11.5, 1.0, 1.0]])
    outward = mesh.triangles_center - mesh.triangles_center.mean(0)
    assert ((mesh.face_normals * outward).sum(1) > 0).all()
    tops = mesh.face_normals[:, 2] > 0.9
    assert mesh.visual.face_colors[tops][:, 0].max() == 200


def test_pyramid_of_a_camera():
    K = np.array([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]])
    lines = frustum_lines(np.eye(4)[None], K[None], [100], [100], 2.0)
    assert lines.shape == (8, 2, 3)
    assert np.allclose(lines[:4, 0], 0)
    assert np.allclose(sorted(map(tuple, lines[:4, 1])), sorted(
        [(-1, -1, 2), (1, -1, 2), (1, 1, 2), (-1, 1, 2)]
    ))  # fmt: skip


def test_a_folder_of_outputs_opens_with_all_below_it(tmp_path, caplog):
    """One layer per thing, whatever formats it lies there in."""
    run, house = tmp_path / "run", tmp_path / "twin" / "mesh"
    house.mkdir(parents=True)
    run.mkdir()
    for name in ("scene.ply", "scene.spz", "scene.splat", "other.splat"):
        write_gaussians(scene(30, degree=0), run / name)
    for name in ("mesh.ply", "mesh.glb"):
        trimesh.creation.box().export(house / name)
    write_scene(tmp_path / "twin" / "data")
    for name in ("run.log", "view.png", ".hidden.ply"):
        (run / name).write_text("no scene")
    (run / "back").symlink_to(tmp_path)
    with caplog.at_level("INFO"):
        layers = open_layers(tmp_path)
    assert sorted((layer.kind, layer.name) for layer in layers) == [
        ("cameras", "data/cameras"),
        ("gaussians", "run/other"),
        ("gaussians", "run/scene"),
        ("mesh", "mesh/mesh"),
        ("points", "data/points"),
    ]


def test_a_mesh_that_was_turned_for_gltf_stands_as_in_its_scene(tmp_path):
    """Formerly at 90 degrees to its Gaussians."""
    tower = trimesh.creation.box((1, 2, 8)).apply_translation((10, 0, 4))
    tower.export(tmp_path / "tower.ply")
    for up in ("z", "-y", "y"):
        export_scene(tmp_path / "tower.ply", tmp_path / "tower.glb", up=up)
        for axes in (tmp_path / "tower.ply", tmp_path / "tower.glb"):
            (layer,) = open_layers(axes)
            assert np.allclose(layer.data.bounds, [[9.5, -1, 0], [10.5, 1, 8]], atol=1e-6), up
    stored = trimesh.load(tmp_path / "tower.glb", force="mesh")
    assert np.allclose(stored.bounds, [[9.5, -1, 0], [10.5, 1, 8]], atol=1e-6)


@pytest.mark.parametrize("up", [(0, 0, 1), (0, -1, 0), (0.6, 0, 0.8)])
def test_the_first_look_is_from_outside_above_and_from_the_side_of_the_cameras(up):
    up, bounds = np.array(up, float), np.array([[-3.0, -4, -1], [3, 4, 1]])
    across = np.array([0.8, 0, -0.6])
    for seen_from in (None, 9 * across, np.zeros(3), 5 * up):
        position, target = first_look(bounds, up, seen_from)
        assert np.allclose(target, 0) and position @ up > 2
        assert 0.5 < np.linalg.norm(position) / np.linalg.norm(bounds[1] - bounds[0]) < 1
    position, _ = first_look(bounds, up, 9 * across)
    assert position @ (across - (across @ up) * up) > 0
