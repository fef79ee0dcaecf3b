"""Frames of scenes in all formats: what is written lies where it was in the world."""

import json

import numpy as np
import pytest
import torch
import trimesh
from plyfile import PlyData

from mmcity.structures import (
    GaussianFileError,
    Gaussians,
    SceneFrame,
    read_frame_of,
    read_gaussians,
    read_gaussians_glb,
    stamp_frame,
    write_gaussians,
)
from mmcity.structures.io.gaussians_gltf import y_up
from mmcity.structures.io.glb import read_glb_container, write_glb_container
from mmcity.structures.io.ply import PlyFormatError, write_ply_vertices

UTM = SceneFrame(crs="EPSG:25832", origin=(452310.25, 5411872.75, 213.5))
#: Metres that a format may lose: a millimetre, or a centimetre where it quantises.
TOLERANCE = {".ply": 1e-3, ".splat": 1e-3, ".glb": 1e-3, ".spz": 1e-2}


def scene(frame=UTM):
    g = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.randn(6, 3, generator=g) * 20,
        torch.nn.functional.normalize(torch.randn(6, 4, generator=g), dim=-1),
        torch.rand(6, 3, generator=g) + 0.1,
        torch.rand(6, generator=g),
        sh0=torch.randn(6, 1, 3, generator=g),
        frame=frame,
    )


def world_of(gaussians):
    """World positions in an order that does not depend on that of the file."""
    world = gaussians.frame.scene_to_world(gaussians.means)
    return world[world[:, 0].argsort()]


@pytest.mark.parametrize("suffix", sorted(TOLERANCE))
def test_gaussians_keep_their_place_in_the_world(tmp_path, suffix):
    path = tmp_path / f"scene{suffix}"
    write_gaussians(scene(), path)
    back = read_gaussians(path)
    assert back.frame == UTM
    np.testing.assert_allclose(world_of(back), world_of(scene()), rtol=0, atol=TOLERANCE[suffix])
    # And through another format, and another.
    for other in sorted(TOLERANCE):
        write_gaussians(back, tmp_path / f"next{other}")
        back = read_gaussians(tmp_path / f"next{other}")
    np.testing.assert_allclose(world_of(back), world_of(scene()), rtol=0, atol=2e-2)


@pytest.mark.parametrize("suffix", sorted(TOLERANCE))
def test_a_frame_that_says_nothing_leaves_no_trace(tmp_path, suffix):
    plain, noted = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_gaussians(scene(), noted)  # an earlier scene of that name
    write_gaussians(scene(None), plain)
    write_gaussians(scene(SceneFrame()), noted)
    assert plain.read_bytes() == noted.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [plain.name, noted.name]
    assert read_gaussians(plain).frame is None


def test_the_frame_stands_where_other_programs_look(tmp_path):
    write_gaussians(scene(), tmp_path / "a.ply")
    (comment,) = PlyData.read(str(tmp_path / "a.ply")).comments
    name, _, text = comment.partition(" ")
    assert name == "mmcity_frame" and json.loads(text) == UTM.to_dict()
    write_gaussians(scene(), tmp_path / "a.glb")
    document, _ = read_glb_container(tmp_path / "a.glb")
    assert document["asset"]["extras"]["mmcity_frame"] == UTM.to_dict()
    write_gaussians(scene(), tmp_path / "a.spz")
    assert json.loads((tmp_path / "a.spz.frame.json").read_text()) == UTM.to_dict()


def test_other_axes_of_a_glb_turn_the_frame(tmp_path):
    write_gaussians(scene(), tmp_path / "a.glb")
    back = read_gaussians_glb(tmp_path / "a.glb", up="y")
    assert abs(back.means - scene().means).max() > 1
    np.testing.assert_allclose(world_of(back), world_of(scene()), rtol=0, atol=1e-3)


def test_positions_in_double_precision_are_read_about_their_own(tmp_path):
    write_gaussians(scene(None), tmp_path / "near.ply")
    vertex = PlyData.read(str(tmp_path / "near.ply"))["vertex"]
    columns = {prop.name: np.asarray(vertex[prop.name]) for prop in vertex.properties}
    for axis, place in zip("xyz", UTM.origin):
        columns[axis] = columns[axis].astype(np.float64) + place
    write_ply_vertices(tmp_path / "far.ply", columns)
    back = read_gaussians(tmp_path / "far.ply")
    assert abs(back.means).max() < 200
    np.testing.assert_allclose(world_of(back), world_of(scene()), rtol=0, atol=1e-4)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl", ".glb"])
def test_meshes_of_another_library_keep_their_place(tmp_path, suffix):
    mesh = trimesh.creation.box((3.0, 4.0, 5.0))
    target = tmp_path / f"mesh{suffix}"
    mesh.export(tmp_path / f"part{suffix}")
    stamp_frame(tmp_path / f"part{suffix}", target, UTM, up="y")
    (tmp_path / f"part{suffix}").rename(target)
    back = trimesh.load_mesh(target)
    frame = read_frame_of(target)
    corner = frame.scene_to_world(np.asarray(back.vertices)).max(0)
    np.testing.assert_allclose(corner, np.add(UTM.origin, (1.5, 2.0, 2.5)), rtol=0, atol=1e-4)


def test_broken_frames_name_their_file(tmp_path):
    write_gaussians(scene(), tmp_path / "a.ply")
    data = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(data.replace(b'"scale":1.0', b'"scale":0.0'))
    with pytest.raises(PlyFormatError, match=r"a\.ply: scale"):
        read_gaussians(tmp_path / "a.ply")
    write_gaussians(scene(), tmp_path / "a.splat")
    (tmp_path / "a.splat.frame.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a\.splat\.frame\.json: expected a frame"):
        read_gaussians(tmp_path / "a.splat")
    assert issubclass(GaussianFileError, ValueError)


def test_a_glb_that_nodes_place_on_the_earth(tmp_path):
    write_gaussians(scene(None), tmp_path / "a.glb")
    document, binary = read_glb_container(tmp_path / "a.glb")
    place = np.array([4_177_012.5, 855_043.25, 4_728_211.75])
    turned = y_up("z")[:3, :3] @ place
    document["nodes"].append({"translation": turned.tolist(), "children": [0]})
    document["scenes"][0]["nodes"] = [1]
    write_glb_container(tmp_path / "a.glb", document, binary)
    back = read_gaussians(tmp_path / "a.glb")
    assert abs(back.means).max() < 200
    world = back.frame.scene_to_world(back.means) - place
    np.testing.assert_allclose(
        world[world[:, 0].argsort()], scene().means[scene().means[:, 0].argsort()], atol=1e-4
    )
