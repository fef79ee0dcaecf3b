"""Files of Gaussians for browsers: what comes back, byte layouts, and what is refused."""

import gzip
import json
import struct

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zstandard

from mmcity.structures import (
    GaussianFileError,
    Gaussians,
    SplatInfo,
    read_gaussian_file,
    read_gaussians,
    read_gaussians_glb,
    read_spz,
    write_gaussians,
    write_gaussians_glb,
    write_spz,
)
from mmcity.structures.io.glb import read_accessor, read_glb_container
from mmcity.structures.morton import blocks_along_curve
from tests.formats import SUFFIXES


def scene(count: int = 300, degree: int = 2, seed: int = 0) -> Gaussians:
    gen = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=gen)

    return Gaussians(
        means=normal(count, 3) * 20,
        quats=F.normalize(normal(count, 4), dim=-1),
        scales=(normal(count, 3) - 2).exp(),
        opacities=torch.rand(count, generator=gen),
        sh0=normal(count, 1, 3),
        shN=normal(count, (degree + 1) ** 2 - 1, 3).clamp(-0.9, 0.9) * 0.5,
    )


def rotation_error(a: Gaussians, b: Gaussians) -> float:
    """Largest angle between rotations, degrees."""
    cosine = (F.normalize(a.quats, dim=-1) * F.normalize(b.quats, dim=-1)).sum(-1).abs()
    return float(torch.rad2deg(2 * cosine.clamp(max=1).acos()).max())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_format_holds_nothing(tmp_path, suffix):
    """What no reader takes is not written."""
    path = tmp_path / f"none{suffix}"
    with pytest.raises(ValueError, match=f"none{suffix}: expected at least one Gaussian"):
        write_gaussians(scene(3)[:0], path)
    assert not path.exists()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
# Version 2 takes w from x, y, z: where w is small, their rounding by 1/255 turns by up to 13 deg.
@pytest.mark.parametrize("version, angle", [(2, 13.5), (3, 0.5), (4, 0.5)])
def test_spz_keeps_what_its_bits_can_hold(tmp_path, degree, version, angle):
    before = scene(degree=degree)
    write_spz(before, tmp_path / "a.spz", version=version)
    after = read_spz(tmp_path / "a.spz")
    assert (after.means - before.means).abs().max() <= 0.51 / 4096
    assert (after.opacities - before.opacities).abs().max() <= 0.51 / 255
    assert (after.sh0 - before.sh0.clamp(-3.33, 3.33)).abs().max() <= 0.51 / 255 / 0.15
    assert (after.scales.log() - before.scales.log()).abs().max() <= 0.51 / 16
    assert rotation_error(before, after) < angle
    if degree:
        # Rounded to 8 bits, then to 5 of degree 1 and 4 above.
        assert (after.shN[:, :3] - before.shN[:, :3]).abs().max() <= 4.51 / 128
        assert (after.shN - before.shN).abs().max() <= 8.51 / 128
    if version == 4:
        return
    raw = 16 + 300 * (9 + 1 + 3 + 3 + (4 if version == 3 else 3) + 3 * ((degree + 1) ** 2 - 1))
    assert len(gzip.decompress((tmp_path / "a.spz").read_bytes())) == raw


def test_spz_bytes_of_one_gaussian(tmp_path):
    """Worked out by hand from the published layout."""
    one = Gaussians(
        means=[[1.0, -2.0, 0.5]],
        quats=[[1.0, 0.0, 0.0, 0.0]],
        scales=[[1.0, np.exp(-1), np.exp(0.5)]],
        opacities=[1.0],
        sh0=[[[0.0, 1.0, -1.0]]],
    )
    write_spz(one, tmp_path / "one.spz", version=2)
    body = gzip.decompress((tmp_path / "one.spz").read_bytes())
    assert struct.unpack_from("<IIIBBBB", body) == (0x5053474E, 2, 1, 0, 12, 0, 0)
    xyz = [int.from_bytes(body[16 + 3 * i : 19 + 3 * i], "little", signed=True) for i in range(3)]
    assert xyz == [4096, -8192, 2048]
    assert list(body[25:32]) == [255, 128, 166, 89, 160, 144, 168]
    assert list(body[32:35]) == [128, 128, 128]  # half of 255, rounded away from 0


