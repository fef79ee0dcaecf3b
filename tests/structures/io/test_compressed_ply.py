"""Compressed PLY: bytes worked out by hand, what comes back, what is refused."""

import dataclasses

import numpy as np
import numpy.lib.recfunctions as rfn
import pytest
import torch
from plyfile import PlyData, PlyElement

from mmcity.structures import (
    GaussianFileError,
    Gaussians,
    SplatInfo,
    read_compressed_ply,
    read_gaussian_file,
    write_compressed_ply,
    write_gaussians,
)
from mmcity.structures.io import gaussians_compressed_ply
from mmcity.structures.io.small_rotations import pack_rotations, unpack_rotations
from mmcity.structures.morton import blocks_along_curve
from tests.structures.io.test_gaussian_formats import rotation_error, scene


def two() -> Gaussians:
    return Gaussians(
        means=[[0.0, 0.0, 0.0], [4.0, 2.0, 1.0]],
        quats=[[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, -0.5, 0.5]],
        scales=[[1.0, 1.0, 1.0], [np.e, np.e, np.e]],
        opacities=[1.0, 0.5],
        sh0=[[[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]],
        shN=[[[0.0, 4.0, -4.0]] * 3, [[1.0, 0.0, 0.0], [0.0] * 3, [0.0] * 3]],
    )


def test_words_of_two_gaussians(tmp_path):
    """Worked out by hand: the first has the low, the second the high end of each range."""
    write_compressed_ply(two(), tmp_path / "a.compressed.ply")
    ply = PlyData.read(tmp_path / "a.compressed.ply")
    assert [element.name for element in ply.elements] == ["chunk", "vertex", "sh"]
    c = 0.28209479177387814
    wanted = [0, 0, 0, 4, 2, 1, 0, 0, 0, 1, 1, 1, *[0.5] * 3, *[0.5 + c] * 3]
    np.testing.assert_allclose(np.array(ply["chunk"][0].tolist()), wanted, rtol=1e-6)
    vertex = ply["vertex"].data
    assert vertex["packed_position"].tolist() == [0, 0xFFFFFFFF]
    assert vertex["packed_scale"].tolist() == [0, 0xFFFFFFFF]
    assert vertex["packed_color"].tolist() == [0x000000FF, 0xFFFFFF80]
    # 0 has the code 512 of 1023, +-0.5 have 873 and 150: 1023 (+-0.5 / sqrt 2 + 0.5).
    middle, high, low = 512, 873, 150
    assert vertex["packed_rotation"].tolist() == [
        middle << 20 | middle << 10 | middle,
        high << 20 | low << 10 | high,
    ]
    # red, green, blue of three coefficients each; 0, 4, -4, 1
    assert list(ply["sh"][0]) == [128] * 3 + [255] * 3 + [0] * 3
    assert list(ply["sh"][1]) == [160] + [128] * 8


def test_what_comes_back_is_as_near_as_the_bits_allow(tmp_path):
    before = scene(700, degree=3)
    info = write_gaussians(before, tmp_path / "a.compressed.ply")
    assert info.format == "compressed ply" and info.sh_degree == 3
    after, info = read_gaussian_file(tmp_path / "a.compressed.ply")
    assert info.format == "compressed ply" and info.model == "default"
    before = before[blocks_along_curve(before.means)]
    assert (after.means - before.means).abs().max() < 160 / 2046
    assert (after.scales.log() - before.scales.log()).abs().max() < 10 / 2046
    assert (after.opacities - before.opacities).abs().max() <= 0.5 / 255 + 1e-6
    assert (after.sh0 - before.sh0).abs().max() < 8 / 510
    assert (after.shN - before.shN).abs().max() <= 0.5 * 8 / 256 + 1e-6
    assert rotation_error(before, after) < 0.25


def test_a_second_writing_changes_nothing(tmp_path):
    write_gaussians(scene(700, degree=1), tmp_path / "a.compressed.ply")
    once = read_compressed_ply(tmp_path / "a.compressed.ply")
    write_gaussians(once, tmp_path / "b.compressed.ply")
    twice = read_compressed_ply(tmp_path / "b.compressed.ply")
    for name in ("means", "scales", "opacities", "sh0", "shN"):
        assert torch.equal(getattr(once, name), getattr(twice, name)), name
    assert rotation_error(once, twice) < 1e-3


@pytest.mark.parametrize("steps", [255, 1023])
def test_rotations_keep_their_codes(steps):
    quats = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0)).numpy()
    left, codes = pack_rotations(quats, steps)
    back = unpack_rotations(left, codes, steps)
    unit = quats / np.linalg.norm(quats, axis=1, keepdims=True)
    cosine = np.abs((unit * back).sum(1)).clip(0, 1)
    assert np.degrees(2 * np.arccos(cosine)).max() < 250 / steps
    again = pack_rotations(back, steps)
    assert (again[0] == left).all() and (again[1] == codes).all()


