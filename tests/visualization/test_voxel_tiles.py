"""Occupancy as voxels of glTF and 3D Tiles: bytes of golden files, and rules of CesiumJS."""

import json

import numpy as np
import pytest
import torch

from mmcity.structures import VoxelGrid
from mmcity.structures.io.glb import read_accessor, read_glb_container
from mmcity.visualization.tiles3d import east_north_up_frame
from mmcity.visualization.voxel_tiles import write_voxel_glb, write_voxel_tileset
from tests.conftest import golden_dir

FOLDER = golden_dir("interchange") / "voxels"


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "labels.npz") as data:
        return dict(data)


@pytest.fixture
def grid(golden):
    return VoxelGrid(
        torch.from_numpy(golden["labels"].astype(np.int64)),
        origin=torch.from_numpy(golden["origin"]),
        voxel_size=torch.from_numpy(golden["voxel_size"]),
        free_label=int(golden["free_label"]),
    )


def test_voxels_of_gltf_are_those_of_the_golden_file(tmp_path, golden, grid):
    write_voxel_glb(grid, tmp_path / "a.glb")

    document, binary = read_glb_container(tmp_path / "a.glb")
    (primitive,) = document["meshes"][0]["primitives"]
    voxels = primitive["extensions"]["EXT_primitive_voxels"]
    values = read_accessor(document, binary, primitive["attributes"]["_SEMANTICS"])[:, 0]
    np.testing.assert_array_equal(values, golden["primitive_voxels"])
    assert voxels["dimensions"] == golden["primitive_dimensions"].tolist()
    assert "byteStride" not in document["bufferViews"][0]
    other, _ = read_glb_container(FOLDER / "primitive_voxels.glb")
    (size,), (wanted,) = (
        [s.pop("box")["size"] for s in d["extensions"]["KHR_implicit_shapes"]["shapes"]]
        for d in (document, other)
    )
    np.testing.assert_allclose(size, wanted)
    places = [d["nodes"][0].pop("translation") for d in (document, other)]
    np.testing.assert_allclose(*places)
    for part in ("extensionsUsed", "extensionsRequired", "extensions", "nodes", "meshes"):
        assert document[part] == other[part], part


def test_a_tileset_of_voxels_has_all_that_cesium_asks_for(tmp_path, golden, grid):
    index = write_voxel_tileset(grid, tmp_path, georeference=(8.5, 47.4, 400.0))

    document = json.loads(index.read_text())
    root = document["root"]
    place = {"level": 0, "x": 0, "y": 0, "z": 0}
    assert (tmp_path / root["content"]["uri"].format(**place)).is_file()
    subtree = tmp_path / root["implicitTiling"]["subtrees"]["uri"].format(**place)
    assert json.loads(subtree.read_text())["contentAvailability"] == [{"constant": 1}]
    content = root["content"]["extensions"]["3DTILES_content_voxels"]
    assert content["dimensions"] == golden["tiles_dimensions"].tolist()
    assert content["class"] in document["schema"]["classes"]
    assert document["extensionsRequired"] == ["3DTILES_content_voxels"]
    assert document["asset"]["version"] == "1.1" and root["implicitTiling"]["availableLevels"] == 1
    center, axes = np.split(np.array(root["boundingVolume"]["box"]), [3])
    np.testing.assert_allclose(center, [-2.8, -1.5, -0.4])
    np.testing.assert_allclose(axes.reshape(3, 3), np.diag([1.2, 1.0, 0.6]))
    np.testing.assert_allclose(
        np.array(root["transform"]).reshape(4, 4).T, east_north_up_frame(8.5, 47.4, 400.0)
    )


def test_a_clip_is_a_tileset_a_frame_in_its_place(tmp_path, golden, grid):
    clip = VoxelGrid(
        torch.stack([grid.labels, grid.labels.flip(0)]),
        origin=grid.origin, voxel_size=grid.voxel_size, free_label=grid.free_label,
    )  # fmt: skip
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, :3, 3] = 5, 6, 7

    index = write_voxel_tileset(clip, tmp_path, poses=poses, times=[0.5, 1.0])

    frames = json.loads(index.read_text())["frames"]
    assert [frame["time"] for frame in frames] == [0.5, 1]
    roots = [json.loads((tmp_path / frame["uri"]).read_text())["root"] for frame in frames]
    assert "transform" not in roots[0] and roots[1]["transform"][12:15] == [5, 6, 7]
    with pytest.raises(ValueError, match="one for each of 2 frames"):
        write_voxel_tileset(clip, tmp_path, times=[0.0])


def test_labels_beyond_a_byte_are_refused(tmp_path, grid):
    grid.labels[0, 0, 0] = 256
    with pytest.raises(ValueError, match="0 to 255, got .* to 256"):
        write_voxel_glb(grid, tmp_path / "a.glb")
    assert not (tmp_path / "a.glb").exists()
