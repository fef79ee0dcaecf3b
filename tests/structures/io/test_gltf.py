"""Gaussians in glTF: what the extension asks of files, what others write, what 2025 wrote."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from mmcity.structures import GaussianFileError, Gaussians, read_spz, write_spz
from mmcity.structures.io import gaussians_gltf
from mmcity.structures.io.gaussians_gltf import read_gaussians_gltf, write_gaussians_glb
from mmcity.structures.io.glb import (
    GlbBuilder,
    read_accessor,
    read_glb_container,
    write_glb_container,
)
from mmcity.structures.splat_info import SplatInfo
from tests.conftest import golden_dir
from tests.structures.io.test_gaussian_files_of_others import change_glb
from tests.structures.io.test_gaussian_formats import rotation_error, scene

PREFIX = "KHR_gaussian_splatting"


def primitive_of(document):
    return document["meshes"][0]["primitives"][0]


def written(tmp_path, gaussians, **options):
    path = tmp_path / "a.glb"
    info = write_gaussians_glb(gaussians, path, **options)
    document, binary = read_glb_container(path)

    def values(name):
        return read_accessor(document, binary, primitive_of(document)["attributes"][name])

    return path, info, document, values


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(gaussians_gltf, "print_log", lambda text, *_: lines.append(text))
    return lines


def test_what_is_stored_of_one_gaussian(tmp_path):
    """Worked out by hand: linear scales, xyzw, colours of points linear in 16 bits."""
    one = Gaussians(
        [[1.0, 2.0, 3.0]],
        [[2.0, 0.0, 0.0, 2.0]],
        [[0.5, 2.0, 0.0]],
        [0.25],
        sh0=[[[0.0, -3.0, (0.04 - 0.5) / 0.28209479177387814]]],
    )
    _, _, document, values = written(tmp_path, one, up="y", center=False)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(values(f"{PREFIX}:ROTATION"), [[0, 0, half, half]], atol=1e-7)
    np.testing.assert_array_equal(values(f"{PREFIX}:SCALE"), [[0.5, 2, 0]])
    # 0.5 is ((0.5 + 0.055) / 1.055)^2.4 = 0.21404, dark ones are parts of 12.92.
    expected = [[0.21404, 0, 0.04 / 12.92, 0.25]]
    np.testing.assert_allclose(values("COLOR_0"), expected, atol=1e-5)
    color = document["accessors"][primitive_of(document)["attributes"]["COLOR_0"]]
    assert (color["componentType"], color["normalized"], color["type"]) == (5123, True, "VEC4")
    assert document["asset"]["extras"]["mmcity"] == {
        "up": "y", "model": "default", "scales": "linear"
    }  # fmt: skip
    assert {view["target"] for view in document["bufferViews"]} == {34962}


def test_colours_of_a_linear_scene_are_as_they_are(tmp_path):
    path, _, document, values = written(
        tmp_path, scene(20), info=SplatInfo(color_space="linear", model="antialiased")
    )
    own = primitive_of(document)["extensions"][PREFIX]
    assert own["colorSpace"] == "lin_rec709_display"
    rgb = scene(20).colors.clamp(0, 1).numpy()
    np.testing.assert_allclose(values("COLOR_0")[:, :3], rgb, atol=1e-5)
    info = read_gaussians_gltf(path)[1]
    assert (info.color_space, info.model, info.axes) == ("linear", "antialiased", "RFU")


def test_degree_four_and_features_are_cut_and_told(tmp_path):
    before = scene(20, degree=4)
    before.features = torch.zeros(20, 2)
    path, info, document, _ = written(tmp_path, before)
    assert set(info.lost) == {"features dropped", "SH cut from degree 4 to 3"}
    assert not [name for name in primitive_of(document)["attributes"] if "DEGREE_4" in name]
    after, read = read_gaussians_gltf(path)
    assert read.sh_degree == info.sh_degree == 3 and torch.equal(after.sh, before.sh[:, :16])


def test_a_world_is_read_in_axes_that_are_told(tmp_path):
    path, *_ = written(tmp_path, scene(5), up="-y")
    assert [read_gaussians_gltf(path, up=up)[1].axes for up in (None, "y", "z")] == [
        "RDF", "RUB", "RFU"
    ]  # fmt: skip


def store_logarithms(path, change=lambda document: None):
    """The file as this toolbox wrote it in 2025."""
    document, binary = read_glb_container(path)
    number = primitive_of(document)["attributes"][f"{PREFIX}:SCALE"]
    view = document["bufferViews"][document["accessors"][number]["bufferView"]]
    start, stop = view["byteOffset"], view["byteOffset"] + view["byteLength"]
    logs = np.log(np.frombuffer(binary[start:stop], "<f4")).astype("<f4").tobytes()
    del document["asset"]["extras"]
    change(document)
    write_glb_container(path, document, binary[:start] + logs + binary[stop:])


@pytest.mark.parametrize("factor", [1, 1000], ids=["metres", "millimetres"])
def test_logarithms_of_2025_are_told_by_a_negative_one_or_by_their_maker(tmp_path, factor, said):
    before = scene(20)
    before.scales = (before.scales + 0.01) * factor
    path, *_ = written(tmp_path, before)
    store_logarithms(path)

    after, info = read_gaussians_gltf(path)

    torch.testing.assert_close(after.scales, before.scales)
    assert info.extras["scales"] == "logarithmic"
    assert len(said) == 1 and "a.glb: scales are logarithms" in said[0]


def test_large_scales_of_others_are_no_logarithms(tmp_path, said):
    before = scene(20)
    before.scales = before.scales + 1
    path, *_ = written(tmp_path, before)
    change_glb(path, lambda document: document["asset"].update(generator="another", extras={}))
    torch.testing.assert_close(read_gaussians_gltf(path)[0].scales, before.scales)
    assert not said


@pytest.mark.parametrize("beside", [False, True], ids=["data", "file"])
def test_a_gltf_file_with_its_buffer(tmp_path, beside):
    before = scene(20)
    path, _, document, _ = written(tmp_path, before)
    binary = read_glb_container(path)[1]
    uri = "data:application/octet-stream;base64," + base64.b64encode(binary).decode()
    if beside:
        (tmp_path / "parts").mkdir()
        (tmp_path / "parts" / "my buffer.bin").write_bytes(binary)
        uri = "parts/my%20buffer.bin"
    document["buffers"][0]["uri"] = uri
    (tmp_path / "a.gltf").write_text(json.dumps(document))

    after, _ = read_gaussians_gltf(tmp_path / "a.gltf")

    torch.testing.assert_close(after.means, before.means)
    assert torch.equal(after.sh, before.sh)


@pytest.mark.parametrize(
    "uri", ["../a.bin", "/etc/hostname", "https://a.org/a.bin", "%2e%2e/a.bin", "data:;base64,AA=="]
)
def test_buffers_elsewhere_or_too_short_are_refused(tmp_path, uri):
    _, _, document, _ = written(tmp_path, scene(20))
    (tmp_path / "below").mkdir()
    (tmp_path / "a.bin").write_bytes(bytes(10**5))
    document["buffers"][0]["uri"] = uri
    (tmp_path / "below" / "a.gltf").write_text(json.dumps(document))
    with pytest.raises(GaussianFileError, match=r"leads out|a\.gltf: buffer 0: expected \d+ bytes"):
        read_gaussians_gltf(tmp_path / "below" / "a.gltf")


def test_signed_numbers_reach_minus_one_and_no_further():
    builder = GlbBuilder()
    builder.add(np.array([[-128, -127, 127, 0]], np.int8), normalized=True)
    builder.add(np.array([[-32768, 32767, 0]], np.int16), normalized=True)
    builder.add_view(b"odd")
    builder.add(np.array([[1, 2]], np.uint8))
    document = {"accessors": builder.accessors, "bufferViews": builder._views}
    tables = [read_accessor(document, bytes(builder._binary), number) for number in range(3)]
    assert [table.tolist() for table in tables] == [[[-1, -1, 1, 0]], [[-1, 1, 0]], [[1, 2]]]


def test_sparse_accessors():
    places, values = np.array([[1], [3]], "<u2").tobytes(), np.array([[5.0], [7]], "<f4").tobytes()
    base = np.arange(4, dtype="<f4").tobytes()
    parts = [base, places, values]
    starts = np.cumsum([0, *map(len, parts)])
    document = {
        "accessors": [
            {
                "componentType": 5126, "count": 4, "type": "SCALAR", "bufferView": 0,
                "sparse": {
                    "count": 2,
                    "indices": {"bufferView": 1, "componentType": 5123},
                    "values": {"bufferView": 2},
                },
            }
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": int(start), "byteLength": len(part)}
            for start, part in zip(starts, parts)
        ],
    }  # fmt: skip
    assert read_accessor(document, b"".join(parts), 0)[:, 0].tolist() == [0, 5, 2, 7]
    del document["accessors"][0]["bufferView"]  # of zeros
    assert read_accessor(document, b"".join(parts), 0)[:, 0].tolist() == [0, 5, 0, 7]
    document["accessors"][0]["count"] = 2**31  # more than there are bytes
    with pytest.raises(ValueError, match="accessor 0"):
        read_accessor(document, b"".join(parts), 0)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("kernel", "box", "got box"),
        ("colorSpace", "p3_display", "and p3_display"),
        ("extensions", {"KHR_gaussian_splatting_compression_new": {}}, "compression_new"),
    ],
)
def test_kinds_that_are_not_known_are_named(tmp_path, entry, value, message):
    path, *_ = written(tmp_path, scene(5))
    change_glb(path, lambda glb: primitive_of(glb)["extensions"][PREFIX].update({entry: value}))
    with pytest.raises(GaussianFileError, match=rf"a\.glb: .*{message}"):
        read_gaussians_gltf(path)


@pytest.mark.parametrize("lacking", ["OPACITY", "SH_DEGREE_0_COEF_0", "SH_DEGREE_1_COEF_2"])
def test_attributes_that_lack_are_named(tmp_path, lacking):
    path, *_ = written(tmp_path, scene(5))
    change_glb(path, lambda glb: primitive_of(glb)["attributes"].pop(f"{PREFIX}:{lacking}"))
    with pytest.raises(GaussianFileError, match=lacking):
        read_gaussians_gltf(path)


def test_a_file_that_promises_gaussians_is_no_mesh(tmp_path):
    trimesh.creation.box().export(tmp_path / "a.glb")
    name = "EXT_gaussian_splatting_new"
    change_glb(tmp_path / "a.glb", lambda document: document.update(extensionsUsed=[name]))
    from mmcity.visualization.viewer import open_layers

    with pytest.raises(GaussianFileError, match=f"a.glb: .*{name}"):
        open_layers(tmp_path / "a.glb")


def test_colour_spaces_do_not_mix(tmp_path):
    path, *_ = written(tmp_path, scene(5))

    def change(document):
        other = json.loads(json.dumps(primitive_of(document)))
        other["extensions"][PREFIX]["colorSpace"] = "lin_rec709_display"
        document["meshes"][0]["primitives"].append(other)

    change_glb(path, change)
    with pytest.raises(GaussianFileError, match="one colour space, got linear and srgb"):
        read_gaussians_gltf(path)


def test_models_that_are_not_known_are_named(tmp_path):
    path, *_ = written(tmp_path, scene(5), info=replace(SplatInfo(), model="2dgs"))
    assert read_gaussians_gltf(path)[1].model == "2dgs"
    change_glb(path, lambda glb: glb["asset"]["extras"]["mmcity"].update(model="other"))
    with pytest.raises(GaussianFileError, match=r"a\.glb: model: .*got 'other'"):
        read_gaussians_gltf(path)


# ------------------------------------------------------------------ SPZ within


@pytest.mark.parametrize("up", ["z", "y", "-y"])
def test_spz_within_holds_what_spz_holds(tmp_path, up):
    before = scene(200, degree=3)
    before.means = before.means + 300
    info = write_gaussians_glb(
        before, tmp_path / "a.glb", up, compress="spz", info=SplatInfo(model="antialiased")
    )
    write_gaussians_glb(before, tmp_path / "plain.glb", up)
    assert (tmp_path / "a.glb").stat().st_size < (tmp_path / "plain.glb").stat().st_size / 4
    after, read = read_gaussians_gltf(tmp_path / "a.glb")

    assert (after.means - before.means).abs().max() <= 2**-13 + 2**-14
    assert rotation_error(before, after) < 0.5
    assert (after.scales.log() - before.scales.log()).abs().max() <= 0.51 / 16
    assert (after.opacities - before.opacities).abs().max() <= 0.51 / 255
    assert (after.shN - before.shN).abs().max() <= 0.1
    assert (read.model, read.axes) == ("antialiased", info.axes)
    assert read.format == info.format == "glb with spz"
    assert "positions rounded to 1/4096" in info.lost


def test_spz_within_has_the_form_that_cesium_reads(tmp_path):
    path = write_and_name(tmp_path / "a.glb", scene(20, degree=1), compress="spz")
    document, _ = read_glb_container(path)
    wanted, _ = read_glb_container(golden_dir("interchange") / "glb" / "spz3_d1.glb")
    primitive, other = primitive_of(document), primitive_of(wanted)
    assert primitive["attributes"].keys() == other["attributes"].keys()
    assert primitive["extensions"] == other["extensions"]
    for name, number in primitive["attributes"].items():
        mine = document["accessors"][number]
        theirs = wanted["accessors"][other["attributes"][name]]
        assert mine.keys() == theirs.keys() and "bufferView" not in mine
        assert {k: mine[k] for k in ("componentType", "type")} == {
            k: theirs[k] for k in ("componentType", "type")
        }
    assert document["extensionsRequired"] == wanted["extensionsRequired"]
    assert set(document["nodes"][0]) == {"mesh", "matrix"}  # CesiumJS 1.145 fails without it
    turn = np.reshape(document["nodes"][0]["matrix"], (4, 4))[:3, :3]
    np.testing.assert_array_equal(turn, np.eye(3))


def write_and_name(path, gaussians, **options):
    write_gaussians_glb(gaussians, path, **options)
    return path


@pytest.mark.parametrize(
    "name", ["KHR_gaussian_splatting_compression_spz", "KHR_spz_gaussian_splats_compression"]
)
def test_older_names_of_spz_within(tmp_path, name):
    path = write_and_name(tmp_path / "a.glb", scene(20), compress="spz")
    before = read_gaussians_gltf(path)[0]

    def rename(document):
        extensions = primitive_of(document)["extensions"]
        (packed,) = extensions[PREFIX].pop("extensions").values()
        extensions[PREFIX]["extensions"] = {name: packed}
        if "splats" in name:  # of 2024: alone
            del extensions[PREFIX]
            extensions[name] = packed
        document["extensionsUsed"] = document["extensionsRequired"] = [*extensions, name]

    change_glb(path, rename)
    after, _ = read_gaussians_gltf(path)
    assert torch.equal(after.means, before.means) and torch.equal(after.sh, before.sh)


def test_spz_of_version_four_within_is_read_as_it_stands(tmp_path):
    before = scene(20)
    write_spz(before, tmp_path / "a.spz", up="z")
    builder = GlbBuilder()
    builder.add_view((tmp_path / "a.spz").read_bytes())
    builder.accessors.append({"componentType": 5126, "count": 20, "type": "VEC3"})
    name = f"{PREFIX}_compression_spz_2"
    primitive = {
        "mode": 0, "attributes": {"POSITION": 0},
        "extensions": {PREFIX: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display",
                                "extensions": {name: {"bufferView": 0}}}},
    }  # fmt: skip
    content = {"nodes": [{"mesh": 0}], "meshes": [{"primitives": [primitive]}]}
    builder.write(tmp_path / "a.glb", content)
    after, info = read_gaussians_gltf(tmp_path / "a.glb")
    torch.testing.assert_close(after.means, read_spz(tmp_path / "a.spz").means)
    assert info.axes == "RUB" and not info.extras

    change_glb(tmp_path / "a.glb", lambda document: document["accessors"][0].update(count=19))
    with pytest.raises(GaussianFileError, match="expected 19 Gaussians, .* got 20"):
        read_gaussians_gltf(tmp_path / "a.glb")
    content = (tmp_path / "a.glb").read_bytes()
    (tmp_path / "a.glb").write_bytes(content.replace(b"NGSP", b"SPGN"))
    with pytest.raises(GaussianFileError, match=f"a.glb: {name}: expected a gzip stream"):
        read_gaussians_gltf(tmp_path / "a.glb")


def test_axes_that_are_known_set_what_is_up(tmp_path):
    before = scene(20)
    for axes, stored in (("RUB", before.means), ("LUF", before.means * torch.tensor([-1, 1, -1]))):
        write_gaussians_glb(before, tmp_path / "a.glb", info=SplatInfo(axes=axes))
        torch.testing.assert_close(read_gaussians_gltf(tmp_path / "a.glb", up="y")[0].means, stored)


def test_surfels_stay_surfels_within_spz(tmp_path):
    path = write_and_name(
        tmp_path / "a.glb", scene(20), compress="spz", info=SplatInfo(model="2dgs")
    )
    assert read_gaussians_gltf(path)[1].model == "2dgs"
