"""``.spz`` files: Gaussians in about a tenth of the bytes of a PLY, which browsers take.

The format is Niantic's (MIT): a gzip stream of a 16-byte header and one table per quantity.
Its axes are x right, y up, z back; a 3DGS scene counts as x right, y down, z forward, as in
COLMAP, and is turned by half a turn about x on the way in and out.

| quantity | stored as |
| --- | --- |
| mean | 24-bit fixed point per axis |
| opacity | 8 bits |
| constant colour | 8 bits per channel, ``0.15 sh0 + 0.5`` |
| scale | 8 bits of ``16 (log(scale) + 10)`` per axis |
| rotation | version 3: the three smaller parts in 10 bits each; version 2: x, y, z in 8 bits |
| further SH | 8 bits, of which a writer may use fewer, for smaller files |
"""

import gzip
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from mmcity.structures.gaussians import Gaussians
from mmcity.structures.scene_frame import read_frame, sidecar, write_frame
from mmcity.structures.sim3 import Sim3
from mmcity.structures.spherical_harmonics import sh_degree_of
from mmcity.structures.splat_info import SplatInfo
from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import atomic_path

from .gaussian_format import (
    GaussianFileError,
    GaussianFormat,
    color_coefficients,
    in_axes,
    keep_valid,
)

_MAGIC = 0x5053474E
_HEADER = struct.Struct("<IIIBBBB")
_RECORD = struct.Struct("<II")
_SH_ROWS = {0: 0, 1: 3, 2: 8, 3: 15}
_COLOR_SCALE = 0.15
_FRACTION_BITS = 12
_MAX_FRACTION_BITS = 23
#: Bytes of extension records that are read; bytes that gzip makes one of at most.
_MOST_EXTENSIONS, _MOST_PACKED = 1 << 20, 1040
#: Flag of the header: records follow the tables.
_HAS_EXTENSIONS = 2
_HALF = 1 / np.sqrt(2)
#: A half turn about x, between the axes of COLMAP and those of the format.
_HALF_TURN = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))


def write_spz(
    gaussians: Gaussians,
    path: str | os.PathLike,
    version: int = 3,
    antialiased: bool = False,
    sh_bits: tuple[int, int] = (5, 4),
    *,
    info: SplatInfo | None = None,
) -> SplatInfo:
    """Write an ``.spz`` file.

    Positions keep 1/4096 of a unit up to 2048 units from the origin and less beyond. A frame goes
    into a file ``.frame.json`` beside it.

    Args:
        gaussians (Gaussians): With SH up to degree 3, or three features as colour.
        path: Moved into place when whole.
        version (int): 3, or 2 for older viewers (coarser rotations). Defaults to 3.
        antialiased (bool): Note that the scene was trained with the antialiased renderer.
            Defaults to False.
        sh_bits: Bits, 1 to 8, of coefficients of degree 1 and of those above. All 8 keep ten
            decibels more of a render and cost half as much again. Defaults to (5, 4), as the
            format's own tools.

    Raises:
        ValueError: If a value cannot be stored.
    """
    check_choice("version", version, (2, 3))
    for bits in sh_bits:
        check_choice("sh_bits", bits, range(1, 9))
    g = gaussians.detach().to("cpu", torch.float32)
    sh = color_coefficients(g, "write_spz")
    degree = sh_degree_of(sh.shape[1])
    if degree > 3:
        raise ValueError(f"write_spz: expected SH up to degree 3, got {degree}")
    if not bool(g.is_finite.all()):
        raise ValueError("write_spz: expected finite values, got NaN or infinity")
    half_turn = Sim3(rotation=torch.tensor(_HALF_TURN))
    g = Gaussians(g.means, g.quats, g.scales, g.opacities, sh[:, :1], sh[:, 1:])
    g = g.transform(half_turn)
    reach = float(g.means.abs().max()) if len(g) else 0.0
    whole_bits = max(int(np.ceil(np.log2(max(reach * 1.0001, 1e-9)))), 0)
    bits = min(_FRACTION_BITS, 23 - whole_bits)
    if bits < 0:
        raise ValueError(
            f"write_spz: expected positions below 8,388,000, got {reach:.0f}; shift the scene "
            "to the origin"
        )
    tables = [
        _pack_int24((g.means.double() * 2**bits).round().numpy().astype(np.int32)),
        _byte(g.opacities[:, None] * 255),
        _byte((sh[:, 0] * _COLOR_SCALE + 0.5) * 255),
        _byte((g.scales.clamp_min(1e-30).log() + 10) * 16),
        _pack_rotations(F.normalize(g.quats, dim=-1), version),
    ]
    if degree and g.shN is not None:
        rows = g.shN * 128 + 128  # (N, K - 1, 3)
        steps = torch.full((rows.shape[1], 1), 2.0 ** (8 - sh_bits[1]))
        steps[:3] = 2.0 ** (8 - sh_bits[0])
        tables.append(_byte((rows / steps).round() * steps))
    head = _HEADER.pack(_MAGIC, version, len(g), degree, bits, int(antialiased), 0)
    with atomic_path(path) as temporary:
        body = head + b"".join(table.tobytes() for table in tables)
        temporary.write_bytes(gzip.compress(body, compresslevel=6, mtime=0))
        write_frame(sidecar(path), gaussians.frame)
    return SplatInfo(format=f"spz {version}", sh_degree=degree)


