"""Files of Gaussians as other programs write them: places, extensions, versions, damage."""

import gzip
import json
import struct

import numpy as np
import pytest
import torch
import trimesh
from plyfile import PlyData, PlyElement

from mmcity.structures import (
    GaussianFileError,
    Gaussians,
    SceneFrame,
    Sim3,
    SplatInfo,
    read_frame_of,
    read_gaussian_file,
    read_gaussians,
    write_frame,
    write_gaussians,
)
from mmcity.structures.io.gaussians_gltf import write_gaussians_glb
from mmcity.structures.io.glb import read_glb_container
from mmcity.structures.io.gltf_primitives import NoGaussiansError
from mmcity.structures.scene_frame import sidecar
from mmcity.visualization.tiles3d import read_tileset
from mmcity.visualization.viewer import open_layers

TURN = [0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)]  # a quarter about z, xyzw


def gaussians(count=5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    draw = lambda *size: torch.rand(*size, generator=rng)  # noqa: E731
    return Gaussians(
        draw(count, 3), draw(count, 4) + 0.1, draw(count, 3) * 0.1 + 0.01, draw(count) * 0.8 + 0.1,
        draw(count, 1, 3), draw(count, 3, 3),
    )  # fmt: skip


def change_glb(path, change):
    document, binary = read_glb_container(path)
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    size = 12 + 16 + len(text) + len(binary)
    path.write_bytes(
        struct.pack("<4sII", b"glTF", 2, size)
        + struct.pack("<I4s", len(text), b"JSON") + text
        + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    )  # fmt: skip


def below(*parents):
    """Puts the node of the Gaussians below others."""

    def change(document):
        nodes = document["nodes"]
        for parent in parents:
            nodes.append({**parent, "children": [document["scenes"][0]["nodes"][0]]})
            document["scenes"][0]["nodes"] = [len(nodes) - 1]

    return change


@pytest.mark.parametrize(
    "parents",
    [
        [{"translation": [10, 20, 30]}],
        [{"matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 10, 20, 30, 1]}],
        [{"translation": [10, 0, 0]}, {"translation": [0, 20, 30]}],
    ],
    ids=["translation", "matrix", "two"],
)
def test_parents_place_their_children(tmp_path, parents):
    g, path = gaussians(), tmp_path / "a.glb"
    write_gaussians_glb(g, path, up="y")
    change_glb(path, below(*parents))

    again = read_gaussians(path)

    torch.testing.assert_close(again.means, g.means + torch.tensor([10.0, 20.0, 30.0]))
    torch.testing.assert_close(again.scales, g.scales)


def test_turns_and_scales_of_parents_reach_every_value(tmp_path):
    g, path = gaussians(), tmp_path / "a.glb"
    write_gaussians_glb(g, path, up="y")
    change_glb(path, below({"rotation": TURN, "scale": [2, 2, 2]}, {"translation": [1, 0, 0]}))

    again = read_gaussians(path)

    turned = torch.stack([-g.means[:, 1], g.means[:, 0], g.means[:, 2]], 1)
    torch.testing.assert_close(again.means, 2 * turned + torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(again.scales, 2 * g.scales)
    R = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(again.covariances, 4 * R @ g.covariances @ R.T)


def test_all_primitives_are_read_and_nodes_out_of_the_scene_are_not(tmp_path):
    g, path = gaussians(), tmp_path / "a.glb"
    write_gaussians_glb(g, path, up="y")

    def change(document):
        document["nodes"] += [{"mesh": 0, "translation": [5, 0, 0]}, {"mesh": 0}]
        document["scenes"][0]["nodes"].append(1)

    change_glb(path, change)

    assert len(read_gaussians(path)) == 2 * len(g)


def test_uneven_scales_are_refused(tmp_path):
    path = tmp_path / "a.glb"
    write_gaussians_glb(gaussians(), path, up="y")
    change_glb(path, below({"scale": [1, 2, 1]}))

    with pytest.raises(
        GaussianFileError, match=r"a\.glb: expected nodes that turn, move and scale"
    ):
        read_gaussians(path)


def test_what_a_file_requires_and_is_not_read_is_named(tmp_path):
    path = tmp_path / "a.glb"
    packed = "KHR_gaussian_splatting_compression_new"

    def require(document):
        document["extensionsRequired"] = [packed]

    def nest(document):
        primitive = document["meshes"][0]["primitives"][0]
        primitive["extensions"]["KHR_gaussian_splatting"]["extensions"] = {packed: {}}

    for change in (require, nest):
        write_gaussians_glb(gaussians(), path)
        change_glb(path, change)
        for read in (read_gaussians, open_layers):
            with pytest.raises(GaussianFileError, match=f"a.glb: .*{packed}"):
                read(path)


def test_a_mesh_is_no_broken_file_of_gaussians(tmp_path):
    trimesh.creation.box().export(tmp_path / "box.glb")

    with pytest.raises(NoGaussiansError):
        read_gaussians(tmp_path / "box.glb")
    assert [layer.kind for layer in open_layers(tmp_path / "box.glb")] == ["mesh"]


def test_a_broken_file_of_gaussians_is_no_mesh(tmp_path):
    path = tmp_path / "a.glb"
    write_gaussians_glb(gaussians(), path)
    change_glb(path, lambda document: document["accessors"][0].update(count=10**6))

    with pytest.raises(GaussianFileError, match="accessor 0"):
        open_layers(path)


# ------------------------------------------------------------------ tiles


def tileset(tmp_path, root, **top):
    for name in ("a", "b"):
        write_gaussians_glb(gaussians(), tmp_path / f"{name}.glb", up="z")
    document = {"asset": {"version": "1.1"}, "geometricError": 10, "root": root, **top}
    (tmp_path / "tileset.json").write_text(json.dumps(document))
    return read_tileset(tmp_path)


def tile(**entry):
    return {"boundingVolume": {"sphere": [0, 0, 0, 1]}, "geometricError": 1, **entry}


def moved(x, y, z):
    return [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, x, y, z, 1]


def test_a_root_without_content_and_transforms_of_all_parents(tmp_path):
    leaf = tile(content={"uri": "a.glb"}, transform=moved(0, 0, 7))
    root = tile(
        transform=moved(6e6, 0, 0),  # the place on earth
        children=[tile(transform=moved(1, 0, 0), children=[leaf]), tile(content={"uri": "b.glb"})],
    )

    tree = tileset(tmp_path, root)

    parts = [tree.cells[number].gaussians for number in tree.leaves]
    expected = gaussians().means
    torch.testing.assert_close(parts[0].means, expected + torch.tensor([1.0, 0, 7]))
    torch.testing.assert_close(parts[1].means, expected)
    assert len(tree.cells[0].gaussians) == 0 and tree.cells[0].error == float("inf")


def test_tilesets_within_tilesets_and_tiles_that_add(tmp_path):
    inner = {
        "asset": {"version": "1.1"},
        "geometricError": 1,
        "root": tile(content={"uri": "b.glb"}),
    }
    (tmp_path / "inner.json").write_text(json.dumps(inner))
    root = tile(
        content={"uri": "a.glb"}, refine="ADD", children=[tile(content={"uri": "inner.json"})]
    )

    tree = tileset(tmp_path, root)

    assert len(tree.gather(tree.leaves)) == 2 * len(gaussians())


def test_extensions_that_a_tileset_requires_are_named(tmp_path):
    with pytest.raises(GaussianFileError, match="tileset.json: .*3DTILES_implicit_tiling"):
        tileset(
            tmp_path, tile(content={"uri": "a.glb"}), extensionsRequired=["3DTILES_implicit_tiling"]
        )


# ------------------------------------------------------------------ versions and damage


def spz_with(path, *records, version):
    """Puts extension records into an SPZ file."""
    added = b"".join(struct.pack("<II", kind, len(c)) + c for kind, c in records)
    whole = path.read_bytes()
    if version == 4:
        head = bytearray(whole[:32])
        head[14] |= 2
        head[16:20] = struct.pack("<I", 32 + len(added))
        path.write_bytes(bytes(head) + added + whole[32:])
    else:
        body = bytearray(gzip.decompress(whole))
        body[14] |= 2
        path.write_bytes(gzip.compress(bytes(body) + added))


ORBIT, AXES_RECORD, UNKNOWN = 0xADBE0002, 0xADBE0003, 0x12340001


@pytest.mark.parametrize("version", [3, 4])
def test_records_of_spz(tmp_path, version, monkeypatch):
    from mmcity.structures.io import gaussians_spz

    path, said = tmp_path / "a.spz", []
    monkeypatch.setattr(gaussians_spz, "print_log", lambda text, *_: said.append(text))
    write_gaussians(gaussians(), path, version=version)
    expected = read_gaussians(path)
    orbit = struct.pack("<3f", -0.5, 0.75, 1.25)
    spz_with(
        path, (UNKNOWN, b"12345"), (ORBIT, orbit), (AXES_RECORD, b"\x06\0\0\0"), version=version
    )

    again, info = read_gaussian_file(path)

    torch.testing.assert_close(again.means, expected.means)
    assert info.axes == "RDF" and info.extras["safe_orbit"] == (-0.5, 0.75, 1.25)
    assert len(said) == 1 and "0x12340001 of SPZ is not read" in said[0]
    written = write_gaussians(again, tmp_path / "b.spz", info=info)
    assert "extension record 0x12340001 dropped" in written.lost
    after = read_gaussian_file(tmp_path / "b.spz")[1]
    assert after.axes == "RDF" and after.extras == {"safe_orbit": (-0.5, 0.75, 1.25)}


@pytest.mark.parametrize("code", [0, 17])
def test_axes_of_spz_that_are_not_known_are_said(tmp_path, code, monkeypatch):
    from mmcity.structures.io import gaussians_spz

    path, said = tmp_path / "a.spz", []
    monkeypatch.setattr(gaussians_spz, "print_log", lambda text, *_: said.append(text))
    write_gaussians(gaussians(), path)
    spz_with(path, (AXES_RECORD, struct.pack("<I", code)), version=4)

    assert read_gaussian_file(path)[1].axes is None
    assert f"axes of the code {code} are not known" in said[0]


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("cut", [1, 9])
def test_records_of_spz_that_run_over_are_refused(tmp_path, version, cut):
    path = tmp_path / "a.spz"
    write_gaussians(gaussians(), path, version=version)
    spz_with(path, (UNKNOWN, b"12345"), version=version)
    whole = path.read_bytes()
    if version == 4:
        head = bytearray(whole[:32])
        head[16:20] = struct.pack("<I", 45 - cut)
        whole = bytes(head) + whole[32 : 45 - cut] + whole[45:]
    else:
        whole = gzip.compress(gzip.decompress(whole)[:-cut])
    path.write_bytes(whole)

    with pytest.raises(GaussianFileError, match=r"a\.spz: expected \d+ bytes for .*record"):
        read_gaussians(path)


def test_later_versions_of_spz_are_refused(tmp_path):
    path = tmp_path / "a.spz"
    path.write_bytes(struct.pack("<III20x", 0x5053474E, 5, 1))
    with pytest.raises(GaussianFileError, match=r"a\.spz: .* 1 to 4, got version 5: export it as"):
        read_gaussians(path)
    write_gaussians(gaussians(), path, version=3)
    body = bytearray(gzip.decompress(path.read_bytes()))
    body[4] = 4
    path.write_bytes(gzip.compress(bytes(body)))
    with pytest.raises(GaussianFileError, match=r"a\.spz: .* 1 to 3, got .* version 4"):
        read_gaussians(path)


@pytest.mark.parametrize("place", [12, 13, 15, -1])
def test_damage_of_spz_streams_is_named(tmp_path, place):
    path = tmp_path / "a.spz"
    write_gaussians(gaussians(), path)
    whole = bytearray(path.read_bytes())
    whole[place] = whole[place] ^ 0x7F  # degree, bits, streams, the end of the last stream
    path.write_bytes(whole)
    with pytest.raises(GaussianFileError, match=r"a\.spz"):
        read_gaussians(path)
    for content in (bytes(whole[:-3]), bytes(whole) + b"more"):
        path.write_bytes(content)
        with pytest.raises(GaussianFileError, match=r"a\.spz"):
            read_gaussians(path)


def old_spz(g, path):
    """A file as this toolbox wrote it before, turned to the axes that the format's text names."""
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    turned = g.transform(Sim3(rotation=half_turn))
    turned.frame = None
    write_gaussians(turned, path, version=3)
    write_frame(sidecar(path), g.frame)


@pytest.mark.parametrize("frame", [None, SceneFrame(origin=(4e5, 5e6, 200.0))])
def test_older_files_of_this_toolbox_are_turned_back(tmp_path, frame):
    g = gaussians()
    g.frame = frame
    old_spz(g, tmp_path / "old.spz")

    again, info = read_gaussian_file(tmp_path / "old.spz", assume="RUB", to="RDF")

    assert (again.means - g.means).abs().max() < 1 / 4096 and info.axes == "RDF"
    assert torch.allclose(again.covariances, g.covariances, atol=2e-3)
    assert (again.sh - g.sh).abs().max() < 0.07
    assert again.frame is None if frame is None else again.frame.is_near(frame)
    if frame is not None:  # beside such a file stands the frame of the scene before the turn
        stored = read_gaussians(tmp_path / "old.spz")
        place = stored.frame.scene_to_world(stored.means)
        assert np.abs(place - frame.scene_to_world(g.means)).max() < 1e-3
        assert read_frame_of(tmp_path / "old.spz").is_near(stored.frame)


@pytest.mark.parametrize("suffix", [".ply", ".splat"])
def test_invalid_gaussians_can_be_left_out(tmp_path, suffix, monkeypatch):
    from mmcity.structures.io import gaussian_format

    said = []
    monkeypatch.setattr(gaussian_format, "print_log", lambda text, *_: said.append(text))
    g, path = gaussians(8), tmp_path / f"a{suffix}"
    if suffix == ".ply":
        g.means[3, 1] = float("nan")
    write_gaussians(g, path)
    if suffix == ".splat":  # its writer takes none
        rows = bytearray(path.read_bytes())
        rows[32 * 3 : 32 * 3 + 4] = struct.pack("<f", float("nan"))
        path.write_bytes(rows)

    with pytest.raises(GaussianFileError, match="1 of 8 .* what to do: .*--drop-invalid"):
        read_gaussians(path)
    assert len(read_gaussians(path, drop_invalid=True)) == 7
    assert "1 of 8 Gaussians with NaN or infinity are left out" in said[0]


@pytest.mark.parametrize("suffix", [".glb", ".spz", ".splat"])
def test_formats_that_cannot_hold_nan_refuse_it(tmp_path, suffix):
    g = gaussians(8)
    g.means[3, 1] = float("nan")

    with pytest.raises(ValueError, match="expected finite values"):
        write_gaussians(g, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_file_of_nothing_valid_stays_an_error(tmp_path):
    g = gaussians(2)
    g.means[:] = float("nan")
    write_gaussians(g, tmp_path / "a.ply")

    with pytest.raises(GaussianFileError, match="2 of 2"):
        read_gaussians(tmp_path / "a.ply", drop_invalid=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda glb: glb["asset"].update(version="3.0"), "expected glTF 2, got version 3.0"),
        (lambda glb: glb["asset"].update(minVersion="2.1"), "glTF 2.0 understands.*needs 2.1"),
        (lambda glb: glb.update(extensionsRequired=["EXT_new"]), "got EXT_new"),
    ],
)
def test_versions_of_gltf_are_named(tmp_path, change, message):
    write_gaussians_glb(gaussians(3), tmp_path / "a.glb")
    change_glb(tmp_path / "a.glb", change)

    with pytest.raises(GaussianFileError, match=message):
        open_layers(tmp_path / "a.glb")


def test_a_broken_file_is_named_once(tmp_path):
    (tmp_path / "a.glb").write_bytes(b"glTF")
    with pytest.raises(GaussianFileError) as error:
        read_gaussians(tmp_path / "a.glb")
    assert str(error.value).count("a.glb") == 1


def test_packed_ply_files_are_named(tmp_path):
    names = ("position", "rotation", "scale", "color")
    head = "".join(f"property uint packed_{name}\n" for name in names)
    (tmp_path / "a.ply").write_text(
        f"ply\nformat ascii 1.0\nelement vertex 1\n{head}end_header\n1 2 3 4\n"
    )

    with pytest.raises(ValueError, match=r"a\.ply: expected .* of a compressed PLY"):
        open_layers(tmp_path / "a.ply")


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ({"implicitTiling": {"subtreeLevels": 2}}, "got implicit tiling"),
        ({"content": {"uri": "cells/a.b3dm"}}, "got cells/a.b3dm"),
    ],
)
def test_tiles_of_other_kinds_are_named(tmp_path, root, message):
    (tmp_path / "tileset.json").write_text(json.dumps({"asset": {"version": "1.1"}, "root": root}))

    with pytest.raises(GaussianFileError, match=rf"tileset\.json: .*{message}"):
        read_tileset(tmp_path)


@pytest.mark.parametrize("suffix", [".ply", ".splat"])
def test_a_file_without_gaussians_is_refused_by_name(tmp_path, suffix):
    write_gaussians(gaussians(3), tmp_path / f"a{suffix}")
    content = (tmp_path / f"a{suffix}").read_bytes()
    if suffix == ".ply":
        head = content.split(b"end_header\n")[0].replace(b"vertex 3", b"vertex 0")
        content = head + b"end_header\n"
    (tmp_path / f"a{suffix}").write_bytes(content if suffix == ".ply" else b"")

    with pytest.raises(GaussianFileError, match=rf"a\{suffix}: expected Gaussians, got none"):
        read_gaussians(tmp_path / f"a{suffix}")


# ------------------------------------------------------------------ dialects of PLY


def with_comments(path, *comments):
    """Puts comments into the header of a PLY file, in place of those that are there."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    lines = [line for line in head.split(b"\n") if not line.startswith(b"comment")]
    lines[2:2] = [b"comment " + comment.encode() for comment in comments]
    path.write_bytes(b"\n".join(lines) + b"end_header\n" + body)


@pytest.mark.parametrize(
    ("comments", "model", "generator"),
    [
        ([], "default", None),
        (["SplatRenderMode: mip"], "antialiased", None),
        (["  splatrendermode:   MIP  "], "antialiased", None),
        (["antialiased 1"], "antialiased", None),
        (["SplatRenderMode: mip", "antialiased 0"], "default", None),
        (["antialiased 0", "SplatRenderMode: 2dgs"], "2dgs", None),
        (
            ["SplatRenderMode: mip", "made by hand", "SplatRenderMode: of later"],
            "antialiased",
            None,
        ),
        (["Generated by splat-transform 3.7.0"], "default", "splat-transform 3.7.0"),
    ],
)
def test_the_last_comment_of_a_ply_tells_the_renderer(tmp_path, comments, model, generator):
    write_gaussians(gaussians(), tmp_path / "a.ply")
    with_comments(tmp_path / "a.ply", *comments)

    _, info = read_gaussian_file(tmp_path / "a.ply")

    assert (info.format, info.sh_degree, info.axes) == ("ply", 1, None)
    assert (info.model, info.generator) == (model, generator)


@pytest.mark.parametrize("model", ["default", "antialiased", "2dgs"])
def test_a_ply_keeps_the_renderer(tmp_path, model):
    g, path = gaussians(), tmp_path / "a.ply"
    g.scales[:, 2] = 0 if model == "2dgs" else g.scales[:, 2]

    said = write_gaussians(g, path, info=SplatInfo(model=model))
    again, info = read_gaussian_file(path)

    assert info == said and info.model == model and not info.lost
    assert torch.allclose(again.scales, g.scales, rtol=1e-6) and again.is_finite.all()
    assert torch.equal(again.sh, g.sh) and torch.equal(again.means, g.means)
    head = path.read_bytes().split(b"end_header")[0]
    assert (b"scale_2" in head) == (model != "2dgs")
    assert head.index(b"comment Generated by mmcity") < head.index(b"element")


def test_surfels_have_no_third_scale_whatever_the_comment_says(tmp_path):
    g, path = gaussians(), tmp_path / "a.ply"
    g.scales[:, 2] = 0
    write_gaussians(g, path, info=SplatInfo(model="2dgs"))
    with_comments(path, "SplatRenderMode: mip")

    again, info = read_gaussian_file(path)

    assert info.model == "2dgs" and (again.scales[:, 2] == 0).all()


def test_extreme_values_of_a_ply_are_legal(tmp_path):
    path = tmp_path / "a.ply"
    write_gaussians(gaussians(3), tmp_path / "plain.ply")
    vertex = PlyData.read(str(tmp_path / "plain.ply"))["vertex"].data
    vertex["opacity"][:2] = [np.inf, -np.inf]
    vertex["scale_1"][2] = -np.inf
    PlyData([PlyElement.describe(vertex, "vertex")]).write(str(path))

    again = read_gaussians(path)

    assert again.opacities[:2].tolist() == [1, 0] and again.scales[2, 1] == 0


def test_rotations_of_length_zero_become_none_and_are_counted(tmp_path, monkeypatch):
    from mmcity.structures.io import gaussian_format

    said = []
    monkeypatch.setattr(gaussian_format, "print_log", lambda text, *_: said.append(text))
    g = gaussians(4)
    g.quats[1:3] = 0
    write_gaussians(g, tmp_path / "a.ply")

    again = read_gaussians(tmp_path / "a.ply")

    assert again.quats[1:3].tolist() == [[1, 0, 0, 0]] * 2
    assert torch.equal(again.quats[0], g.quats[0])
    assert len(said) == 1 and "2 of 4 rotations have length 0" in said[0]


def test_what_stands_behind_the_gaussians_of_a_ply(tmp_path, monkeypatch):
    from mmcity.structures.io import ply

    said = []
    monkeypatch.setattr(ply, "print_log", lambda text, *_: said.append(text))
    g, path = gaussians(), tmp_path / "a.ply"
    write_gaussians(g, tmp_path / "plain.ply")
    vertex = PlyData.read(str(tmp_path / "plain.ply"))["vertex"]
    limits = np.array([(-0.5, 0.75, 1.25)], "f4,f4,f4")
    orbit = PlyElement.describe(limits, "safe_orbit_camera")
    PlyData([vertex, orbit], byte_order="<").write(str(path))

    assert torch.equal(read_gaussians(path).means, g.means) and not said
    path.write_bytes(path.read_bytes() + b"more")
    assert torch.equal(read_gaussians(path).means, g.means)
    assert "4 bytes behind what its header names" in said[0]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(GaussianFileError, match=r"a\.ply"):
        read_gaussians(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"property float opacity", b"property float16 opacity", "got float16 in opacity"),
        (b"property float scale_0", b"property half scale_0", "got half in scale_0"),
        (b"property float opacity", b"property int opacity", "whole numbers in opacity"),
        (b"property float scale_2", b"property uint scale_2", "whole numbers in scale_2"),
    ],
)
def test_columns_of_other_formats_are_named(tmp_path, old, new, message):
    path = tmp_path / "a.ply"
    write_gaussians(gaussians(), path)
    path.write_bytes(path.read_bytes().replace(old, new))

    with pytest.raises(GaussianFileError, match=rf"a\.ply: .*{message}"):
        read_gaussians(path)


def test_content_tells_the_format_before_the_name(tmp_path):
    write_gaussians(gaussians(), tmp_path / "a.ply")
    (tmp_path / "a.ply").rename(tmp_path / "b.spz")

    assert read_gaussian_file(tmp_path / "b.spz")[1].format == "ply"


def test_options_and_levels_of_other_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.ply: expected options of ply \(none\), got sh_bits"):
        write_gaussians(gaussians(), tmp_path / "a.ply", sh_bits=(8, 8))
    write_gaussians(gaussians(), tmp_path / "a.ply")
    with pytest.raises(GaussianFileError, match=r"a\.ply: expected level of detail 0 of ply"):
        read_gaussians(tmp_path / "a.ply", lod=1)


def test_axes_are_turned_where_they_are_known(tmp_path):
    g, path = gaussians(), tmp_path / "a.ply"
    write_gaussians(g, path)

    with pytest.raises(ValueError, match=r"a\.ply does not say its axes: give assume="):
        read_gaussians(path, to="RUB")
    turned, info = read_gaussian_file(path, assume="RDF", to="RUB")
    assert torch.equal(turned.means, g.means * torch.tensor([1.0, -1, -1])) and info.axes == "RUB"
    kept, info = read_gaussian_file(path, assume="RDF")
    assert torch.equal(kept.means, g.means) and info.axes == "RDF"
    # A mirror image is no scene: it is turned to what it shows.
    upright, info = read_gaussian_file(path, assume="LUB")
    assert torch.equal(upright.means, g.means * torch.tensor([-1.0, 1, 1])) and info.axes == "RUB"
