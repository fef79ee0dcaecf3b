"""``.ksplat`` files of GaussianSplats3D (mkkellogg), version 0.1 and later; read only.

A header, one header for each section, then their data: partial buckets, centres of buckets, and a
row a Gaussian. Levels 1 and 2 hold positions about the centre of their bucket in 16 bits, other
values as half floats; level 2 further SH in 8 bits.
"""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmcity.structures.gaussians import Gaussians
from mmcity.structures.scene_frame import read_frame, sidecar
from mmcity.structures.spherical_harmonics import SH_C0
from mmcity.structures.splat_info import SplatInfo
from mmcity.utils.fileio import damage_told

from .gaussian_format import GaussianFileError, GaussianFormat, check_count, in_axes, keep_valid

_HEADER_BYTES, _SECTION_BYTES = 4096, 1024
#: Count, maximum, bucket size, buckets, block size, bytes of a bucket, range, all bytes, full and
#: partial buckets, SH degree.
_SECTION = struct.Struct("<IIIIfHxxIIIIH")
_SH_VALUES = {0: 0, 1: 9, 2: 24, 3: 45}
_BUCKET_BYTES = 12
_DEFAULT_RANGE = 32767
_DEFAULT_SH = (-1.5, 1.5)


def read_ksplat(
    path: str | os.PathLike,
    drop_invalid: bool = False,
    *,
    to: str | None = None,
    assume: str | None = None,
) -> Gaussians:
    """Read a ``.ksplat`` file.

    Args:
        path: The file.
        drop_invalid: Leave out Gaussians whose values are not finite. Defaults to False.
        to: Axes to return. Defaults to None: those of the file.
        assume: Axes of the file, which it does not say. Defaults to None: not known.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken or of another version.
        ValueError: If axes are wanted without saying which the file has.
    """
    return in_axes(*_load_ksplat(path, drop_invalid), path, to, assume)[0]


def _load_ksplat(
    path: str | os.PathLike, drop_invalid: bool = False
) -> tuple[Gaussians, SplatInfo]:
    with damage_told(path, "a ksplat file", GaussianFileError), np.errstate(all="ignore"):
        gaussians = _decode(path, Path(path).read_bytes())
    gaussians.frame = read_frame(sidecar(path))
    info = SplatInfo(format=KSPLAT.name, sh_degree=gaussians.sh_degree or 0)
    return keep_valid(gaussians, path, drop_invalid), info


def _decode(path: str | os.PathLike, content: bytes) -> Gaussians:
    if len(content) < _HEADER_BYTES:
        raise GaussianFileError(f"{path}: expected a header of 4096 bytes, got {len(content)}")
    major, minor, sections, count = struct.unpack_from("<BBxxI8xI", content)
    (level,) = struct.unpack_from("<H", content, 20)
    sh_range = struct.unpack_from("<ff", content, 36)
    if major != 0 or minor < 1 or level > 2:
        raise GaussianFileError(
            f"{path}: expected ksplat 0.1 with a compression level of 0 to 2, got {major}.{minor} "
            f"with level {level}: export it again"
        )
    check_count(path, count)
    start = _HEADER_BYTES + sections * _SECTION_BYTES
    if start > len(content):
        raise GaussianFileError(
            f"{path}: expected {sections} sections, got {len(content)} bytes (truncated)"
        )
    parts: list[dict[str, np.ndarray]] = []
    for number in range(sections):
        part, start = _section(
            path, content, _HEADER_BYTES + number * _SECTION_BYTES, start, level,
            tuple(value or default for value, default in zip(sh_range, _DEFAULT_SH)),
        )  # fmt: skip
        parts.append(part)
    if sum(len(part["means"]) for part in parts) != count:
        raise GaussianFileError(
            f"{path}: expected {count} Gaussians, got "
            f"{sum(len(part['means']) for part in parts)} in its sections: export it again"
        )
    most = max(part["shN"].shape[1] for part in parts)
    for part in parts:
        part["shN"] = np.pad(part["shN"], ((0, 0), (0, most - part["shN"].shape[1]), (0, 0)))

    def joined(name: str) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([part[name] for part in parts]))

    rgba = joined("rgba").float() / 255
    return Gaussians(
        means=joined("means"),
        quats=joined("quats"),
        scales=joined("scales"),
        opacities=rgba[:, 3].clone(),
        sh0=((rgba[:, :3] - 0.5) / SH_C0)[:, None],
        shN=joined("shN"),
    )


def _section(
    path: str | os.PathLike,
    content: bytes,
    head: int,
    start: int,
    level: int,
    sh_range: tuple[float, ...],
) -> tuple[dict[str, np.ndarray], int]:
    """Values of a section by name, and the end of its data."""
    (
        count, most, bucket_size, buckets, block, bucket_bytes, reach, _, full, partial, degree,
    ) = _SECTION.unpack_from(content, head)  # fmt: skip
    reach = reach or (1 if level == 0 else _DEFAULT_RANGE)
    if count > most or degree not in _SH_VALUES or (buckets and bucket_bytes != _BUCKET_BYTES):
        raise GaussianFileError(
            f"{path}: expected a section of at most {most} Gaussians with SH up to degree 3, got "
            f"{count} of degree {degree}, buckets of {bucket_bytes} bytes: export it again"
        )
    wide, half = ("<f4", "<f4") if level == 0 else ("<u2", "<f2")
    row = np.dtype(
        [("mean", wide, 3), ("scale", half, 3), ("quat", half, 4), ("rgba", "u1", 4)]
        + [("sh", "u1" if level == 2 else half, _SH_VALUES[degree])]
    )
    centres_at = start + 4 * partial
    rows_at = centres_at + _BUCKET_BYTES * buckets
    end = rows_at + row.itemsize * most
    if end > len(content):
        raise GaussianFileError(
            f"{path}: expected {end} bytes, got {len(content)} (truncated or corrupt): copy it "
            "again"
        )
    rows = np.frombuffer(content, row, count, rows_at)
    means = rows["mean"].astype(np.float32)
    if level:
        centres = np.frombuffer(content, "<f4", 3 * buckets, centres_at).reshape(-1, 3)
        sizes = np.frombuffer(content, "<u4", partial, start)
        if full + partial > buckets or full * bucket_size + int(sizes.sum()) < count:
            raise GaussianFileError(
                f"{path}: expected buckets for {count} Gaussians, got {full} of {bucket_size} and "
                f"{int(sizes.sum())} in others: export it again"
            )
        bounds = np.concatenate([[full * bucket_size], sizes]).cumsum()
        index = np.arange(count)
        bucket = index // max(bucket_size, 1)
        late = index >= bounds[0]
        bucket[late] = full + np.searchsorted(bounds[1:], index[late], "right")
        means = (means - reach) * np.float32(block / 2 / reach) + centres[bucket]
    sh = rows["sh"].astype(np.float32)
    if level == 2:
        low, high = sh_range
        sh = (low + sh / 255 * (high - low)).astype(np.float32)
    bands, at = [np.zeros((count, 0, 3), np.float32)], 0
    for band in range(1, degree + 1):
        width = 2 * band + 1  # red, then green, then blue
        bands.append(sh[:, at : at + 3 * width].reshape(count, 3, width).transpose(0, 2, 1))
        at += 3 * width
    values: dict[str, Any] = {
        "means": means.astype(np.float32),
        "scales": rows["scale"].astype(np.float32),
        "quats": rows["quat"].astype(np.float32),
        "rgba": rows["rgba"].copy(),
        "shN": np.concatenate(bands, 1),
    }
    return values, end


KSPLAT = GaussianFormat("ksplat", (".ksplat",), _load_ksplat)
