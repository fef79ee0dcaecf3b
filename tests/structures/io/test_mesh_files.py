"""Meshes in files: colours stay what they are, and glTF holds them as it wants."""

import numpy as np
import pytest
import trimesh

from mmcity.structures.io.glb import read_accessor, read_glb_container
from mmcity.structures.io.mesh_files import MeshFileError, read_mesh, write_mesh
from tests.structures.io.test_gaussian_files_of_others import change_glb


@pytest.fixture
def box():
    mesh = trimesh.creation.box()
    mesh.visual.vertex_colors = np.column_stack(
        [np.arange(8) * 36, np.full(8, 3), np.full(8, 128), np.full(8, 255)]
    ).astype(np.uint8)
    return mesh


def colors_of(path):
    return np.asarray(read_mesh(path).to_geometry().visual.vertex_colors)


def test_binary_gltf_has_linear_colours_normals_and_uses_of_views(tmp_path, box):
    write_mesh(box, tmp_path / "a.glb")
    document, binary = read_glb_container(tmp_path / "a.glb")
    (primitive,) = document["meshes"][0]["primitives"]
    assert {"POSITION", "NORMAL", "COLOR_0"} <= set(primitive["attributes"])
    stored = read_accessor(document, binary, primitive["attributes"]["COLOR_0"])
    # Half as a code is ((0.50196 + 0.055) / 1.055)^2.4 as light; 3 is a part of 12.92.
    expected = np.column_stack([np.full(8, 3 / 255 / 12.92), np.full(8, 0.21586)])
    np.testing.assert_allclose(stored[:, 1:3], expected, rtol=1e-4)
    assert {view["target"] for view in document["bufferViews"]} == {34962, 34963}
    index = document["accessors"][primitive["indices"]]
    assert document["bufferViews"][index["bufferView"]]["target"] == 34963
    np.testing.assert_array_equal(colors_of(tmp_path / "a.glb"), box.visual.vertex_colors)


def test_colours_of_earlier_versions_are_bytes_as_they_are(tmp_path, box):
    box.export(tmp_path / "a.glb")
    np.testing.assert_array_equal(colors_of(tmp_path / "a.glb"), box.visual.vertex_colors)


def test_colours_of_others_are_linear(tmp_path, box):
    box.export(tmp_path / "a.glb")
    change_glb(tmp_path / "a.glb", lambda document: document["asset"].update(generator="another"))
    codes = colors_of(tmp_path / "a.glb")
    # 128 / 255 of the light has the code 1.055 * 0.50196^(1 / 2.4) - 0.055 = 0.73667.
    assert (codes[:, 2] == 188).all() and (codes[:, 3] == 255).all()


def test_points_keep_their_colours(tmp_path):
    colors = np.arange(60, dtype=np.uint8).reshape(20, 3) * 4
    write_mesh(trimesh.PointCloud(np.eye(3).repeat(7, 0)[:20], colors), tmp_path / "a.glb")
    np.testing.assert_array_equal(
        np.asarray(read_mesh(tmp_path / "a.glb").to_geometry().colors)[:, :3], colors
    )


def test_a_broken_file_is_named(tmp_path, box):
    write_mesh(box, tmp_path / "a.glb")
    change_glb(tmp_path / "a.glb", lambda document: document["accessors"][0].update(count=10**9))
    with pytest.raises(MeshFileError, match=r"a\.glb"):
        read_mesh(tmp_path / "a.glb")
