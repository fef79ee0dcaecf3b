"""KSPLAT: a file put together by hand, and what is refused."""

import struct

import numpy as np
import pytest
import torch

from mmcity.structures import GaussianFileError, SplatInfo, read_gaussian_file

SH = np.arange(9) / 16 - 0.25  # red of three coefficients, then green, blue


def ksplat_bytes(level: int, count: int = 3, **wrong: int) -> bytes:
    """Three Gaussians in two sections, one of two buckets; ``wrong`` puts numbers into the heads.

    Means of levels above 0 are 4 / 32767 of 1/2 a bucket's edge from its centre.
    """
    header = bytearray(4096)
    struct.pack_into("<BBxxIIII H", header, 0, 0, 1, 2, 2, 3, count, level)
    struct.pack_into("<ff", header, 36, -1.0, 1.0)
    sections, data = b"", b""
    # Rows, full buckets of one row, partial ones and their sizes.
    for rows, full, partial in ((2, 1, [1]), (1, 0, [1])):
        buckets = (full + len(partial)) * (level > 0)
        section = bytearray(1024)
        struct.pack_into(
            "<IIIIfHxxIIIIH", section, 0, rows, rows + 1, 1, buckets, 8.0, 12, 0, 0,
            full * (level > 0), len(partial) * (level > 0), 1,
        )  # fmt: skip
        sections += section
        if level:
            data += np.array(partial, "<u4").tobytes()
            data += np.array([[10, 20, 30], [-10, -20, -30]], "<f4")[:buckets].tobytes()
        for _ in range(rows + 1):
            if level:
                data += np.array([32767 + 4, 32767, 32767 - 32767], "<u2").tobytes()
                data += np.array([0.5, 1, 2, 0, 1, 0, 0], "<f2").tobytes()
            else:
                data += np.array([1, 2, 3, 0.5, 1, 2, 0, 1, 0, 0], "<f4").tobytes()
            data += bytes([255, 0, 51, 102])
            codes = np.floor((SH + 1) / 2 * 255 + 0.5)
            data += (SH.astype("<f4"), SH.astype("<f2"), codes.astype("u1"))[level].tobytes()
    content = header + sections + data
    for name, value in wrong.items():
        at, kind = {"sections": (4, "<I"), "full": (4096 + 32, "<I"), "degree": (4136, "<H")}[name]
        struct.pack_into(kind, content, at, value)
    return bytes(content)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_rows_worked_out_by_hand(tmp_path, level):
    path = tmp_path / "a.ksplat"
    path.write_bytes(ksplat_bytes(level))
    got, info = read_gaussian_file(path)
    assert info == SplatInfo(format="ksplat", sh_degree=1)
    if level:
        step = 4 * 8 / 2 / 32767
        centres = torch.tensor([[10.0, 20, 30], [-10, -20, -30], [10, 20, 30]])
        wanted = centres + torch.tensor([step, 0, -4])
    else:
        wanted = torch.tensor([[1.0, 2, 3]]).expand(3, 3)
    torch.testing.assert_close(got.means, wanted)
    assert got.scales.tolist() == [[0.5, 1, 2]] * 3 and got.quats.tolist() == [[0, 1, 0, 0]] * 3
    torch.testing.assert_close(got.opacities, torch.full((3,), 0.4))
    torch.testing.assert_close(got.colors, torch.tensor([[1.0, 0, 0.2]]).expand(3, 3))
    rest = torch.from_numpy(SH.reshape(3, 3).T.copy()).float().expand(3, 3, 3)
    torch.testing.assert_close(got.shN, rest, rtol=0, atol=0.004 if level == 2 else 1e-6)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(count=4), "expected 4 Gaussians, got 3 in its sections"),
        (dict(count=0), "expected Gaussians, got none"),
        (dict(sections=1_000_000), "sections"),
        (dict(full=9), "buckets for 2 Gaussians"),
        (dict(degree=7), "of degree 7"),
    ],
)
def test_heads_that_lie_are_refused(tmp_path, wrong, message):
    path = tmp_path / "a.ksplat"
    path.write_bytes(ksplat_bytes(1, **wrong))
    with pytest.raises(GaussianFileError, match=message) as error:
        read_gaussian_file(path)
    assert path.name in str(error.value)


def test_truncated_files_and_other_versions_are_refused(tmp_path):
    path, content = tmp_path / "a.ksplat", ksplat_bytes(2)
    for broken in (content[:-1], content[:100], b"\1" + content[1:], content[:20] + b"\3"):
        path.write_bytes(broken)
        with pytest.raises(GaussianFileError, match=path.name):
            read_gaussian_file(path)