def _unpacked(path: Path, stream: gzip.GzipFile, size: int) -> bytes:
    """So many bytes of a stream, fewer at its end."""
    try:
        return stream.read(size)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise GaussianFileError(f"{path}: expected a gzip stream, got {error}") from error


def read_spz(
    path: str | os.PathLike,
    drop_invalid: bool = False,
    *,
    to: str | None = None,
    assume: str | None = None,
) -> Gaussians:
    """Read an ``.spz`` file of version 1, 2 or 3.

    Extension records, such as an orbit for viewers, are passed over with a warning.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken or of another version.
    """
    return in_axes(*_load_spz(path, drop_invalid), path, to, assume)[0]


def _load_spz(path: str | os.PathLike, drop_invalid: bool = False) -> tuple[Gaussians, SplatInfo]:
    path = Path(path)
    packed = path.read_bytes()
    if packed[:4] == _MAGIC.to_bytes(4, "little"):  # not packed as a whole: version 4 and later
        version = int.from_bytes(packed[4:8], "little")
        raise GaussianFileError(
            f"{path}: expected an SPZ file of version 1 to 3, got version {version}: export it "
            "as version 3, or as PLY"
        )
    stream = gzip.GzipFile(fileobj=io.BytesIO(packed))
    head = _unpacked(path, stream, _HEADER.size)
    if len(head) < _HEADER.size:
        raise GaussianFileError(f"{path}: expected a header of 16 bytes, got {len(head)}")
    magic, version, count, degree, bits, flags, _ = _HEADER.unpack(head)
    if magic != _MAGIC or version not in (1, 2, 3) or degree not in _SH_ROWS:
        raise GaussianFileError(
            f"{path}: expected an spz file of version 1 to 3 with SH up to degree 3, got magic "
            f"{magic:#x}, version {version}, degree {degree}"
        )
    if bits > _MAX_FRACTION_BITS:
        raise GaussianFileError(
            f"{path}: expected at most {_MAX_FRACTION_BITS} fraction bits, got {bits}"
        )
    widths = [6 if version == 1 else 9, 1, 3, 3, 4 if version == 3 else 3, 3 * _SH_ROWS[degree]]
    expected = _HEADER.size + count * sum(widths)
    # No more memory than the header and the file account for.
    most = min(expected + _MOST_EXTENSIONS, len(packed) * _MOST_PACKED)
    body = head + _unpacked(path, stream, max(most - len(head), 0) + 1)
    if flags & _HAS_EXTENSIONS and len(body) > expected:
        names = ", ".join(f"{kind:#x}" for kind in _extensions(body[expected:]))
        print_log(f"{path}: the extension {names or 'records'} of SPZ is not read", "current", 30)
        body = body[:expected]
    if len(body) != expected:
        raise GaussianFileError(
            f"{path}: expected {expected} bytes for {count} Gaussians, got {len(body)}"
        )
    tables, start = [], _HEADER.size
    for width in widths:
        part = np.frombuffer(body, np.uint8, count * width, start)
        tables.append(part.reshape(count, width))
        start += count * width
    means, alphas, colors, scales, rotations, rest = tables
    if version == 1:
        xyz = means.copy().view("<f2").astype(np.float32)
    else:
        xyz = (_unpack_int24(means) / 2.0**bits).astype(np.float32)

    def floats(table: np.ndarray) -> Tensor:
        return torch.from_numpy(table.astype(np.float32))

    gaussians = Gaussians(
        means=torch.from_numpy(xyz),
        quats=_unpack_rotations(rotations, version),
        scales=(floats(scales) / 16 - 10).exp(),
        opacities=floats(alphas)[:, 0] / 255,
        sh0=((floats(colors) / 255 - 0.5) / _COLOR_SCALE)[:, None],
        shN=((floats(rest) - 128) / 128).reshape(count, -1, 3),
    )
    gaussians = keep_valid(gaussians, path, drop_invalid)
    gaussians = gaussians.transform(Sim3(rotation=torch.tensor(_HALF_TURN)))
    gaussians.frame = read_frame(sidecar(path))
    return gaussians, SplatInfo(format=f"spz {version}", sh_degree=degree)


