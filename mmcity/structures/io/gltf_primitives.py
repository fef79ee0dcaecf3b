"""Primitives of glTF files with Gaussians: their values, and what is said of them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mmcity.structures.gaussians import Gaussians
from mmcity.structures.spherical_harmonics import SH_C0, sh_degree_of
from mmcity.structures.splat_info import SPLAT_MODELS, SplatInfo
from mmcity.utils.checks import check_choice
from mmcity.utils.srgb import srgb_to_linear

from .gaussian_format import GaussianFileError
from .gaussians_spz import pack_spz, read_spz_bytes
from .glb import GENERATOR, GlbBuilder, describe, read_accessor, read_view
from .gltf_scene import EXTENSION, SPZ_EXTENSIONS

#: Where a file notes what the extension has no place for.
INFO_KEY = "mmcity"
#: Names of colour spaces in files.
COLOR_SPACES = {"srgb": "srgb_rec709_display", "linear": "lin_rec709_display"}
#: Highest degree of SH that files of this toolbox ever held.
_MOST_DEGREES = 4


class NoGaussiansError(GaussianFileError):
    """A glTF file is whole, but holds other things than Gaussians."""


def tell_nothing_found(document: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Refuse a file without primitives of Gaussians; one that promises them is broken."""
    used = [str(name) for name in document.get("extensionsUsed", [])]
    promised = [name for name in used if "gaussian_splat" in name]
    if promised:
        raise GaussianFileError(
            f"{path}: expected Gaussians as {EXTENSION}, plain or as {SPZ_EXTENSIONS[0]}, got "
            f"{', '.join(promised)} without any: export the file uncompressed, or as PLY"
        )
    raise NoGaussiansError(f"{path}: expected a primitive with {EXTENSION}, got extensions {used}")


@dataclass
class StoredPrimitive:
    """Gaussians of a primitive, with scales as they are stored.

    Attributes:
        gaussians: In the axes of the primitive.
        color_space: Of them.
        packed: What the SPZ within says; None for plain accessors.
        negative: Whether a scale is below 0.
    """

    gaussians: Gaussians
    color_space: str
    packed: SplatInfo | None = None
    negative: bool = False

    @property
    def scales_as_logarithms(self) -> torch.Tensor:
        """``(N, 3)`` scales of a file that holds logarithms."""
        scales = self.gaussians.scales
        return scales if self.packed is not None else scales.exp()


def info_of(
    document: Mapping[str, Any],
    parts: Sequence[StoredPrimitive],
    axes: str,
    path: str | os.PathLike,
) -> SplatInfo:
    """Statements of a file about its primitives."""
    asset = document.get("asset", {})
    noted = asset.get("extras", {}).get(INFO_KEY, {})
    spaces = {part.color_space for part in parts}
    if len(spaces) > 1:
        raise GaussianFileError(
            f"{path}: expected one colour space, got {' and '.join(sorted(spaces))}: export each "
            "to a file of its own"
        )
    plain = [part for part in parts if part.packed is None]
    generator = str(asset.get("generator", ""))
    linear = noted.get("scales") == "linear"
    old = any(part.negative for part in plain) or (
        bool(plain) and generator.startswith(GENERATOR) and not linear
    )
    models = {part.packed.model for part in parts if part.packed is not None} - {"default"}
    model = noted.get("model", models.pop() if models else "default")
    check_choice(f"{path}: model", model, SPLAT_MODELS, GaussianFileError)
    return SplatInfo(
        model=model,
        axes=axes,
        color_space=spaces.pop(),
        format="glb" if len(plain) == len(parts) else "glb with spz",
        sh_degree=max(part.gaussians.sh_degree or 0 for part in parts),
        generator=generator or None,
        extras={"scales": "logarithmic"} if old else {},
    )


def read_primitive(
    document: Mapping[str, Any],
    buffers: Sequence[bytes],
    primitive: Mapping[str, Any],
    path: str | os.PathLike,
) -> StoredPrimitive:
    """Values of one primitive.

    Raises:
        GaussianFileError: If it is broken, or of a kind that is not known; names it.
    """
    own = primitive["extensions"].get(EXTENSION, {})
    kernel, space = own.get("kernel", "ellipse"), own.get("colorSpace", COLOR_SPACES["srgb"])
    spaces = {name: key for key, name in COLOR_SPACES.items()}
    if kernel != "ellipse" or space not in spaces:
        raise GaussianFileError(
            f"{path}: expected the kernel ellipse and a colorSpace of {', '.join(spaces)}, got "
            f"{kernel} and {space}: export the file with these"
        )
    packed = {**primitive["extensions"], **own.get("extensions", {})}
    unknown = [name for name in packed if "gaussian_splat" in name]
    unknown = sorted({*unknown} - {EXTENSION, *SPZ_EXTENSIONS})
    if unknown:
        raise GaussianFileError(
            f"{path}: expected Gaussians that are plain or {SPZ_EXTENSIONS[0]}, got "
            f"{', '.join(unknown)}: export the file without compression, or as PLY"
        )
    for name in SPZ_EXTENSIONS:
        if name in packed:
            content = read_view(document, buffers, packed[name]["bufferView"])
            gaussians, info = read_spz_bytes(content, f"{path}: {name}")
            told = document["accessors"][primitive["attributes"]["POSITION"]]["count"]
            if told != len(gaussians):
                raise GaussianFileError(
                    f"{path}: expected {told} Gaussians, as POSITION says, got {len(gaussians)} "
                    "in the SPZ: export the file again"
                )
            return StoredPrimitive(gaussians, spaces[space], packed=info)
    return _read_plain(document, buffers, primitive["attributes"], spaces[space], path)


