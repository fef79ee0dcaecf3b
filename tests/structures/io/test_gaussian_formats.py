"""Files of Gaussians for browsers: what comes back, byte layouts, and what is refused."""

import gzip
import json
import struct

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmcity.structures import (
    WRITABLE_SUFFIXES,
    GaussianFileError,
    Gaussians,
    read_gaussians,
    read_gaussians_glb,
    read_spz,
    write_gaussians,
    write_gaussians_glb,
    write_spz,
)
from mmcity.structures.io.glb import read_accessor, read_glb_container


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


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
# Version 2 takes w from x, y, z: where w is small, their rounding by 1/255 turns by up to 13 deg.
@pytest.mark.parametrize("version, angle", [(2, 13.5), (3, 0.5)])
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
        # The half turn about x is exact for SH up to float error; degree 1 has 5 bits.
        assert (after.shN[:, :3] - before.shN[:, :3]).abs().max() <= 0.51 * 8 / 128 + 1e-4
        assert (after.shN - before.shN).abs().max() <= 0.51 * 16 / 128 + 1e-4
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
    # y and z change sign between the axes of COLMAP and those of the format.
    xyz = [int.from_bytes(body[16 + 3 * i : 19 + 3 * i], "little", signed=True) for i in range(3)]
    assert xyz == [4096, 8192, -2048]
    assert list(body[25:32]) == [255, 128, 166, 89, 160, 144, 168]
    # A half turn about x is (0, 1, 0, 0): with w = 0, x = 1.
    assert list(body[32:35]) in ([255, 128, 128], [0, 128, 128])


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


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_one_pair_of_functions_for_all_formats(tmp_path, suffix):
    before = scene(50, degree=0)
    write_gaussians(before, tmp_path / f"a{suffix}")
    after = read_gaussians(tmp_path / f"a{suffix}")
    assert len(after) == 50
    if suffix == ".splat":  # ordered by visibility
        order = (before.scales.prod(1) * before.opacities).argsort(descending=True)
        before = before[order]
    assert torch.allclose(after.means, before.means, atol=2e-4)
    assert (after.colors - before.colors.clamp(0, 1)).abs().max() < 0.6


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_broken_files_are_named(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_gaussians(scene(40), path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for length in [0, 1, 15, 17, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        if suffix == ".splat" and length % 32 == 0:
            continue  # a shorter file of this format is a whole one
        with pytest.raises(GaussianFileError, match=path.name):
            read_gaussians(path)
    for _ in range(60):
        broken = bytearray(whole)
        for place in rng.integers(0, len(whole), 4):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        try:
            read_gaussians(path)
        except GaussianFileError as error:
            assert path.name in str(error)


def test_unknown_suffix_and_missing_file(tmp_path):
    with pytest.raises(GaussianFileError, match=".ply, .splat, .spz, .glb"):
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
