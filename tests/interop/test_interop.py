"""What we write, programs of others read: the same values, and no complaints."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from mmcity.structures import (
    Gaussians,
    SplatInfo,
    VoxelGrid,
    build_lod_tree,
    read_gaussian_file,
    write_gaussians,
    write_gaussians_glb,
    write_spz,
)
from mmcity.structures.io.mesh_files import write_mesh
from mmcity.structures.palettes import UNIFIED_PALETTE
from mmcity.visualization.occupancy_mesh import occupancy_mesh
from mmcity.visualization.tiles3d import write_tileset
from mmcity.visualization.voxel_tiles import write_voxel_glb
from tests.parity.test_interchange import FIELDS, differences
from tests.structures.io.test_gaussian_formats import scene

pytestmark = pytest.mark.interop

#: Largest difference of two decoders of the same bytes.
SAME = {
    "means": 1e-4,
    "rot_deg": 0.05,
    "log_scale": 1e-4,
    "opacity": 1e-4,
    "sh0": 1e-4,
    "shN": 1e-4,
}


def arrays(gaussians: Gaussians) -> dict:
    return {field: getattr(gaussians, field).numpy() for field in FIELDS}


def beyond(got, want, **other) -> dict[str, float]:
    limits = {**SAME, **other}
    found = differences(got, want)
    return {name: value for name, value in found.items() if value > limits[name]}


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize(
    "name", ["a.ply", "a.compressed.ply", "a.spz", "a3.spz", "a.sog", "sog/meta.json", "a.splat"]
)
def test_splat_transform_reads_what_we_write(tmp_path, tools, name, degree):
    before, path = scene(300, degree), tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if name == "a3.spz":
        write_spz(before, path, version=3)
    else:
        write_gaussians(before, path)
    ours, info = read_gaussian_file(path)

    tools.splat_transform(path, tmp_path / "back.ply")

    theirs, _ = read_gaussian_file(tmp_path / "back.ply")
    # It decodes the rotations of .splat by another formula.
    coarse = {"rot_deg": 1.6} if name == "a.splat" else {}
    assert beyond(arrays(theirs), arrays(ours), **coarse) == {}
    told = json.loads(tools.splat_transform(path, "--info", "json", "null"))
    assert (told["numGaussians"], told["shBands"]) == (300, info.sh_degree)
    assert told["model"] == info.model


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".spz", ".sog"])
def test_we_read_what_splat_transform_writes_of_ours(tmp_path, tools, suffix):
    before = scene(300, 2)
    write_gaussians(before, tmp_path / "a.ply", info=SplatInfo(model="antialiased"))

    tools.splat_transform(tmp_path / "a.ply", tmp_path / f"b{suffix}")
    tools.splat_transform(tmp_path / f"b{suffix}", tmp_path / "c.ply")

    ours, info = read_gaussian_file(tmp_path / f"b{suffix}")
    theirs, _ = read_gaussian_file(tmp_path / "c.ply")
    assert beyond(arrays(ours), arrays(theirs)) == {}
    assert info.model == "antialiased"


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("degree", [0, 2, 3])
def test_the_reference_reads_our_spz(tmp_path, tools, version, degree):
    before, path = scene(300, degree), tmp_path / "a.spz"
    write_spz(before, path, version=version, antialiased=True, up="z")
    ours, _ = read_gaussian_file(path)

    told = tools.spz_values(path)

    assert (told["count"], told["degree"], told["antialiased"]) == (300, degree, True)
    assert beyond(of_reference(told), arrays(ours)) == {}
    if version == 4:  # says its axes: the reference turns it
        turned, _ = read_gaussian_file(path, to="RDF")
        assert beyond(of_reference(tools.spz_values(path, "RDF")), arrays(turned)) == {}


def of_reference(told) -> dict:
    """Values of the reference library as ours: logarithms, logits and xyzw undone."""
    table = {name: np.array(told[name], np.float32) for name in told if name not in ("count",)}
    count = told["count"]
    return {
        "means": table["positions"].reshape(count, 3),
        "quats": table["rotations"].reshape(count, 4)[:, [3, 0, 1, 2]],
        "scales": np.exp(table["scales"].reshape(count, 3)),
        "opacities": 1 / (1 + np.exp(-table["alphas"].astype(np.float64))),
        "sh0": table["colors"].reshape(count, 1, 3),
        "shN": table["sh"].reshape(count, -1, 3),
    }


def grid() -> VoxelGrid:
    labels = torch.arange(60).reshape(4, 5, 3) % 12
    return VoxelGrid(labels, origin=torch.zeros(3), voxel_size=0.4)


WRITERS = {
    "plain": lambda path: write_gaussians_glb(scene(50, 3), path),
    "packed": lambda path: write_gaussians_glb(scene(50, 3), path, compress="spz"),
    "linear": lambda path: write_gaussians_glb(
        scene(50, 1), path, up="-y", info=replace(SplatInfo(), color_space="linear")
    ),
    "voxels": lambda path: write_voxel_glb(grid(), path),
    "occupancy": lambda path: write_mesh(occupancy_mesh(grid(), UNIFIED_PALETTE), path),
    "points": lambda path: write_mesh(
        trimesh.PointCloud(np.eye(3), np.arange(9, dtype=np.uint8).reshape(3, 3)), path
    ),
}
#: What the validator does not know of voxels.
OF_VOXELS = {
    "VALUE_NOT_IN_RANGE",
    "MESH_PRIMITIVE_NO_POSITION",
    "MESH_PRIMITIVE_ACCESSOR_UNALIGNED",
}


def complaints(messages: list[dict], known: set[str] = frozenset()) -> list[dict]:
    """Errors, warnings and hints but those that every conforming file of splats gets."""
    return [
        message
        for message in messages
        if message["severity"] != 2  # information, such as extensions that it does not know
        and not (
            message["code"] == "MESH_PRIMITIVE_INVALID_ATTRIBUTE"
            and ":" in message["pointer"].rpartition("/")[2]
        )
        and message["code"] not in known
    ]


@pytest.mark.parametrize("kind", WRITERS)
def test_the_validator_of_gltf_has_nothing_to_say(tmp_path, tools, kind):
    WRITERS[kind](tmp_path / "a.glb")
    found = tools.gltf_messages(tmp_path / "a.glb")
    assert complaints(found, OF_VOXELS if kind == "voxels" else frozenset()) == []


def test_the_validator_has_nothing_to_say_of_tiles(tmp_path, tools):
    write_tileset(build_lod_tree(scene(400, 1), 200), tmp_path)
    files = sorted(tmp_path.rglob("*.glb"))
    assert files and complaints(tools.gltf_messages(files[0])) == []
