"""Tilesets: what is written comes back, and fits the rules of 3D Tiles."""

import json
import os
import struct
import sys
import types

import numpy as np
import pytest
import torch

from mmcity.structures import (
    GaussianFileError,
    SceneFrame,
    SplatInfo,
    build_lod_tree,
    write_gaussians_glb,
)
from mmcity.utils.dependencies import DependencyError
from mmcity.visualization.tiles3d import (
    east_north_up_frame,
    read_tileset,
    read_tileset_file,
    root_transform,
    write_tileset,
)
from tests.reliability.disks import files_up_to
from tests.structures.io.test_gaussian_files_of_others import change_glb
from tests.structures.test_gaussian_lod import street


@pytest.fixture(scope="module")
def tree():
    return build_lod_tree(street(2000), max_per_cell=300, merge_resolution=12)


def tiles(entry):
    yield entry
    for child in entry.get("children", []):
        yield from tiles(child)


def test_round_trip_of_plain_cells(tmp_path, tree):
    write_tileset(tree, tmp_path, compress=None)
    again = read_tileset(tmp_path)
    assert [cell.children for cell in again.cells] == [cell.children for cell in tree.cells]
    for before, after in zip(tree.cells, again.cells):
        assert after.error == pytest.approx(before.error)
        assert torch.allclose(after.gaussians.means, before.gaussians.means, atol=1e-5)
        assert torch.equal(after.gaussians.opacities, before.gaussians.opacities)


def test_round_trip_of_packed_cells(tmp_path, tree):
    info = SplatInfo(model="antialiased", axes="RDF")
    write_tileset(tree, tmp_path / "a", up="-y", info=info)
    write_tileset(tree, tmp_path / "b", up="-y", info=info, compress=None)
    again, read = read_tileset_file(tmp_path / "a")
    assert (read.model, read.axes, read.format) == ("antialiased", "RDF", "3d tiles")
    assert [cell.children for cell in again.cells] == [cell.children for cell in tree.cells]
    for before, after in zip(tree.cells, again.cells):
        gap = (after.gaussians.means - before.gaussians.means).abs().max()
        assert gap <= 2**-13 + 1e-5
        gap = after.gaussians.opacities - before.gaussians.opacities
        assert gap.abs().max() <= 0.51 / 255
    sizes = [sum(p.stat().st_size for p in (tmp_path / n).rglob("*.glb")) for n in "ab"]
    assert sizes[0] < sizes[1] / 2


def test_what_adds_is_inherited_and_models_do_not_mix(tmp_path):
    for name, model in (("a", "default"), ("b", "default"), ("c", "antialiased")):
        write_gaussians_glb(street(50), tmp_path / f"{name}.glb", info=SplatInfo(model=model))

    def tile(uri, *children):
        entry = {"boundingVolume": {"sphere": [0, 0, 0, 1]}, "geometricError": 1,
                 "content": {"uri": uri}}  # fmt: skip
        return {**entry, "children": list(children)} if children else entry

    def read(root):
        document = {"asset": {"version": "1.1"}, "geometricError": 1, "root": root}
        (tmp_path / "tileset.json").write_text(json.dumps(document))
        tree = read_tileset(tmp_path)
        return len(tree.gather(tree.leaves))

    assert read({**tile("a.glb", tile("b.glb", tile("a.glb"))), "refine": "ADD"}) == 150
    assert read(tile("a.glb", tile("b.glb", tile("a.glb")))) == 50
    with pytest.raises(GaussianFileError, match="one model and colour space"):
        read({**tile("a.glb", tile("c.glb")), "refine": "ADD"})


@pytest.mark.parametrize("levels, right", [(8, True), (9, False)])
def test_tilesets_within_tilesets_to_a_bound(tmp_path, levels, right):
    write_gaussians_glb(street(50), tmp_path / "a.glb")
    for level in range(levels + 1):
        uri = f"{level + 1}.json" if level < levels else "a.glb"
        root = {"boundingVolume": {"sphere": [0, 0, 0, 1]}, "geometricError": 1,
                "content": {"uri": uri}}  # fmt: skip
        document = {"asset": {"version": "1.1"}, "geometricError": 1, "root": root}
        name = f"{level}.json" if level else "tileset.json"
        (tmp_path / name).write_text(json.dumps(document))
    if right:
        assert len(read_tileset(tmp_path).gather(read_tileset(tmp_path).leaves)) == 50
    else:
        with pytest.raises(GaussianFileError, match=r"9\.json: expected .* 8 tilesets"):
            read_tileset(tmp_path)