def _extensions(records: bytes) -> list[int]:
    """Kinds of the records behind the tables: each is a kind, a length and so many bytes."""
    kinds, start = [], 0
    while start + _RECORD.size <= len(records):
        kind, length = _RECORD.unpack_from(records, start)
        kinds.append(kind)
        start += _RECORD.size + length
    return kinds


def _byte(values: Tensor) -> np.ndarray:
    return values.round().clamp(0, 255).to(torch.uint8).numpy()


def _pack_int24(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values.astype("<i4")).view(np.uint8).reshape(-1, 3, 4)[:, :, :3]


def _unpack_int24(table: np.ndarray) -> np.ndarray:
    parts = table.reshape(-1, 3, 3).astype(np.int32)
    values = parts[..., 0] | parts[..., 1] << 8 | parts[..., 2] << 16
    return np.where(values >= 1 << 23, values - (1 << 24), values)


def _pack_rotations(quats: Tensor, version: int) -> np.ndarray:
    xyzw = quats[:, [1, 2, 3, 0]].double().numpy()
    if version == 2:
        xyz = xyzw[:, :3] * np.where(xyzw[:, 3:] < 0, -1, 1)
        return (xyz * 127.5 + 127.5).round().clip(0, 255).astype(np.uint8)
    largest = np.abs(xyzw).argmax(1)
    rows = np.arange(len(xyzw))
    xyzw = xyzw * np.where(xyzw[rows, largest] < 0, -1, 1)[:, None]
    packed = largest.astype(np.uint32)
    for axis in range(4):
        part = np.abs(xyzw[:, axis]) / _HALF * 511
        bits = (xyzw[:, axis] < 0).astype(np.uint32) << 9 | part.round().clip(0, 511).astype("u4")
        packed = np.where(largest == axis, packed, packed << 10 | bits)
    return packed.astype("<u4")


def _unpack_rotations(table: np.ndarray, version: int) -> Tensor:
    if version < 3:
        xyz = table.astype(np.float64) / 127.5 - 1
        w = np.sqrt(np.clip(1 - (xyz**2).sum(1, keepdims=True), 0, None))
        wxyz = np.concatenate([w, xyz], 1)
        # Rounding may leave xyz a little longer than 1.
        wxyz /= np.linalg.norm(wxyz, axis=1, keepdims=True)
        return torch.from_numpy(wxyz.astype(np.float32))
    packed = table.copy().view("<u4")[:, 0].astype(np.uint32)
    largest = packed >> 30
    xyzw = np.zeros((len(packed), 4))
    for axis in (3, 2, 1, 0):
        part = (packed & 511) / 511 * _HALF * np.where(packed >> 9 & 1, -1, 1)
        here = largest != axis
        xyzw[here, axis] = part[here]
        packed = np.where(here, packed >> 10, packed)
    rows = np.arange(len(packed))
    xyzw[rows, largest] = np.sqrt(np.clip(1 - (xyzw**2).sum(1), 0, None))
    return torch.from_numpy(xyzw[:, [3, 0, 1, 2]].astype(np.float32))


SPZ = GaussianFormat(
    "spz",
    (".spz",),
    _load_spz,
    write_spz,
    lambda _, head: head.startswith((_MAGIC.to_bytes(4, "little"), b"\x1f\x8b")),
)