def test_the_renderer_is_kept_and_losses_are_named(tmp_path):
    before = scene(20, degree=4)
    before.opacities[:3] = 0.001
    before.shN[0, 0] = 5.0
    info = write_gaussians(before, tmp_path / "a.compressed.ply", info=SplatInfo("antialiased"))
    assert info.lost == (
        "SH cut from degree 4 to 3",
        "SH cut to +-4 in 1 of 20 Gaussians",
        "3 Gaussians below opacity 1/510 become invisible",
    )
    assert read_gaussian_file(tmp_path / "a.compressed.ply")[1].model == "antialiased"
    flat = dataclasses.replace(SplatInfo(), model="2dgs")
    write_gaussians(before, tmp_path / "b.compressed.ply", info=flat)
    back, info = read_gaussian_file(tmp_path / "b.compressed.ply")
    assert info.model == "2dgs" and not back.scales[:, 2].any()


def test_a_stray_far_out_is_told(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(gaussians_compressed_ply, "print_log", lambda text, *_: said.append(text))
    many = scene(64 * 256, degree=0)
    many.means[5] = 1e6
    write_compressed_ply(many, tmp_path / "a.compressed.ply")
    assert "1 of 64 blocks wide" in said[0]


def with_elements(tmp_path, change):
    path = tmp_path / "a.compressed.ply"
    write_compressed_ply(scene(300, degree=1), path)
    rows = {element.name: element.data.copy() for element in PlyData.read(path).elements}
    change(rows)
    rows = {name: rfn.repack_fields(row) for name, row in rows.items()}
    PlyData([PlyElement.describe(v, k) for k, v in rows.items()], byte_order="<").write(path)
    return path


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda r: r.update(chunk=r["chunk"][:1]), "2 rows of min_x, got 1"),
        (lambda r: r.update(sh=r["sh"][:7]), "300 rows of f_rest_0, got 7"),
        (lambda r: r.pop("chunk"), "min_x"),
        (lambda r: r["chunk"]["max_x"].fill(np.nan), "NaN or infinity"),
        (lambda r: r["chunk"]["max_scale_x"].fill(1e5), "NaN or infinity"),
        (
            lambda r: r.update(sh=r["sh"][["f_rest_0", "f_rest_1"]]),
            "9, 24 or 45 columns of sh, got 2",
        ),
    ],
)
def test_broken_files_name_themselves(tmp_path, change, message):
    with pytest.raises(GaussianFileError, match=message) as error:
        read_gaussian_file(with_elements(tmp_path, change))
    assert "a.compressed.ply" in str(error.value)


def test_truncated_files_and_counts_that_lie_are_refused(tmp_path):
    path = tmp_path / "a.compressed.ply"
    write_compressed_ply(scene(300, degree=1), path)
    content = path.read_bytes()
    for broken in (content[:-1], content.replace(b"vertex 300", b"vertex 999999999")):
        path.write_bytes(broken)
        with pytest.raises(GaussianFileError, match=path.name):
            read_gaussian_file(path)