def _read_plain(
    document: Mapping[str, Any],
    buffers: Sequence[bytes],
    attributes: Mapping[str, int],
    color_space: str,
    path: str | os.PathLike,
) -> StoredPrimitive:
    degrees = [d for d in range(_MOST_DEGREES + 1) if sh_name(d, 0) in attributes]
    names = ["POSITION", *(f"{EXTENSION}:{n}" for n in ("ROTATION", "SCALE", "OPACITY"))]
    table = [
        sh_name(d, row) for d in range(max(degrees, default=0) + 1) for row in range(2 * d + 1)
    ]
    missing = [name for name in (*names, *table) if name not in attributes]
    if missing:
        raise GaussianFileError(
            f"{path}: expected the attributes {missing} too, got {list(attributes)}: export the "
            "file again"
        )
    values = {
        name: torch.from_numpy(
            read_accessor(document, buffers, attributes[name]).astype(np.float32, copy=False)
        )
        for name in (*names, *table)
    }
    means, rotations, scales, opacities = (values[name] for name in names)
    coefficients = torch.stack([values[name] for name in table], 1)
    gaussians = Gaussians(
        means=means,
        quats=rotations[:, [3, 0, 1, 2]],
        scales=scales,
        opacities=opacities[:, 0],
        sh0=coefficients[:, :1],
        shN=coefficients[:, 1:],
    )
    return StoredPrimitive(gaussians, color_space, negative=bool((scales < 0).any()))


def sh_name(degree: int, row: int) -> str:
    """Name of the attribute of one SH coefficient."""
    return f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{row}"


def add_attributes(
    builder: GlbBuilder, g: Gaussians, sh: torch.Tensor, is_linear: bool
) -> dict[str, int]:
    """Store the values of Gaussians; returns the accessors by the names of the attributes.

    Args:
        builder: Of the file.
        g: With positions as they are to be stored.
        sh: ``(N, K, 3)``.
        is_linear: Whether colours are linear and not sRGB-coded.
    """
    quats = g.quats.double()
    length = quats.norm(dim=1, keepdim=True)
    whole = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    xyzw = torch.where(length > 0, quats / length, whole)[:, [1, 2, 3, 0]].float()
    values: dict[str, Any] = {
        f"{EXTENSION}:ROTATION": xyzw,
        f"{EXTENSION}:SCALE": g.scales,
        f"{EXTENSION}:OPACITY": g.opacities,
    }
    for degree in range(sh_degree_of(sh.shape[1]) + 1):
        for row in range(2 * degree + 1):
            values[sh_name(degree, row)] = sh[:, degree**2 + row]
    return {
        "POSITION": builder.add(g.means.numpy(), bounds=True),
        "COLOR_0": builder.add(point_colors(sh, g.opacities, is_linear), normalized=True),
        **{name: builder.add(value.numpy()) for name, value in values.items()},
    }


def add_packed(
    builder: GlbBuilder, g: Gaussians, path: str | os.PathLike, info: SplatInfo
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Store Gaussians as SPZ in the first view, as CesiumJS reads them.

    Accessors tell type and count alone. There is none of opacities and of constant colours: the
    reader of CesiumJS 1.145 does not expect them.

    Returns:
        The accessors by the names of the attributes, and what was lost.
    """
    # The file around it notes what SPZ has no place for.
    known = replace(info, axes=None, model="default" if info.model == "2dgs" else info.model)
    packed, said = pack_spz(g, path, 3, known)
    stored, _ = read_spz_bytes(packed, path)
    builder.add_view(packed)
    three, four = np.zeros((len(g), 3), np.float32), np.zeros((len(g), 4), np.float32)
    tables = {
        "POSITION": describe(stored.means.numpy(), bounds=True),
        "COLOR_0": describe(four.astype(np.uint8), normalized=True),
        f"{EXTENSION}:SCALE": describe(three),
        f"{EXTENSION}:ROTATION": describe(four),
        **{
            sh_name(degree, row): describe(three)
            for degree in range(1, said.sh_degree + 1)
            for row in range(2 * degree + 1)
        },
    }
    builder.accessors += tables.values()
    return {name: number for number, name in enumerate(tables)}, said.lost


def point_colors(sh: torch.Tensor, opacities: torch.Tensor, is_linear: bool) -> np.ndarray:
    """``(N, 4)`` uint16 colours and opacities of points, linear as glTF wants them."""
    rgb = (0.5 + SH_C0 * sh[:, 0].double()).clamp(0, 1).numpy()
    rgb = rgb if is_linear else srgb_to_linear(rgb)
    rgba = np.concatenate([rgb, opacities.double().clamp(0, 1).numpy()[:, None]], 1)
    return np.round(rgba * 65535).astype(np.uint16)