def test_spz_streams_of_one_gaussian(tmp_path):
    """Version 4, worked out by hand from the published layout."""
    one = Gaussians(
        means=[[1.0, -2.0, 0.5]],
        quats=[[0.0, -1.0, 0.0, 1.0]],  # half a turn about an axis between x and z
        scales=[[1.0, np.exp(-1), np.exp(0.5)]],
        opacities=[0.5],
        sh0=[[[0.0, 1.0, -1.0]]],
        shN=[[[0.5, -0.5, 1.0], [0.0, 0.03, 0.035], [-1.0, -1.5, 2.0]]],
    )
    said = SplatInfo(model="antialiased", axes="RFU", extras={"safe_orbit": (-0.5, 0.75, 1.25)})
    write_spz(one, tmp_path / "one.spz", info=said)
    whole = (tmp_path / "one.spz").read_bytes()
    assert whole[:16] == b"NGSP" + bytes([4, 0, 0, 0, 1, 0, 0, 0, 1, 12, 1 | 2, 6])
    assert whole[16:32] == struct.pack("<I12x", 32 + 20 + 12)
    orbit = struct.pack("<II3f", 0xADBE0002, 12, -0.5, 0.75, 1.25)
    assert whole[32:64] == orbit + struct.pack("<III", 0xADBE0003, 4, 12)
    sizes = [struct.unpack_from("<QQ", whole, 64 + 16 * number) for number in range(6)]
    assert [plain for _, plain in sizes] == [9, 1, 3, 3, 4, 9]
    place, tables = 64 + 16 * 6, []
    for packed, _ in sizes:
        tables.append(zstandard.ZstdDecompressor().decompress(whole[place : place + packed]))
        place += packed
    assert place == len(whole)
    assert tables[0] == b"\x00\x10\x00" + b"\x00\xe0\xff" + b"\x00\x08\x00"
    assert [list(table) for table in tables[1:4]] == [[128], [128, 166, 89], [160, 144, 168]]
    # xyzw = (-1, 0, 1, 0) / sqrt 2; x is first of the largest, so all change sign: y, z, w follow.
    word = 0 << 30 | 0 << 20 | (1 << 9 | 511) << 10 | 0
    assert struct.unpack("<I", tables[4])[0] & ~(1 << 29 | 1 << 9) == word  # zeros may have a sign
    # 128 + 64, 128 - 64, 256; 128, 128 + 4 (3.84), 128 + 4 (4.48): half a bucket goes up.
    assert list(tables[5]) == [192, 64, 255, 128, 136, 136, 0, 0, 255]


def test_spz_says_what_it_cannot_hold(tmp_path):
    before = scene(40, degree=4)
    before.sh0[:3] = 4.0
    before.opacities[:2] = 1e-4
    before.features = torch.zeros(40, 2)
    before.means[0, 0] = 3000.0
    info = write_spz(
        before, tmp_path / "a.spz", version=3, info=SplatInfo(model="2dgs", axes="RFU")
    )
    assert set(info.lost) >= {
        "SH cut from degree 4 to 3",
        "features dropped",
        "2dgs tag dropped",
        "axes RFU not said",
        "positions rounded to 1/2048",
        "2 Gaussians below opacity 1/510 become invisible",
    }
    assert any(line.startswith("colours cut to [-0.44, 1.44] in ") for line in info.lost)
    after = read_gaussian_file(tmp_path / "a.spz")[1]
    assert (after.format, after.sh_degree, after.model, after.axes) == ("spz 3", 3, "default", None)
    info = write_spz(before, tmp_path / "b.spz", up="z", antialiased=True)
    after = read_gaussian_file(tmp_path / "b.spz")[1]
    assert (after.format, after.sh_degree) == ("spz 4", 4) == (info.format, info.sh_degree)
    assert (after.model, after.axes) == ("antialiased", "RFU") == (info.model, info.axes)


def test_spz_of_the_same_scene_has_the_same_bytes(tmp_path):
    for version in (3, 4):
        for name in "ab":
            write_spz(scene(), tmp_path / f"{name}.spz", version=version)
        assert (tmp_path / "a.spz").read_bytes() == (tmp_path / "b.spz").read_bytes()


def test_spz_in_other_axes(tmp_path):
    before = scene(20)
    write_spz(before, tmp_path / "a.spz", info=SplatInfo(axes="RDF"), to="RUB")
    after, info = read_gaussian_file(tmp_path / "a.spz")
    assert info.axes == "RUB"
    assert (after.means - before.means * torch.tensor([1.0, -1, -1])).abs().max() < 1 / 4096
    with pytest.raises(ValueError, match="to: expected a scene of known axes"):
        write_spz(before, tmp_path / "a.spz", to="RUB")


