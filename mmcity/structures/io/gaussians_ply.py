"""Files of Gaussians: PLY as 3D Gaussian Splatting lays it out, and ``.splat``."""

import os
import re
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log

from mmcity.structures.gaussians import Gaussians
from mmcity.structures.scene_frame import SceneFrame, read_frame, sidecar, write_frame
from mmcity.structures.spherical_harmonics import SH_C0, sh_degree_of
from mmcity.structures.world_offset import world_offset
from mmcity.utils.fileio import atomic_path

from .ply import PlyFormatError, read_ply_frame, read_ply_vertices, write_ply_vertices

_SPLAT_ROW = np.dtype(
    [("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rot", "u1", 4)]
)

#: Opacities are kept this far from 0 and 1, where the logit has no value.
_OPACITY_EPS = 1e-7
_BASE = (
    "x",
    "y",
    "z",
    "opacity",
    *(f"scale_{i}" for i in range(3)),
    *(f"rot_{i}" for i in range(4)),
)


class GaussianFileError(PlyFormatError):
    """A PLY that holds no Gaussians, or that is broken."""


def keep_valid(
    gaussians: Gaussians, path: str | os.PathLike, drop_invalid: bool = False
) -> Gaussians:
    """The Gaussians of a file whose values are all finite.

    Args:
        gaussians: As read.
        path: Where from, for messages.
        drop_invalid: Leave the others out, with a warning that counts them. Defaults to False:
            they are an error.

    Raises:
        GaussianFileError: If there are others, and they are not to be dropped, or if all are; or
            if there is none at all.
    """
    if not len(gaussians):
        raise GaussianFileError(f"{path}: expected Gaussians, got none: export the scene again")
    bad = ~gaussians.is_finite
    count = int(bad.sum())
    if not count:
        return gaussians
    found = f"{count} of {len(gaussians)} Gaussians with NaN or infinity"
    if not drop_invalid or count == len(gaussians):
        raise GaussianFileError(
            f"{path}: expected finite values, got {found}, first in row "
            f"{int(bad.nonzero()[0, 0])}: what to do: write a file without them (`mmcity export "
            "SOURCE TARGET --drop-invalid`, drop_invalid=True in Python)"
        )
    print_log(f"{path}: {found} are left out", "current", 30)
    return gaussians[~bad]


def _numbered(names: list[str], prefix: str) -> list[str]:
    """``prefix0, prefix1, ..`` in order of their numbers."""
    found = [name for name in names if re.fullmatch(rf"{prefix}\d+", name)]
    return sorted(found, key=lambda name: int(name[len(prefix) :]))


def read_gaussians_ply(path: str | os.PathLike, drop_invalid: bool = False) -> Gaussians:
    """Read a PLY in the attribute layout of 3D Gaussian Splatting.

    Args:
        path: File with the vertex properties ``x y z``, ``f_dc_0..2``, ``f_rest_*`` (any SH
            degree; all coefficients of red, then green, then blue), ``opacity`` (logit),
            ``scale_0..2`` (log), ``rot_0..3`` (wxyz); normals are ignored. Properties
            ``feature_0..`` become features.
        drop_invalid: Leave out Gaussians whose values are not finite, see :func:`keep_valid`.
            Defaults to False.

    Returns:
        Gaussians: float32, activations applied, with the frame that the header tells; positions in
        double precision that lie far from the origin are given about their own.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken, lacks a property, or holds values that are not
            finite.
    """
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
    return keep_valid(out, path, drop_invalid)


def write_gaussians_ply(gaussians: Gaussians, path: str | os.PathLike) -> None:
    """Write a PLY in the attribute layout of 3D Gaussian Splatting (binary, float32).

    Opacities and scales are written as logits and logarithms; exact 0 and 1 are moved by
    1e-7 and scales of 0 become the smallest float32, since these have no finite value.

    Args:
        gaussians (Gaussians): With SH, features, or both.
        path: Moved into place when whole.
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


def color_coefficients(gaussians: Gaussians, caller: str) -> torch.Tensor:
    """SH of the colour ``(N, K, 3)``: their own, or of three features that hold a plain colour.

    Raises:
        ValueError: If they have neither; names ``caller``.
    """
    sh, features = gaussians.sh, gaussians.features
    if sh is not None:
        return sh
    if features is None or features.shape[1] != 3:
        raise ValueError(f"{caller}: expected SH or three features as colour, got neither")
    return ((features - 0.5) / SH_C0)[:, None]


def write_splat(gaussians: Gaussians, path: str | os.PathLike) -> None:
    """Write a ``.splat`` file: 32 bytes per Gaussian, the most visible ones first.

    Position and scale as float32, mean colour and opacity as RGBA bytes, rotation as four
    bytes (wxyz, 128 + 128 q). View-dependent colour is lost. A frame goes into a file
    ``.frame.json`` beside it.

    Raises:
        ValueError: If the Gaussians have neither SH nor three features as colour.
    """
    g = gaussians.detach().to("cpu", torch.float32)
    colors = 0.5 + SH_C0 * color_coefficients(g, "write_splat")[:, 0]
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


def read_splat(path: str | os.PathLike, drop_invalid: bool = False) -> Gaussians:
    """Read a ``.splat`` file; see :func:`write_splat`.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If its size is no multiple of 32 bytes, or values are not finite.
    """
    size = Path(path).stat().st_size
    if size % _SPLAT_ROW.itemsize:
        raise GaussianFileError(f"{path}: expected a multiple of 32 bytes, got {size}")
    rows = np.fromfile(path, _SPLAT_ROW)
    rgba = torch.from_numpy(rows["rgba"].astype(np.float32)) / 255
    quats = (torch.from_numpy(rows["rot"].astype(np.float32)) - 128) / 128
    quats[quats.norm(dim=-1) < 0.5] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    out = Gaussians(
        means=torch.from_numpy(rows["mean"].copy()),
        quats=torch.nn.functional.normalize(quats, dim=-1),
        scales=torch.from_numpy(rows["scale"].copy()),
        opacities=rgba[:, 3],
        sh0=((rgba[:, :3] - 0.5) / SH_C0)[:, None],
        frame=read_frame(sidecar(path)),
    )
    return keep_valid(out, path, drop_invalid)


Gaussians.read_ply = staticmethod(read_gaussians_ply)
Gaussians.write_ply = write_gaussians_ply
Gaussians.write_splat = write_splat
