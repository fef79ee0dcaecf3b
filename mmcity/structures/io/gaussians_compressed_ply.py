"""``.compressed.ply`` files: Gaussians in 16 bytes and one per further SH value.

The format is SuperSplat's. Blocks of 256 Gaussians along a Z-shaped curve have the ranges of
their positions, logarithms of scales, and colours as floats; within these, values have 8 to 11
bits.
"""

import os
from dataclasses import replace

import numpy as np
import torch
from mmengine.logging import print_log

from mmcity.structures.gaussians import Gaussians
from mmcity.structures.morton import blocks_along_curve
from mmcity.structures.spherical_harmonics import SH_C0
from mmcity.structures.splat_info import SplatInfo

from .gaussian_format import (
    GaussianFileError,
    GaussianFormat,
    for_writing,
    in_axes,
    keep_valid,
    unseen_loss,
)
from .gaussians_ply import comments_of, comments_said
from .ply import PlyFormatError, read_ply_elements, read_ply_frame, write_ply_elements
from .small_rotations import pack_rotations, unpack_rotations

_BLOCK = 256
_MAX_LOG_SCALE = 20.0
#: A range below this counts as one value.
_FLAT = 1e-5
_SH_REACH = 4.0
_MAX_DEGREE = 3
_BITS = {"position": (11, 10, 11), "scale": (11, 10, 11), "color": (8, 8, 8, 8)}
#: Part of the scene that a block may span before its positions are coarse.
_FAR = 0.25
#: Fewer blocks than this span that much anyway.
_MANY_BLOCKS = 64


def read_compressed_ply(
    path: str | os.PathLike,
    drop_invalid: bool = False,
    *,
    to: str | None = None,
    assume: str | None = None,
) -> Gaussians:
    """Read a compressed PLY.

    Args:
        path: File with the elements ``chunk``, ``vertex`` and, above degree 0, ``sh``. Old files
            have no ranges of colours.
        drop_invalid: Leave out Gaussians whose values are not finite. Defaults to False.
        to: Axes to return. Defaults to None: those of the file.
        assume: Axes of the file, which it does not say. Defaults to None: not known.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken.
        ValueError: If axes are wanted without saying which the file has.
    """
    return in_axes(*_load_compressed_ply(path, drop_invalid), path, to, assume)[0]