def test_spz_with_all_bits_keeps_view_dependence_sixteen_times_as_well(tmp_path):
    before = scene(degree=3)
    write_spz(before, tmp_path / "fine.spz", sh_bits=(8, 8))
    after = read_spz(tmp_path / "fine.spz")
    assert (after.shN - before.shN).abs().max() <= 0.51 / 128 + 1e-4
    with pytest.raises(ValueError, match="sh_bits"):
        write_spz(before, tmp_path / "fine.spz", sh_bits=(8, 9))


def test_spz_far_from_the_origin_keeps_range_and_loses_digits(tmp_path):
    before = scene()
    before.means = before.means + 100_000
    write_spz(before, tmp_path / "far.spz")
    assert (read_spz(tmp_path / "far.spz").means - before.means).abs().max() < 0.02


@pytest.mark.parametrize("up", ["z", "y", "-y"])
def test_glb_is_exact_up_to_the_centre(tmp_path, up):
    before = scene(degree=3)
    write_gaussians_glb(before, tmp_path / "a.glb", up=up)
    after = read_gaussians_glb(tmp_path / "a.glb")
    assert torch.allclose(after.means, before.means, atol=1e-5)
    assert torch.allclose(after.scales, before.scales, rtol=1e-5)
    assert torch.equal(after.opacities, before.opacities)
    assert torch.equal(after.sh, before.sh)
    assert rotation_error(before, after) < 0.1


def test_glb_in_gltf_axes_has_y_up(tmp_path):
    before = scene(degree=1)
    write_gaussians_glb(before, tmp_path / "a.glb", up="z")
    after = read_gaussians_glb(tmp_path / "a.glb", up="y")
    x, y, z = before.means.unbind(-1)
    assert torch.allclose(after.means, torch.stack([x, z, -y], -1), atol=1e-5)


def test_glb_is_a_point_cloud_for_others(tmp_path):
    import trimesh

    before = scene()
    write_gaussians_glb(before, tmp_path / "a.glb", up="y")
    cloud = trimesh.load(tmp_path / "a.glb").to_geometry()
    assert np.allclose(np.asarray(cloud.vertices), before.means.numpy(), atol=1e-4)
    document, binary = read_glb_container(tmp_path / "a.glb")
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    rgba = read_accessor(document, binary, attributes["COLOR_0"])
    srgb = before.colors.clamp(0, 1).numpy()
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    assert np.allclose(rgba[:, :3], linear, atol=0.51 / 65535)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_pair_of_functions_for_all_formats(tmp_path, suffix):
    before = scene(50, degree=0)
    write_gaussians(before, tmp_path / f"a{suffix}")
    after = read_gaussians(tmp_path / f"a{suffix}")
    assert len(after) == 50
    if suffix == ".splat":  # ordered by visibility
        order = (before.scales.prod(1) * before.opacities).argsort(descending=True)
        before = before[order]
    near = {".compressed.ply": 0.07, ".sog": 5e-3}.get(suffix, 2e-4)
    if suffix in (".compressed.ply", ".sog"):
        before = before[blocks_along_curve(before.means)]
    assert torch.allclose(after.means, before.means, atol=near)
    assert (after.colors - before.colors.clamp(0, 1)).abs().max() < 0.6


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_broken_files_are_named(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_gaussians(scene(40), path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for length in [0, 1, 15, 17, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        if suffix == ".splat" and length % 32 == 0:
            continue  # a shorter file of this format is a whole one
        if suffix == ".usda" and length == len(whole) - 1:
            continue  # the last line without its end
        with pytest.raises(GaussianFileError, match=path.name):
            read_gaussians(path)
    for _ in range(6 if suffix.startswith(".usd") else 60):  # a process for each of these
        broken = bytearray(whole)
        for place in rng.integers(0, len(whole), 4):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        try:
            read_gaussians(path)
        except GaussianFileError as error:
            assert path.name in str(error)


def test_unknown_suffix_and_missing_file(tmp_path):
    with pytest.raises(GaussianFileError, match="ends in .ply, .*.splat, .spz, .*.glb"):
        write_gaussians(scene(3), tmp_path / "a.obj")
    with pytest.raises(FileNotFoundError, match="a.spz"):
        read_gaussians(tmp_path / "a.spz")


def test_glb_without_gaussians_is_refused(tmp_path):
    import trimesh

    trimesh.creation.box().export(tmp_path / "box.glb")
    with pytest.raises(GaussianFileError, match="KHR_gaussian_splatting"):
        read_gaussians(tmp_path / "box.glb")
    document, _ = read_glb_container(tmp_path / "box.glb")
    assert json.dumps(document)
