"""Tables of ``.spz`` files: one row of bytes per Gaussian and quantity.

| quantity | stored as |
| --- | --- |
| mean | 24-bit fixed point per axis; version 1: 16-bit floats |
| opacity | 8 bits |
| constant colour | 8 bits per channel, ``0.15 sh0 + 0.5`` |
| scale | 8 bits of ``16 (log(scale) + 10)`` per axis |
| rotation | versions 3 and 4: the three smaller parts in 10 bits each; before: x, y, z in 8 bits |
| further SH | 8 bits, of which a writer may use fewer, for smaller files |
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcity.structures.gaussians import Gaussians

from .gaussian_format import unseen_loss

#: Coefficients beyond the constant one by degree.
SH_ROWS = {0: 0, 1: 3, 2: 8, 3: 15, 4: 24}
MOST_FRACTION_BITS = 23
_COLOR_SCALE = 0.15
_HALF = float(np.sqrt(0.5))
_LARGEST = (1 << 23) - 1
#: Smallest logarithm of a scale that has a byte.
_LEAST_LOG_SCALE = -10.0


def table_widths(version: int, degree: int) -> list[int]:
    """Bytes per Gaussian of each table: means, opacities, colours, scales, rotations, SH."""
    return [6 if version == 1 else 9, 1, 3, 3, 4 if version >= 3 else 3, 3 * SH_ROWS[degree]]


def fraction_bits_for(means: Tensor, wanted: int) -> int:
    """Bits behind the point, at most as many as wanted, with which positions fit into 24.

    Negative if none do.
    """
    reach = float(means.abs().max())
    while wanted >= 0 and round(reach * 2**wanted) > _LARGEST:
        wanted -= 1
    return wanted


def pack_tables(
    g: Gaussians, sh: Tensor, version: int, fraction_bits: int, sh_bits: tuple[int, int]
) -> list[np.ndarray]:
    """Tables ``(N, width)`` uint8 of version 2 or later.

    Args:
        g: Float32 on the CPU.
        sh: ``(N, K, 3)`` coefficients.
        version: Of the format.
        fraction_bits: See :func:`fraction_bits_for`.
        sh_bits: Bits kept of coefficients of degree 1, and of those above.
    """
    count = len(g)
    tables = [
        _pack_int24(_rounded(g.means.double().numpy() * 2.0**fraction_bits).astype("<i4")),
        _bytes(g.opacities[:, None] * 255),
        _bytes((sh[:, 0] * _COLOR_SCALE + 0.5) * 255),
        _bytes((g.scales.log() + 10) * 16),
        _pack_rotations(F.normalize(g.quats.double(), dim=-1), version),
    ]
    rest = np.empty((count, sh.shape[1] - 1, 3), np.uint8)
    for row in range(rest.shape[1]):  # one at a time, for the memory
        step = 1 << (8 - sh_bits[row >= 3])
        values = _rounded(sh[:, 1 + row].double().clamp(-2, 2).numpy() * 128).astype(np.int16) + 128
        rest[:, row] = ((values + step // 2) // step * step).clip(0, 255)
    return [*tables, rest.reshape(count, -1)]


def unpack_tables(tables: Sequence[np.ndarray], version: int, fraction_bits: int) -> Gaussians:
    """Gaussians of the tables ``(N, width)`` uint8 of any version."""
    means, alphas, colors, scales, rotations, rest = tables
    if version == 1:
        xyz = means.copy().view("<f2").astype(np.float32)
    else:
        xyz = (_unpack_int24(means) / 2.0**fraction_bits).astype(np.float32)

    def floats(table: np.ndarray) -> Tensor:
        return torch.from_numpy(table.astype(np.float32))

    return Gaussians(
        means=torch.from_numpy(xyz),
        quats=_unpack_rotations(rotations, version),
        scales=(floats(scales) / 16 - 10).exp_(),
        opacities=floats(alphas)[:, 0] / 255,
        sh0=((floats(colors) / 255 - 0.5) / _COLOR_SCALE)[:, None],
        shN=floats(rest).sub_(128).div_(128).reshape(len(xyz), -1, 3),
    )


def losses_of_tables(g: Gaussians, sh: Tensor) -> list[str]:
    """Losses of the tables, one clause for each kind."""
    logs = g.scales.log()
    ends = {
        "colours cut to [-0.44, 1.44]": (sh[:, 0].abs() > 0.5 / _COLOR_SCALE).any(1),
        "scales cut to [4.5e-5, 380]": ((logs < -10.04) | (logs > 5.96)).any(1),
        "view-dependent colours cut to [-1, 0.99]": (sh[:, 1:].abs() > 1.01).flatten(1).any(1),
    }
    found = {text: int(rows.sum()) for text, rows in ends.items()}
    lost = [f"{text} in {count} of {len(g)} Gaussians" for text, count in found.items() if count]
    return lost + list(unseen_loss(g.opacities))


def _rounded(values: np.ndarray) -> np.ndarray:
    """Whole numbers next to values, halves away from 0."""
    return np.copysign(np.floor(np.abs(values) + 0.5), values)


def _bytes(values: Tensor) -> np.ndarray:
    return _rounded(values.double().clamp(0, 255).numpy()).astype(np.uint8)


def _pack_int24(values: np.ndarray) -> np.ndarray:
    parts = np.ascontiguousarray(values).view(np.uint8).reshape(-1, 3, 4)
    return parts[:, :, :3].reshape(-1, 9)


def _unpack_int24(table: np.ndarray) -> np.ndarray:
    parts = table.reshape(-1, 3, 3).astype(np.int32)
    values = parts[..., 0] | parts[..., 1] << 8 | parts[..., 2] << 16
    return np.where(values >= 1 << 23, values - (1 << 24), values)


def _pack_rotations(quats: Tensor, version: int) -> np.ndarray:
    xyzw = quats[:, [1, 2, 3, 0]].numpy()
    if version == 2:
        xyz = xyzw[:, :3] * np.where(xyzw[:, 3:] < 0, -1, 1)
        return _rounded(xyz * 127.5 + 127.5).clip(0, 255).astype(np.uint8)
    largest = np.abs(xyzw).argmax(1)
    rows = np.arange(len(xyzw))
    xyzw = xyzw * np.where(xyzw[rows, largest] < 0, -1, 1)[:, None]
    packed = largest.astype(np.uint32)
    for axis in range(4):
        size = np.floor(np.abs(xyzw[:, axis]) / _HALF * 511 + 0.5).clip(0, 511).astype("u4")
        bits = (xyzw[:, axis] < 0).astype(np.uint32) << 9 | size
        packed = np.where(largest == axis, packed, packed << 10 | bits)
    return packed.astype("<u4").view(np.uint8).reshape(-1, 4)


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
