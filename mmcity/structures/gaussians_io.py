"""Files of Gaussians: PLY as 3D Gaussian Splatting lays it out, and ``.splat``."""

import os
import re
from pathlib import Path

import numpy as np
import torch

from mmcity.utils.fileio import atomic_path

from .gaussians import Gaussians
from .spherical_harmonics import sh_degree_of

__all__ = ["GaussianFileError", "read_gaussians_ply", "write_gaussians_ply", "write_splat"]

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


class GaussianFileError(ValueError):
    """A PLY that holds no Gaussians, or that is broken."""


def _check_header(path: Path) -> None:
    """Refuse a vertex count that the file cannot hold, before anything is allocated."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    if not head.startswith(b"ply"):
        raise GaussianFileError(
            f"{path}: expected a PLY file, got one that begins with {head[:8]!r}"
        )
    for name, count in re.findall(rb"element\s+(\S+)\s+(\d+)", head.split(b"end_header")[0]):
        if int(count) > size:
            raise GaussianFileError(
                f"{path}: expected at most {size} elements in {size} bytes, got {int(count)} of "
                f"{name.decode(errors='replace')} (truncated or corrupt)"
            )


def _numbered(names: list[str], prefix: str) -> list[str]:
    """``prefix0, prefix1, ..`` in order of their numbers."""
    found = [name for name in names if re.fullmatch(rf"{prefix}\d+", name)]
    return sorted(found, key=lambda name: int(name[len(prefix) :]))


def read_gaussians_ply(path: str | os.PathLike) -> Gaussians:
    """Read a PLY in the attribute layout of 3D Gaussian Splatting.

    Args:
        path: File with the vertex properties ``x y z``, ``f_dc_0..2``, ``f_rest_*`` (any SH
            degree; all coefficients of red, then green, then blue), ``opacity`` (logit),
            ``scale_0..2`` (log), ``rot_0..3`` (wxyz); normals are ignored. Properties
            ``feature_0..`` become features.

    Returns:
        Gaussians: float32, activations applied.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken, lacks a property, or holds values that are not
            finite.
    """
    from plyfile import PlyData, PlyParseError

    path = Path(path)
    _check_header(path)
    try:
        vertex = PlyData.read(str(path))["vertex"]
        names = [prop.name for prop in vertex.properties]
        missing = [name for name in (*_BASE, *(f"f_dc_{i}" for i in range(3))) if name not in names]
        has_sh = not {"f_dc_0", "f_dc_1", "f_dc_2"} & set(missing)
        missing = [name for name in missing if has_sh or not name.startswith("f_dc_")]
        features = _numbered(names, "feature_")
        if missing or not (has_sh or features):
            raise GaussianFileError(
                f"{path}: expected the properties of 3D Gaussian Splatting, missing are "
                f"{missing or ['f_dc_0..2']}; got {names[:20]}. What to do: give the "
                "point_cloud.ply of a trained scene, not a plain point cloud"
            )

        def table(columns: list[str]) -> torch.Tensor:
            values = [np.asarray(vertex[name], dtype=np.float32) for name in columns]
            return torch.from_numpy(np.stack(values, -1) if values else np.zeros((0, 0)))

        count = len(vertex)
        rest = _numbered(names, "f_rest_")
        if len(rest) % 3:
            raise GaussianFileError(f"{path}: expected f_rest_* in threes, got {len(rest)}")
        try:
            sh_degree_of(1 + len(rest) // 3)
        except ValueError as error:
            raise GaussianFileError(f"{path}: {len(rest)} f_rest_* properties: {error}") from error
        shN = None
        if has_sh:
            shN = torch.zeros(count, 0, 3)
            if rest:
                # (N, 3 * (K - 1)) channel by channel -> (N, K - 1, 3)
                shN = table(rest).unflatten(1, (3, -1)).transpose(1, 2).contiguous()
        out = Gaussians(
            means=table(["x", "y", "z"]),
            quats=table([f"rot_{i}" for i in range(4)]),
            scales=table([f"scale_{i}" for i in range(3)]).exp(),
            opacities=table(["opacity"])[:, 0].sigmoid(),
            sh0=table([f"f_dc_{i}" for i in range(3)])[:, None] if has_sh else None,
            shN=shN,
            features=table(features) if features else None,
        )
    except GaussianFileError:
        raise
    except (
        *(PlyParseError, ValueError, KeyError, TypeError, IndexError, OverflowError),
        *(MemoryError, EOFError, StopIteration, UnicodeError),
    ) as error:
        raise GaussianFileError(
            f"{path}: expected a readable PLY file, got {type(error).__name__}: {error}"
        ) from error
    bad = ~out.is_finite
    if bool(bad.any()):
        raise GaussianFileError(
            f"{path}: expected finite values, got {int(bad.sum())} of {count} Gaussians with "
            f"NaN or infinity, first in row {int(bad.nonzero()[0, 0])}"
        )
    return out


def write_gaussians_ply(gaussians: Gaussians, path: str | os.PathLike) -> None:
    """Write a PLY in the attribute layout of 3D Gaussian Splatting (binary, float32).

    Opacities and scales are written as logits and logarithms; exact 0 and 1 are moved by
    1e-7 and scales of 0 become the smallest float32, since these have no finite value.

    Args:
        gaussians (Gaussians): With SH, features, or both.
        path: Moved into place when whole.
    """
    from plyfile import PlyData, PlyElement

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
    rows = np.empty(count, dtype=[(name, "<f4") for name in columns])
    for name, value in columns.items():
        rows[name] = value.numpy()
    with atomic_path(path) as temporary:
        PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(str(temporary))


def write_splat(gaussians: Gaussians, path: str | os.PathLike) -> None:
    """Write a ``.splat`` file: 32 bytes per Gaussian, the most visible ones first.

    Position and scale as float32, mean colour and opacity as RGBA bytes, rotation as four
    bytes (wxyz, 128 + 128 q). View-dependent colour is lost.

    Raises:
        ValueError: If the Gaussians have neither SH nor three features as colour.
    """
    g = gaussians.detach().to("cpu", torch.float32)
    colors = g.colors
    if colors is None and g.features is not None and g.features.shape[1] == 3:
        colors = g.features
    if colors is None:
        raise ValueError("write_splat: expected SH or three features as colour, got neither")
    order = (g.scales.prod(1) * g.opacities).argsort(descending=True)
    rgba = torch.cat([colors, g.opacities[:, None]], 1)[order]
    quats = torch.nn.functional.normalize(g.quats, dim=-1)[order]
    rows = np.empty(
        len(g), dtype=[("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rot", "u1", 4)]
    )
    rows["mean"], rows["scale"] = g.means[order].numpy(), g.scales[order].numpy()
    rows["rgba"] = (rgba * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    rows["rot"] = (quats * 128 + 128).round().clamp(0, 255).to(torch.uint8).numpy()
    with atomic_path(path) as temporary:
        rows.tofile(temporary)
