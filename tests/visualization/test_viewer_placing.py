"""Layers of one world are shown about one origin."""

import json
import types

import numpy as np
import pytest
import torch
import trimesh

from mmcity.datasets.io.point_ply import write_point_ply
from mmcity.structures import (
    GaussianLodTree,
    SceneFrame,
    Trajectory,
    VoxelGrid,
    build_lod_tree,
    stamp_frame,
    write_frame,
    write_gaussians,
    write_voxel_grid,
)
from mmcity.structures.geometry import se3_from_rt
from mmcity.structures.scene_frame import sidecar
from mmcity.visualization.viewer import Layer, open_layers
from mmcity.visualization.viewer.occupancy_clip import OccupancyClip
from mmcity.visualization.viewer.placing import frame_to_show, placed
from tests.structures.test_gaussian_lod import street

UTM = SceneFrame(crs="EPSG:25832", origin=(452310.0, 5411870.0, 210.0))
PLACE = np.array(UTM.origin)


def shown(folder):
    """All files of a folder as a viewer places them, by kind, and their frame."""
    layers = [layer for path in sorted(folder.iterdir()) for layer in open_layers(path)]
    frame = frame_to_show(layers[0])
    return {layer.kind: placed(layer, frame).data for layer in layers}, frame


def test_files_of_one_world_meet(tmp_path):
    scene = street(50)
    means = scene.means.double()
    scene.frame = UTM
    write_gaussians(scene, tmp_path / "a.ply")
    # World coordinates in files that keep them.
    write_point_ply(tmp_path / "b.ply", means.numpy() + PLACE)
    pose = se3_from_rt(torch.eye(3).expand(50, 3, 3).double(), means + torch.from_numpy(PLACE))
    Trajectory(pose).write_tum(tmp_path / "c.txt")
    rows = [{"name": "q", "status": "ok", "cam_to_world": p.tolist()} for p in pose[:2]]
    rows.append({"name": "r", "status": "failed", "cam_to_world": None})
    (tmp_path / "d.json").write_text(json.dumps({"queries": rows}))
    # A mesh about another origin.
    mesh = trimesh.creation.box((1.0, 2.0, 3.0))
    mesh.apply_translation((100.0, 0, 0))
    mesh.export(tmp_path / "e.ply")
    stamp_frame(tmp_path / "e.ply", tmp_path / "e.ply", UTM.shifted([-100.0, 0.0, 0.0]))
    found, frame = shown(tmp_path)
    assert frame == UTM
    torch.testing.assert_close(found["gaussians"].means, scene.means)
    np.testing.assert_allclose(found["points"][0], means, atol=1e-6)
    np.testing.assert_allclose(found["trajectory"].centers, means, atol=1e-6)
    centers = np.array([row["cam_to_world"] for row in found["localization"][:2]])[:, :3, 3]
    np.testing.assert_allclose(centers, means[:2], atol=1e-6)
    assert found["localization"][2]["cam_to_world"] is None
    np.testing.assert_allclose(found["mesh"].bounds[1], [0.5, 1.0, 1.5], atol=1e-5)


def test_world_coordinates_without_a_frame_are_shown_about_their_own(tmp_path):
    points = street(50).means.double().numpy()
    write_point_ply(tmp_path / "a.ply", points + PLACE)
    found, frame = shown(tmp_path)
    assert abs(found["points"][0]).max() < 10 * np.ptp(points)
    world = frame.scene_to_world(found["points"][0])
    np.testing.assert_allclose(world, points + PLACE, atol=1e-8)


def test_scenes_about_the_origin_stay_as_they_are():
    scene = street(50)
    layer = Layer("scene", "gaussians", scene)
    frame = frame_to_show(layer)
    assert frame.is_identity and placed(layer, frame) is layer


def test_trees_move_with_their_boxes():
    tree = build_lod_tree(street(300), max_per_cell=100)
    layer = Layer("tiles", "gaussians", tree, UTM.shifted([1.0, 2.0, 3.0]))
    moved = placed(layer, UTM).data
    assert isinstance(moved, GaussianLodTree)
    for before, after in zip(tree.cells, moved.cells):
        shift = torch.tensor([1.0, 2.0, 3.0])
        torch.testing.assert_close(after.box, before.box + shift)
        torch.testing.assert_close(after.gaussians.means, before.gaussians.means + shift)


def test_occupancy_lies_where_the_file_beside_it_says(tmp_path):
    """One voxel of a grid about another origin, turned by a quarter and half as large."""
    labels = np.zeros((2, 3, 2), np.uint8)
    labels[1, 2, 0] = 1
    grid = VoxelGrid(labels, origin=[-1.0, -1.0, 0.0], voxel_size=1.0)
    write_voxel_grid(tmp_path / "grid.npz", grid)
    quarter = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    frame = SceneFrame(UTM.crs, (*PLACE[:2] + [10, 0], 210.0), scale=0.5, rotation=quarter)
    write_frame(sidecar(tmp_path / "grid.npz"), frame)
    (layer,) = open_layers(tmp_path / "grid.npz")
    assert layer.frame == frame
    moved = placed(layer, UTM).data
    drawn = []
    scene = types.SimpleNamespace(add_mesh_trimesh=lambda name, mesh, **_: drawn.append(mesh))
    OccupancyClip(scene, "grid", *moved).show(0)
    # The voxel spans (0..1, 1..2, 0..1) in its scene, (-1..-0.5, 0..0.5, 0..0.5) from the origin.
    np.testing.assert_allclose(drawn[0].bounds, [[9, 0, 0], [9.5, 0.5, 0.5]], atol=1e-6)
    # Without a frame it lies about a car and stays.
    sidecar(tmp_path / "grid.npz").unlink()
    (layer,) = open_layers(tmp_path / "grid.npz")
    assert placed(layer, UTM) is layer


def test_another_reference_system_is_refused():
    layer = Layer("other", "points", (np.zeros((1, 3)), None), SceneFrame(crs="EPSG:25833"))
    with pytest.raises(ValueError, match="other: frame: expected one world, got EPSG:25833"):
        placed(layer, UTM)