def _load_compressed_ply(
    path: str | os.PathLike, drop_invalid: bool = False
) -> tuple[Gaussians, SplatInfo]:
    try:
        elements = read_ply_elements(path)
    except PlyFormatError as error:
        raise GaussianFileError(str(error)) from error
    chunk, vertex, rest = (elements.get(name, {}) for name in ("chunk", "vertex", "sh"))
    count = len(next(iter(vertex.values()), ()))
    blocks = np.arange(count) // _BLOCK
    ranges = {
        kind: _table(path, chunk, _range_names(kind), -(-count // _BLOCK), np.float32)
        for kind in ("position", "scale", "color")
        if kind != "color" or "min_r" in chunk
    }
    words = {
        kind: _table(path, vertex, [f"packed_{kind}"], count, np.uint32)[:, 0]
        for kind in ("position", "rotation", "scale", "color")
    }

    def values(kind: str) -> np.ndarray:
        parts = _fields(words[kind], _BITS[kind])
        if kind not in ranges:
            return parts
        low, high = ranges[kind][blocks, :3], ranges[kind][blocks, 3:6]
        part = parts[:, :3].astype(np.float64)
        mixed = low * (1 - part) + high * part
        return np.concatenate([mixed, parts[:, 3:]], 1)

    with np.errstate(all="ignore"):  # what is not finite is told below
        means, logs, colors = values("position"), values("scale"), values("color")
        scales = np.exp(logs)
    rotations = words["rotation"]
    codes = np.stack([rotations >> shift & 1023 for shift in (20, 10, 0)], 1)
    names = [f"f_rest_{i}" for i in range(len(rest))]
    if len(names) not in (0, 9, 24, 45):
        raise GaussianFileError(f"{path}: expected 9, 24 or 45 columns of sh, got {len(names)}")
    steps = _table(path, rest, names, count, np.uint8)
    sh = np.where(steps == 0, 0, np.where(steps == 255, 256, steps + np.float32(0.5)))
    sh = 2 * _SH_REACH * (sh / 256 - 0.5)
    said = comments_said(path)
    out = Gaussians(
        means=torch.from_numpy(means).float(),
        quats=torch.from_numpy(unpack_rotations(rotations >> 30, codes, 1023)),
        scales=torch.from_numpy(scales).float(),
        opacities=torch.from_numpy(colors[:, 3]).float(),
        sh0=torch.from_numpy((colors[:, None, :3] - 0.5) / SH_C0).float(),
        shN=torch.from_numpy(sh.astype(np.float32)).unflatten(1, (3, -1)).transpose(1, 2),
        frame=read_ply_frame(path),
    )
    if said.get("model") == "2dgs":
        out.scales[:, 2] = 0
    info = SplatInfo(format=COMPRESSED_PLY.name, sh_degree=out.sh_degree or 0, **said)
    return keep_valid(out, path, drop_invalid), info


def write_compressed_ply(
    gaussians: Gaussians, path: str | os.PathLike, *, info: SplatInfo | None = None
) -> SplatInfo:
    """Write a compressed PLY, whose rows are in the order of a Z-shaped curve.

    Args:
        gaussians: With SH, of which degrees up to 3 are kept, or three features as colour.
        path: Moved into place when whole.
        info: What is known of the scene. Defaults to None: nothing.

    Returns:
        SplatInfo: With what is lost.

    Raises:
        ValueError: If there is none, or a value is not finite.
    """
    g, sh, said = for_writing(gaussians, path, info, sh_degree=_MAX_DEGREE)
    order = blocks_along_curve(g.means, _BLOCK)
    g, sh = g[order], sh[order]
    logs = g.scales.double().clamp_min(1e-30).log().clamp(-_MAX_LOG_SCALE, _MAX_LOG_SCALE)
    values = {"position": g.means, "scale": logs, "color": 0.5 + SH_C0 * sh[:, 0].double()}
    chunk: dict[str, np.ndarray] = {}
    packed: dict[str, np.ndarray] = {}
    for kind, tensor in values.items():
        parts, low, high = _in_ranges(tensor.double().numpy())
        if kind == "color":
            parts = np.concatenate([parts, g.opacities[:, None].double().numpy()], 1)
        packed[kind] = _words(parts, _BITS[kind])
        chunk.update(zip(_range_names(kind), np.concatenate([low, high], 1).T))
        if kind == "position":
            _tell_wide_blocks(path, low, high, float(g.scales.amax(1).median()))
    largest, codes = pack_rotations(g.quats.numpy(), 1023)
    word = largest << 30 | codes[:, 0] << 20 | codes[:, 1] << 10 | codes[:, 2]
    packed["rotation"] = word.astype(np.uint32)
    vertex = {f"packed_{k}": packed[k] for k in ("position", "rotation", "scale", "color")}
    elements = {"chunk": chunk, "vertex": vertex}
    rest = sh[:, 1:].transpose(1, 2).flatten(1).numpy()
    if rest.shape[1]:
        steps = np.trunc((rest / (2 * _SH_REACH) + 0.5) * 256).clip(0, 255).astype(np.uint8)
        elements["sh"] = {f"f_rest_{i}": column for i, column in enumerate(steps.T)}
    write_ply_elements(path, elements, g.frame, comments_of(said))
    cut = int((np.abs(rest) > _SH_REACH).any(1).sum())
    lost = said.lost + (f"SH cut to +-4 in {cut} of {len(g)} Gaussians",) * bool(cut)
    return replace(said, format=COMPRESSED_PLY.name, lost=lost + unseen_loss(g.opacities))


def _range_names(kind: str) -> list[str]:
    axes, infix = ("rgb", "") if kind == "color" else ("xyz", "scale_" * (kind == "scale"))
    return [f"{end}_{infix}{axis}" for end in ("min", "max") for axis in axes]


def _table(
    path: str | os.PathLike, columns: dict[str, np.ndarray], names: list[str], count: int, dtype
) -> np.ndarray:
    """Columns of an element side by side, ``(count, len(names))``."""
    missing = [n for n in names if n not in columns or columns[n].dtype.newbyteorder("=") != dtype]
    if missing:
        raise GaussianFileError(
            f"{path}: expected {missing} of a compressed PLY as {np.dtype(dtype)}, got "
            f"{list(columns)[:20]}: export it again"
        )
    lengths = {len(columns[name]) for name in names}
    if lengths - {count}:
        raise GaussianFileError(
            f"{path}: expected {count} rows of {names[0]}, got {max(lengths)}: export it again"
        )
    return np.stack([columns[name] for name in names], 1) if names else np.zeros((count, 0), dtype)


def _in_ranges(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values ``(N, 3)`` within the ranges of their blocks, and these, ``(B, 3)`` float32."""
    starts = np.arange(0, len(values), _BLOCK)
    low = np.minimum.reduceat(values, starts).astype(np.float32)
    high = np.maximum.reduceat(values, starts).astype(np.float32)
    extent = high.astype(np.float64) - low
    flat = extent < _FLAT
    blocks = np.arange(len(values)) // _BLOCK
    parts = (values - low[blocks]) / np.where(flat, 1, extent)[blocks]
    return np.where(flat[blocks], 0, parts), low, high


def _tell_wide_blocks(
    path: str | os.PathLike, low: np.ndarray, high: np.ndarray, size: float
) -> None:
    """Warn of blocks so wide that positions are coarser than Gaussians of that size."""
    extent = (high - low).max(1)
    coarse = extent / (2 << _BITS["position"][1])
    wide = (extent > _FAR * (high.max(0) - low.min(0)).max()) & (coarse > size)
    if len(low) >= _MANY_BLOCKS and wide.any():
        print_log(
            f"{path}: strays make {int(wide.sum())} of {len(low)} blocks wide: their positions "
            f"are good for {coarse[wide].max():.3g} units: leave strays out",
            "current",
            30,
        )


def _fields(words: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """Parts of words from high to low, ``(N, len(bits))`` float32 in [0, 1]."""
    shifts = np.cumsum((0, *bits[:0:-1]))[::-1]
    parts = [(words >> s & (1 << b) - 1) / np.float32((1 << b) - 1) for s, b in zip(shifts, bits)]
    return np.stack(parts, 1).astype(np.float32)


def _words(parts: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """Words of parts in [0, 1], rounded half up."""
    words = np.zeros(len(parts), np.uint32)
    for values, width in zip(parts.T, bits):
        top = (1 << width) - 1
        words = words << np.uint32(width) | np.floor(values * top + 0.5).clip(0, top).astype("u4")
    return words


COMPRESSED_PLY = GaussianFormat(
    "compressed ply",
    (".compressed.ply",),
    _load_compressed_ply,
    write_compressed_ply,
    lambda _, head: head.startswith(b"ply") and b"packed_position" in head,
)
