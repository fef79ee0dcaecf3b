"""Files of Gaussians: PLY as 3D Gaussian Splatting lays it out, and ``.splat``."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mmcity.structures.gaussians import Gaussians
from mmcity.structures.scene_frame import SceneFrame, read_frame, sidecar, write_frame
from mmcity.structures.spherical_harmonics import SH_C0, sh_degree_of
from mmcity.structures.splat_info import SplatInfo
from mmcity.structures.world_offset import world_offset
from mmcity.utils.fileio import atomic_path

from .gaussian_format import GaussianFileError, GaussianFormat, for_writing, in_axes, keep_valid
from .ply import PlyFormatError, read_ply_frame, read_ply_vertices, write_ply_vertices

_SPLAT_ROW = np.dtype(
    [("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rot", "u1", 4)]
)

#: Opacities are kept this far from 0 and 1, where the logit has no value.
_OPACITY_EPS = 1e-7
#: Opacity that eight bits round to 0.
_UNSEEN = 1 / 510
_BASE = (
    "x",
    "y",
    "z",
    "opacity",
    *(f"scale_{i}" for i in range(3)),
    *(f"rot_{i}" for i in range(4)),
)


def _numbered(names: list[str], prefix: str) -> list[str]:
    """``prefix0, prefix1, ..`` in order of their numbers."""
    found = [name for name in names if re.fullmatch(rf"{prefix}\d+", name)]
    return sorted(found, key=lambda name: int(name[len(prefix) :]))


def read_gaussians_ply(
    path: str | os.PathLike,
    drop_invalid: bool = False,
    *,
    to: str | None = None,
    assume: str | None = None,
) -> Gaussians:
    """Read a PLY in the attribute layout of 3D Gaussian Splatting.

    Args:
        path: File with the vertex properties ``x y z``, ``f_dc_0..2``, ``f_rest_*`` (any SH
            degree; all coefficients of red, then green, then blue), ``opacity`` (logit),
            ``scale_0..2`` (log), ``rot_0..3`` (wxyz); normals are ignored. Properties
            ``feature_0..`` become features.
        drop_invalid: Leave out Gaussians whose values are not finite, see :func:`keep_valid`.
            Defaults to False.
        to: Axes to return. Defaults to None: those of the file.
        assume: Axes of the file, which it does not say. Defaults to None: not known.

    Returns:
        Gaussians: float32, activations applied, with the frame that the header tells; positions in
        double precision that lie far from the origin are given about their own.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken, lacks a property, or holds values that are not
            finite.
        ValueError: If axes are wanted without saying which the file has.
    """
    return in_axes(*_load_ply(path, drop_invalid), path, to, assume)[0]


def _load_ply(path: str | os.PathLike, drop_invalid: bool = False) -> tuple[Gaussians, SplatInfo]:
    try:
        columns = read_ply_vertices(path, _BASE)
    except PlyFormatError as error:
        raise GaussianFileError(f"{error}: give the point_cloud.ply of a trained scene") from error
    features = _numbered(list(columns), "feature_")
    has_sh = all(f"f_dc_{i}" in columns for i in range(3))
    if not (has_sh or features):
        raise GaussianFileError(f"{path}: expected f_dc_0..2, got {list(columns)[:20]}")

    def table(names: list[str]) -> torch.Tensor:
        return torch.from_numpy(np.stack([columns[name].astype(np.float32) for name in names], -1))

    count = len(columns["x"])
    frame = read_ply_frame(path)
    xyz = np.stack([columns[axis] for axis in "xyz"], -1)
    if xyz.dtype == np.float64:  # written so since single precision would not do
        offset, _ = world_offset(xyz[np.isfinite(xyz).all(1)], xyz[:0])
        xyz = xyz - offset
        frame = (frame or SceneFrame()).shifted(offset) if offset.any() else frame
    shN = None
    if has_sh:
        rest = _numbered(list(columns), "f_rest_")
        try:
            if len(rest) % 3:
                raise ValueError("expected three times as many as coefficients")
            sh_degree_of(1 + len(rest) // 3)
        except ValueError as error:
            raise GaussianFileError(f"{path}: {len(rest)} f_rest_* properties: {error}") from error
        shN = torch.zeros(count, 0, 3)
        if rest:
            # (N, 3 * (K - 1)) channel by channel -> (N, K - 1, 3)
            shN = table(rest).unflatten(1, (3, -1)).transpose(1, 2).contiguous()
    out = Gaussians(
        means=torch.from_numpy(xyz.astype(np.float32)),
        quats=table([f"rot_{i}" for i in range(4)]),
        scales=table([f"scale_{i}" for i in range(3)]).exp(),
        opacities=table(["opacity"])[:, 0].sigmoid(),
        sh0=table([f"f_dc_{i}" for i in range(3)])[:, None] if has_sh else None,
        shN=shN,
        features=table(features) if features else None,
        frame=frame,
    )
    info = SplatInfo(format=PLY.name, sh_degree=out.sh_degree or 0)
    return keep_valid(out, path, drop_invalid), info


def write_gaussians_ply(
    gaussians: Gaussians, path: str | os.PathLike, *, info: SplatInfo | None = None
) -> SplatInfo:
    """Write a PLY in the attribute layout of 3D Gaussian Splatting (binary, float32).

    Opacities and scales are written as logits and logarithms; exact 0 and 1 are moved by
    1e-7 and scales of 0 become the smallest float32, since these have no finite value.

    Args:
        gaussians (Gaussians): With SH, features, or both.
        path: Moved into place when whole.
        info: What is known of the scene. Defaults to None: nothing.

    Returns:
        SplatInfo: What the file says.
    """
    g = gaussians.detach().to("cpu", torch.float32)
    count = len(g)
    opacity = g.opacities.clamp(_OPACITY_EPS, 1 - _OPACITY_EPS).logit()
    scales = g.scales.clamp_min(torch.finfo(torch.float32).tiny).log()
    columns = dict(zip(("x", "y", "z"), g.means.unbind(1)))
    columns.update((name, torch.zeros(count)) for name in ("nx", "ny", "nz"))
    if g.sh0 is not None:
        columns.update((f"f_dc_{i}", value) for i, value in enumerate(g.sh0[:, 0].unbind(1)))
        if g.shN is not None:
            rest = g.shN.transpose(1, 2).flatten(1).unbind(1)
            columns.update((f"f_rest_{i}", value) for i, value in enumerate(rest))
    columns["opacity"] = opacity
    columns.update((f"scale_{i}", value) for i, value in enumerate(scales.unbind(1)))
    columns.update((f"rot_{i}", value) for i, value in enumerate(g.quats.unbind(1)))
    if g.features is not None:
        columns.update((f"feature_{i}", value) for i, value in enumerate(g.features.unbind(1)))
    write_ply_vertices(path, {name: value.numpy() for name, value in columns.items()}, g.frame)
    return SplatInfo(format=PLY.name, sh_degree=g.sh_degree or 0)


def write_splat(
    gaussians: Gaussians, path: str | os.PathLike, *, info: SplatInfo | None = None
) -> SplatInfo:
    """Write a ``.splat`` file: 32 bytes per Gaussian, the most visible ones first.

    Position and scale as float32, mean colour and opacity as RGBA bytes, rotation as four
    bytes (wxyz, 128 + 128 q). View-dependent colour is lost. A frame goes into a file
    ``.frame.json`` beside it.

    Args:
        gaussians (Gaussians): At least one, with SH or three features as colour.
        path: Moved into place when whole.
        info: What is known of the scene. Defaults to None: nothing.

    Returns:
        SplatInfo: What the file says, and what was lost.

    Raises:
        ValueError: If there is none, no colour, or a value that is not finite.
    """
    g, sh, said = for_writing(gaussians, path, info, sh_degree=0, models=("default",))
    colors = 0.5 + SH_C0 * sh[:, 0]
    lost, outside = said.lost, int(((colors < 0) | (colors > 1)).any(1).sum())
    if outside:
        lost += (f"colours cut to [0, 1] in {outside} of {len(g)} Gaussians",)
    unseen = int((g.opacities < _UNSEEN).sum())
    if unseen:
        lost += (f"{unseen} Gaussians below opacity 1/510 become invisible",)
    order = (g.scales.prod(1) * g.opacities).argsort(descending=True)
    rgba = torch.cat([colors, g.opacities[:, None]], 1)[order]
    quats = torch.nn.functional.normalize(g.quats, dim=-1)[order]
    rows = np.empty(len(g), dtype=_SPLAT_ROW)
    rows["mean"], rows["scale"] = g.means[order].numpy(), g.scales[order].numpy()
    rows["rgba"] = (rgba * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    rows["rot"] = (quats * 128 + 128).round().clamp(0, 255).to(torch.uint8).numpy()
    with atomic_path(path) as temporary:
        rows.tofile(temporary)
        write_frame(sidecar(path), g.frame)
    return replace(said, format=SPLAT.name, lost=lost)


def read_splat(
    path: str | os.PathLike,
    drop_invalid: bool = False,
    *,
    to: str | None = None,
    assume: str | None = None,
) -> Gaussians:
    """Read a ``.splat`` file; see :func:`write_splat`, arguments as :func:`read_gaussians_ply`.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If its size is no multiple of 32 bytes, or values are not finite.
        ValueError: If axes are wanted without saying which the file has.
    """
    return in_axes(*_load_splat(path, drop_invalid), path, to, assume)[0]


def _load_splat(path: str | os.PathLike, drop_invalid: bool = False) -> tuple[Gaussians, SplatInfo]:
    size = Path(path).stat().st_size
    if size % _SPLAT_ROW.itemsize:
        raise GaussianFileError(f"{path}: expected a multiple of 32 bytes, got {size}")
    rows = np.fromfile(path, _SPLAT_ROW)
    rgba = torch.from_numpy(rows["rgba"].astype(np.float32)) / 255
    quats = (torch.from_numpy(rows["rot"].astype(np.float32)) - 128) / 128
    quats[quats.norm(dim=-1) < 0.5] = 0  # of bytes that name no rotation
    out = Gaussians(
        means=torch.from_numpy(rows["mean"].copy()),
        quats=torch.nn.functional.normalize(quats, dim=-1),
        scales=torch.from_numpy(rows["scale"].copy()),
        opacities=rgba[:, 3],
        sh0=((rgba[:, :3] - 0.5) / SH_C0)[:, None],
        frame=read_frame(sidecar(path)),
    )
    return keep_valid(out, path, drop_invalid), SplatInfo(format=SPLAT.name)


PLY = GaussianFormat(
    "ply",
    (".ply",),
    _load_ply,
    write_gaussians_ply,
    lambda _, head: head.startswith(b"ply") and b"packed_position" not in head,
)
SPLAT = GaussianFormat("splat", (".splat",), _load_splat, write_splat)

Gaussians.read_ply = staticmethod(read_gaussians_ply)
Gaussians.write_ply = write_gaussians_ply
Gaussians.write_splat = write_splat