def test_logarithms_in_many_cells_are_told_once(tmp_path, tree, monkeypatch):
    from mmcity.visualization import tiles3d

    said = []
    monkeypatch.setattr(tiles3d, "print_log", lambda text, *_: said.append(text))
    index = write_tileset(tree, tmp_path, compress=None)
    for file in tmp_path.rglob("*.glb"):
        change_glb(file, lambda document: document["asset"].pop("extras"))
    read_tileset(index)
    assert len(said) == 1 and "tileset.json: scales are logarithms" in said[0]


def test_an_export_that_fails_leaves_the_earlier_tileset_whole(tmp_path, tree):
    index = write_tileset(build_lod_tree(street(600), max_per_cell=300), tmp_path)
    earlier = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    largest = max(len(content) for content in earlier.values())
    with pytest.raises(OSError, match=r"\.glb"), files_up_to(largest // 2):
        write_tileset(tree, tmp_path)

    assert {path: path.read_bytes() for path in earlier} == earlier
    assert len(read_tileset(index).gather(read_tileset(index).leaves)) == 600


def test_an_export_takes_the_place_of_an_earlier_one(tmp_path, tree):
    write_tileset(build_lod_tree(street(600), max_per_cell=300), tmp_path / "a")
    (tmp_path / "a" / "cells").mkdir()  # as version 0.1 named it
    (tmp_path / "a" / "page.html").touch()
    for folder in ("a", "b"):
        write_tileset(tree, tmp_path / folder)

    (tmp_path / "a" / "page.html").unlink()
    first, second = (
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second
    assert [p.name for p in (tmp_path / "a").iterdir() if p.name == "cells"] == []


def test_boxes_hold_the_content_and_errors_shrink(tmp_path, tree):
    index = write_tileset(tree, tmp_path, up="z")
    root = json.loads(index.read_text())["root"]
    for entry in tiles(root):
        center, axes = np.split(np.array(entry["boundingVolume"]["box"]), [3])
        reach = np.abs(axes.reshape(3, 3)).sum(0)
        means = read_tileset_cell(tmp_path / entry["content"]["uri"])
        assert (np.abs(means - center) <= reach + 1e-4).all()
        assert entry["refine"] == "REPLACE"
        for child in entry.get("children", []):
            assert child["geometricError"] <= entry["geometricError"]


def read_tileset_cell(path) -> np.ndarray:
    """Positions as a viewer places them: glTF's axes, then a quarter turn to z up."""
    from mmcity.structures import read_gaussians_glb

    x, y, z = read_gaussians_glb(path, up="y").means.double().numpy().T
    return np.stack([x, -z, y], -1)


def test_place_on_earth(tmp_path, tree):
    """Distances on the ellipsoid against closed forms at the equator and a pole."""
    equator = east_north_up_frame(0.0, 0.0, 10.0)
    assert np.allclose(equator[:3, 3], [6378147.0, 0, 0])
    assert np.allclose(equator[:3, :3], [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    pole = east_north_up_frame(90.0, 90.0)
    assert np.allclose(pole[:3, 3], [0, 0, 6356752.314245], atol=1e-3)
    index = write_tileset(tree, tmp_path, georeference=(8.5, 47.4, 400.0))
    frame = np.array(json.loads(index.read_text())["root"]["transform"]).reshape(4, 4).T
    assert np.allclose(frame[:3, :3] @ frame[:3, :3].T, np.eye(3))
    assert np.linalg.norm(frame[:3, 3]) == pytest.approx(6367000, abs=5000)


#: Properties of the schemas of 3D Tiles 1.1, those that must be there first.
_TILESET = (("asset", "geometricError", "root"), ("extensionsUsed", "extensions"))
_TILE = (
    ("boundingVolume", "geometricError"),
    ("refine", "content", "children", "transform"),
)


@pytest.mark.parametrize("compress", ["spz", None])
@pytest.mark.parametrize("georeference", [None, (8.5, 47.4, 400.0)])
def test_tileset_keeps_the_rules_that_validators_check(tmp_path, tree, georeference, compress):
    index = write_tileset(tree, tmp_path, georeference=georeference, compress=compress)
    document = json.loads(index.read_text(), parse_constant=pytest.fail)  # no NaN, no Infinity
    check_names(document, *_TILESET)
    assert document["asset"]["version"] == "1.1"
    assert set(document["extensions"]) <= set(document["extensionsUsed"])
    assert document["geometricError"] >= document["root"]["geometricError"]
    assert "refine" in document["root"]  # children inherit it, the root has to say it
    assert ("transform" in document["root"]) == (georeference is not None)
    used = document["extensions"]["3DTILES_content_gltf"]["extensionsUsed"]
    # CesiumJS 1.145 takes its path for splats only where all of these are required.
    assert document["extensions"]["3DTILES_content_gltf"]["extensionsRequired"] == used
    packed = ["KHR_gaussian_splatting_compression_spz_2"] if compress else []
    assert used == ["KHR_gaussian_splatting", *packed]
    for entry in tiles(document["root"]):
        check_names(entry, *_TILE)
        assert entry["geometricError"] >= 0 and entry["refine"] in ("ADD", "REPLACE")
        assert set(entry["boundingVolume"]) == {"box"} and len(entry["boundingVolume"]["box"]) == 12
        assert entry.get("children", [0])  # a list of children may not be empty
        assert set(entry["content"]) == {"uri"}
        check_binary_gltf(tmp_path / entry["content"]["uri"], used)
        for child in entry.get("children", []):
            assert child["geometricError"] <= entry["geometricError"]
            low, high = corners(entry)
            child_low, child_high = corners(child)
            assert (child_low >= low - 1e-4).all() and (child_high <= high + 1e-4).all()


def check_names(entry: dict, required: tuple, allowed: tuple) -> None:
    assert set(required) <= set(entry) <= set(required) | set(allowed)


def corners(entry) -> tuple[np.ndarray, np.ndarray]:
    center, axes = np.split(np.array(entry["boundingVolume"]["box"]), [3])
    reach = np.abs(axes.reshape(3, 3)).sum(0)
    return center - reach, center + reach


def check_binary_gltf(path, extensions: list[str]) -> None:
    """Layout of the container, and that every view and accessor lies within its buffer."""
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data)) and length % 4 == 0
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON" and size % 4 == 0
    document = json.loads(data[20 : 20 + size], parse_constant=pytest.fail)
    held, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert kind == b"BIN\0" and 28 + size + held == length
    (buffer,) = document["buffers"]
    assert held - 3 <= buffer["byteLength"] <= held
    assert set(document.get("extensionsRequired", [])) <= set(document["extensionsUsed"])
    assert set(document["extensionsUsed"]) <= set(extensions)
    for view in document["bufferViews"]:
        assert view.get("byteOffset", 0) + view["byteLength"] <= buffer["byteLength"]
    widths = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
    bytes_of = {5121: 1, 5123: 2, 5126: 4}
    for accessor in document["accessors"]:
        if "bufferView" not in accessor:
            assert "KHR_gaussian_splatting_compression_spz_2" in document["extensionsRequired"]
            continue
        view = document["bufferViews"][accessor["bufferView"]]
        item = widths[accessor["type"]] * bytes_of[accessor["componentType"]]
        stride = view.get("byteStride", item)
        assert stride % 4 == 0 or accessor["type"] == "SCALAR"
        need = accessor.get("byteOffset", 0) + stride * (accessor["count"] - 1) + item
        assert need <= view["byteLength"]
        assert accessor.get("byteOffset", 0) % bytes_of[accessor["componentType"]] == 0
    (primitive,) = document["meshes"][0]["primitives"]
    position = document["accessors"][primitive["attributes"]["POSITION"]]
    assert len(position["min"]) == len(position["max"]) == 3 and primitive["mode"] == 0
    assert {document["accessors"][i]["count"] for i in primitive["attributes"].values()} == {
        position["count"]
    }


def test_broken_tileset(tmp_path, tree):
    index = write_tileset(tree, tmp_path)
    index.write_text(index.read_text()[:-40])
    with pytest.raises(GaussianFileError, match="tileset.json"):
        read_tileset(tmp_path)


UTM = SceneFrame(crs="EPSG:25832", origin=(452310.25, 5411872.75, 213.5))


def test_a_frame_about_a_place_on_earth_sets_the_root():
    """East, north and up of the place, turned by the frame."""
    quarter = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    frame = SceneFrame(crs="ENU", lla=(47.38, 8.54, 410.0), rotation=quarter, origin=(5.0, 6, 7))
    matrix = root_transform(frame, "z")
    local = np.linalg.inv(east_north_up_frame(8.54, 47.38, 410.0)) @ matrix
    # x of the scene points north, its origin lies 5, 6 and 7 metres from the place.
    np.testing.assert_allclose(local @ [1, 0, 0, 1], [5, 7, 7, 1], atol=1e-6)
    # Tiles of a scene with y down are z up already: y down becomes z up, x stays.
    tilted = np.linalg.inv(east_north_up_frame(8.54, 47.38, 410.0)) @ root_transform(frame, "-y")
    np.testing.assert_allclose(tilted @ [0, 0, 1, 1], [6, 6, 7, 1], atol=1e-6)


def test_other_frames_of_tiles():
    assert root_transform(None, "z") is None and root_transform(SceneFrame(), "z") is None
    ecef = SceneFrame(crs="EPSG:4978", origin=(4_177_012.5, 855_043.25, 4_728_211.75))
    np.testing.assert_array_equal(root_transform(ecef, "z"), ecef.matrix)
    unknown = SceneFrame(origin=UTM.origin)
    np.testing.assert_array_equal(root_transform(unknown, "z"), unknown.matrix)
    # A place that is given is that of the world's origin: the offset is added to it.
    given = root_transform(SceneFrame(origin=(10.0, 20, 30)), "z", (8.54, 47.38, 410.0))
    expected = east_north_up_frame(8.54, 47.38, 410.0) @ [10, 20, 30, 1]
    np.testing.assert_allclose(given[:, 3], expected, atol=1e-9)


def test_projected_frames_need_pyproj_or_a_place(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyproj", None)
    with pytest.raises(DependencyError, match=r"EPSG:25832: expected pyproj, .*--georeference"):
        root_transform(UTM, "z")
    assert root_transform(UTM, "z", (8.54, 47.38, 410.0)) is not None


class _Grid:
    """A grid turned by 1 degree against north, metres about 8 degrees east, 48 north."""

    @classmethod
    def from_crs(cls, source, target, always_xy):
        assert (source, target, always_xy) == ("EPSG:25832", "EPSG:4979", True)
        return cls()

    def transform(self, x, y, z):
        east, north = x - UTM.origin[0], y - UTM.origin[1]
        cos, sin = np.cos(np.radians(1)), np.sin(np.radians(1))
        meters = 6378137.0 * np.pi / 180
        # On a sphere, which is right to a hundredth over a metre.
        return (
            8 + (cos * east - sin * north) / (meters * np.cos(np.radians(48))),
            48 + (sin * east + cos * north) / meters,
            z,
        )


@pytest.fixture
def pyproj(monkeypatch):
    """A stand-in that knows one grid in the plane, in metres."""
    module = types.ModuleType("pyproj")
    module.Transformer = _Grid
    module.exceptions = types.SimpleNamespace(ProjError=RuntimeError)
    axis = types.SimpleNamespace(unit_name="metre", unit_conversion_factor=1.0)
    module.system = types.SimpleNamespace(is_projected=True, axis_info=[axis, axis])
    module.CRS = lambda name: module.system
    monkeypatch.setitem(sys.modules, "pyproj", module)
    return module


def test_units_of_the_reference_system_count(pyproj):
    """Feet of a grid are feet on the globe, heights too."""
    foot = types.SimpleNamespace(unit_name="US survey foot", unit_conversion_factor=1200 / 3937)
    pyproj.system.axis_info = [foot, foot]
    plane = root_transform(UTM, "z")
    np.testing.assert_allclose(
        np.linalg.norm(plane[:3, :3], axis=0), np.full(3, 1200 / 3937), rtol=1e-9
    )
    height = 213.5 * 1200 / 3937
    np.testing.assert_allclose(plane[:3, 3], east_north_up_frame(8, 48, height)[:3, 3], atol=1e-6)
    metre = types.SimpleNamespace(unit_name="metre", unit_conversion_factor=1.0)
    pyproj.system.axis_info = [foot, foot, metre]
    sizes = np.linalg.norm(root_transform(UTM, "z")[:3, :3], axis=0)
    np.testing.assert_allclose(sizes, [1200 / 3937, 1200 / 3937, 1], rtol=1e-9)


def test_frames_without_a_place_in_metres_are_refused(pyproj):
    degree = types.SimpleNamespace(unit_name="degree", unit_conversion_factor=np.pi / 180)
    pyproj.system.axis_info, pyproj.system.is_projected = [degree, degree], False
    with pytest.raises(ValueError, match="EPSG:25832: expected a projected system.*got one in deg"):
        root_transform(UTM, "z")
    feet = SceneFrame(crs="ENU", lla=(47.38, 8.54, 410.0), unit="ft")
    with pytest.raises(ValueError, match="unit: expected 'm' about a place on earth, got 'ft'"):
        root_transform(feet, "z")
    with pytest.raises(ValueError, match="unit: expected 'm'"):
        root_transform(SceneFrame(unit="ft"), "z", (8.54, 47.38, 410.0))


def test_projected_frames_are_turned_with_their_grid(pyproj):
    local = np.linalg.inv(east_north_up_frame(8.0, 48.0, 213.5)) @ root_transform(UTM, "z")
    np.testing.assert_allclose(local[:3, 3], 0, atol=1e-6)
    angle = np.degrees(np.arctan2(local[1, 0], local[0, 0]))
    assert angle == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(local[:3, :3] @ local[:3, :3].T, np.eye(3), atol=1e-9)


def test_tilesets_keep_the_frame_of_their_scene(tmp_path):
    scene = street(600)
    scene.frame = SceneFrame(origin=UTM.origin)
    index = write_tileset(build_lod_tree(scene, max_per_cell=200), tmp_path)
    back = read_tileset(index)
    assert {cell.gaussians.frame for cell in back.cells} == {scene.frame}
    document = json.loads(index.read_text())
    assert document["asset"]["extras"]["mmcity_frame"] == scene.frame.to_dict()


def test_tiles_of_others_in_coordinates_of_the_earth(tmp_path):
    """As other programs write them: without a frame, the place in the transform of a tile."""
    scene = street(300)
    tree = build_lod_tree(scene, max_per_cell=100)
    index = write_tileset(tree, tmp_path, up="y", compress=None)
    place = np.array([4_177_012.5, 855_043.25, 4_728_211.75])
    document = json.loads(index.read_text())
    inner = document["root"]
    matrix = np.eye(4)
    matrix[:3, 3] = place
    box = [
        *(np.array(inner["boundingVolume"]["box"][:3]) + place),
        *inner["boundingVolume"]["box"][3:],
    ]
    inner["transform"] = matrix.T.ravel().tolist()
    document["root"] = {
        "boundingVolume": {"box": box}, "geometricError": 9.0, "children": [inner]
    }  # fmt: skip
    document["asset"]["generator"] = "another"
    index.write_text(json.dumps(document))
    tree = read_tileset(index)
    back = tree.gather(tree.leaves)
    assert abs(back.means).max() < 1e3
    # The content has y up, where tiles have z up.
    world = back.frame.scene_to_world(back.means) @ [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    known = scene.means.double().numpy() @ [[1, 0, 0], [0, 0, 1], [0, -1, 0]] + place
    order = [np.lexsort(np.round(table - place, 3).T) for table in (world, known)]
    np.testing.assert_allclose(world[order[0]], known[order[1]], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "uri", ["../outside.glb", "/etc/a.glb", "a/../../outside.glb", "file:///etc/a.glb", "pipe.glb"]
)
@pytest.mark.timeout(60)
def test_tiles_name_regular_files_of_their_own_folder(tmp_path, tree, uri):
    index = write_tileset(tree, tmp_path / "tiles")
    (cells,) = (path for path in index.parent.iterdir() if path.is_dir())
    (cells / "000000.glb").rename(tmp_path / "outside.glb")
    os.mkfifo(index.parent / "pipe.glb")  # a reader would wait for ever
    document = json.loads(index.read_text())
    document["root"]["content"]["uri"] = uri
    index.write_text(json.dumps(document))
    with pytest.raises(GaussianFileError, match="leads out of it|regular file"):
        read_tileset(index)


def test_a_tileset_that_holds_itself_is_refused(tmp_path, tree):
    index = write_tileset(tree, tmp_path)
    document = json.loads(index.read_text())
    document["root"]["content"]["uri"] = "tileset.json"
    index.write_text(json.dumps(document))
    with pytest.raises(GaussianFileError, match="expected a tileset"):
        read_tileset(index)
