"""``.sog`` files: Gaussians as a few small pictures, about 16 bytes each with SH of degree 3.

The format is PlayCanvas'. A zip file, or a folder, holds ``meta.json`` and lossless WebP textures,
one pixel a Gaussian.

| quantity | stored as |
| --- | --- |
| mean | 16 bits per axis of ``sign(x) log(1 + |x|)`` within the scene's range |
| scale | 8 bits per axis, which choose of 256 logarithms |
| rotation | the three smaller parts of the quaternion in 8 bits each, and which is left out |
| constant colour, opacity | 8 bits per channel, which choose of 256 values, and 8 bits |
| further SH | number of one of at most 65,536 sets, whose values are chosen of 256 |
"""

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmcity.structures.gaussians import Gaussians
from mmcity.structures.kmeans import codebook, nearest, palette
from mmcity.structures.morton import blocks_along_curve
from mmcity.structures.scene_frame import SceneFrame
from mmcity.structures.splat_info import SPLAT_MODELS, SplatInfo
from mmcity.utils.fileio import (
    atomic_path,
    atomic_paths,
    damage_told,
    from_json,
    path_below,
    to_json,
)
from mmcity.version import __version__

from .archives import open_archive
from .gaussian_format import (
    GaussianFileError,
    GaussianFormat,
    check_count,
    for_writing,
    in_axes,
    keep_valid,
    unseen_loss,
)
from .glb import get_frame, set_frame
from .small_rotations import pack_rotations, unpack_rotations
from .sog_textures import MOST_EDGE, decode_texture, encode_texture

#: File that tells of the others.
META = "meta.json"
#: Bytes of JSON that are read.
MOST_JSON = 256 << 20
#: Further SH coefficients by degree, and by the width of their picture: 64 sets a row.
_COEFFICIENTS = {1: 3, 2: 8, 3: 15}
_ROW = 64
_MOST_SETS = 64 * 1024
_FEW_SETS = 64
#: Alpha of a rotation whose largest part is w; x, y, z follow.
_LARGEST_W = 252
#: A scale of 0 lies so far below the smallest logarithm.
_ZERO_SCALE = 20.0

_Load = Callable[[str], bytes]


def read_sog(
    path: str | os.PathLike,
    drop_invalid: bool = False,
    *,
    to: str | None = None,
    assume: str | None = None,
) -> Gaussians:
    """Read SOG of version 1 or 2.

    Args:
        path: ``.sog`` file, or the ``meta.json`` of a folder.
        drop_invalid: Leave out Gaussians whose values are not finite. Defaults to False.
        to: Axes to return. Defaults to None: those of the file.
        assume: Axes of the file, which it does not say. Defaults to None: not known.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken.
        ValueError: If axes are wanted without saying which the file has.
    """
    return in_axes(*_load_sog(path, drop_invalid), path, to, assume)[0]


def _load_sog(path: str | os.PathLike, drop_invalid: bool = False) -> tuple[Gaussians, SplatInfo]:
    gaussians, info = decode_sog(path)
    return keep_valid(gaussians, path, drop_invalid), info


def decode_sog(path: str | os.PathLike) -> tuple[Gaussians, SplatInfo]:
    """Content of a file, values that are not finite included; raises as :func:`read_sog`."""
    with (
        damage_told(path, "a SOG scene", GaussianFileError),
        _members(Path(path)) as load,
        np.errstate(all="ignore"),
    ):
        return _decode(load, path)


@contextmanager
def _members(path: Path) -> Iterator[_Load]:
    """Reads files of a zip or folder by name; ``meta.json`` first."""
    with open(path, "rb") as file:
        packed = file.read(4) == b"PK\x03\x04"
    if not packed:
        yield lambda name: (path if name == META else path_below(path.parent, name)).read_bytes()
        return
    with open_archive(path) as archive:
        folder = meta_folder(archive)
        if folder is None:
            raise GaussianFileError(f"{path}: expected {META} in the zip file, got none")
        yield lambda name: archive.read(folder + name)


def read_sog_frame(path: str | os.PathLike) -> SceneFrame | None:
    """Frame that ``meta.json`` notes, or None.

    Raises:
        ValueError: If the file is broken.
    """
    with damage_told(path, "a SOG scene"), _members(Path(path)) as load:
        return get_frame(_meta(load, path), path)


def meta_folder(archive: zipfile.ZipFile) -> str | None:
    """Folder of ``meta.json`` in a zip file: empty at its root, or the only one; None without."""
    found = [name[: -len(META)] for name in archive.namelist() if Path(name).name == META]
    return found[0] if len(found) == 1 and found[0].count("/") <= 1 else None


def _meta(load: _Load, path: str | os.PathLike) -> dict[str, Any]:
    text = load(META)
    if len(text) > MOST_JSON:
        raise GaussianFileError(f"{path}: expected {META} of at most 256 MiB, got {len(text)} B")
    return from_json(text.decode(), f"{path}: {META}")


def _decode(load: _Load, path: str | os.PathLike) -> tuple[Gaussians, SplatInfo]:
    meta = _meta(load, path)
    version = meta.get("version", 1)
    if version not in (1, 2):
        raise GaussianFileError(
            f"{path}: expected SOG of version 1 or 2, got {version!r}: export it again"
        )
    count = meta["count"] if version == 2 else meta["means"]["shape"][0]
    if type(count) is not int:
        raise GaussianFileError(f"{path}: expected a count of Gaussians, got {count!r}")
    check_count(path, count)

    def texture(part: str, number: int = 0, pixels: int = count) -> np.ndarray:
        name = meta[part]["files"][number]
        return decode_texture(load(name), f"{path}: {name}", pixels)

    def codes(part: str, number: int = 0) -> np.ndarray:
        return texture(part, number).reshape(-1, 4)[:count]

    def values(part: str, of: np.ndarray) -> np.ndarray:
        """Float32 of codes, by a codebook or, in version 1, by ranges."""
        if version == 2:
            book = _numbers(path, meta[part]["codebook"], part)
            if of.size and of.max() >= len(book):
                raise GaussianFileError(
                    f"{path}: expected codes of {part} below {len(book)}, got {of.max()}"
                )
            return book.astype(np.float32)[of]
        low, high = (_numbers(path, meta[part][end], part) for end in ("mins", "maxs"))
        width = of.shape[-1]
        low, high = (np.broadcast_to(end[:width], width) for end in (low, high))
        return (low + (high - low) * (of / 255)).astype(np.float32)

    low, high = (_numbers(path, meta["means"][end], "means", 3) for end in ("mins", "maxs"))
    steps = codes("means")[:, :3] | codes("means", 1)[:, :3].astype(np.uint16) << 8
    logs = low + np.where(high == low, 1, high - low) * (steps / 65535)
    means = (np.sign(logs) * np.expm1(np.abs(logs))).astype(np.float32)
    rotations = codes("quats")
    largest = rotations[:, 3].astype(np.int64) - _LARGEST_W
    quats = unpack_rotations(largest.clip(0), rotations[:, :3], 255)
    quats[largest < 0] = (1, 0, 0, 0)
    scales = np.exp(values("scales", codes("scales")[:, :3]))
    colors = codes("sh0")
    if version == 2:
        sh0, opacities = values("sh0", colors[:, :3]), colors[:, 3].astype(np.float32) / 255
    else:
        both = values("sh0", colors)
        sh0, opacities = both[:, :3], 1 / (1 + np.exp(-both[:, 3]))
    rest = np.zeros((count, 0, 3), np.float32)
    if meta.get("shN") is not None:
        labels = codes("shN", 1)[:, 0] | codes("shN", 1)[:, 1].astype(np.int64) << 8
        sets = values("shN", _palette(path, meta["shN"], version, texture))
        sets = np.concatenate([sets, np.zeros_like(sets[:1])])
        rest = sets[labels.clip(max=len(sets) - 1)]
    model = meta.get("model") or "default"
    if model not in SPLAT_MODELS:
        raise GaussianFileError(f"{path}: expected a model of {SPLAT_MODELS}, got {model!r}")
    if model == "2dgs":
        scales[:, 2] = 0
    gaussians = Gaussians(
        means=torch.from_numpy(means),
        quats=torch.from_numpy(quats),
        scales=torch.from_numpy(scales),
        opacities=torch.from_numpy(opacities),
        sh0=torch.from_numpy(sh0)[:, None],
        shN=torch.from_numpy(rest),
        frame=get_frame(meta, path),
    )
    info = SplatInfo(
        model=model,
        format=f"sog {version}",
        sh_degree=gaussians.sh_degree or 0,
        generator=meta.get("asset", {}).get("generator"),
    )
    return gaussians, info


def _palette(
    path: str | os.PathLike, about: Mapping[str, Any], version: int, texture: Callable
) -> np.ndarray:
    """Codes ``(P, C, 3)`` of the sets of further SH."""
    if version == 2:
        count, bands = about["count"], about["bands"]
        if bands not in _COEFFICIENTS or type(count) is not int or not 0 < count <= _MOST_SETS:
            raise GaussianFileError(
                f"{path}: expected up to {_MOST_SETS} sets of SH of degree 1 to 3, got {count!r} "
                f"of {bands!r}"
            )
        width = _ROW * _COEFFICIENTS[bands]
        image = texture("shN", 0, width * -(-count // _ROW))
    else:
        image, count = texture("shN", 0, _ROW * _COEFFICIENTS[1]), _MOST_SETS
        width = image.shape[1]
    if image.shape[1] != width or width // _ROW not in _COEFFICIENTS.values() or width % _ROW:
        raise GaussianFileError(
            f"{path}: expected rows of {_ROW} sets of SH of degree 1 to 3, got a width of "
            f"{image.shape[1]}: export it again"
        )
    return image[..., :3].reshape(-1, width // _ROW, 3)[:count]


def _numbers(
    path: str | os.PathLike, values: Any, part: str, count: int | None = None
) -> np.ndarray:
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if array.ndim != 1 or not np.isfinite(array).all() or len(array) != (count or len(array)):
        raise GaussianFileError(
            f"{path}: expected {count or ''} finite numbers of {part}, got {str(values)[:80]}"
        )
    return array


def write_sog(
    gaussians: Gaussians, path: str | os.PathLike, *, info: SplatInfo | None = None
) -> SplatInfo:
    """Write SOG of version 2; rows are in the order of a Z-shaped curve.

    Args:
        gaussians: With SH, of which degrees up to 3 are kept, or three features as colour.
        path: ``.sog`` file, moved into place when whole, or the ``meta.json`` of a folder, which
            is written last.
        info: What is known of the scene. Defaults to None: nothing.

    Returns:
        SplatInfo: What the file says, and what was lost.

    Raises:
        ValueError: If there is none, no colour, or a value that is not finite.
    """
    g, _, said = for_writing(gaussians, path, info)
    meta = write_sog_rows(g[blocks_along_curve(g.means)], Path(path), said.model)
    lost = said.lost + unseen_loss(g.opacities)
    return replace(said, format="sog 2", generator=meta["asset"]["generator"], lost=lost)


def write_sog_rows(g: Gaussians, path: Path, model: str = "default") -> dict[str, Any]:
    """Write Gaussians of :func:`for_writing` in the order of their rows; returns ``meta.json``."""
    files, meta = _encode(g, path)
    if model != "default":
        meta["model"] = model
    set_frame(meta, g.frame)
    text = to_json(meta, separators=(",", ":")).encode()
    if path.name == META:
        parts = {META: text, **files}  # the first is moved last
        with atomic_paths(path.with_name(name) for name in parts) as temporaries:
            for temporary, data in zip(temporaries, parts.values()):
                temporary.write_bytes(data)
    else:
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, data in {META: text, **files}.items():
                archive.writestr(zipfile.ZipInfo(name), data)  # without a date: the same bytes
    return meta


def _encode(g: Gaussians, path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Textures by name, and what ``meta.json`` says of them."""
    count = len(g)
    width = 4 * -(-int(np.ceil(np.sqrt(count))) // 4)
    if width > MOST_EDGE:
        raise GaussianFileError(
            f"{path}: expected at most {MOST_EDGE**2} Gaussians, got {count}: write lod-meta.json"
        )
    height = 4 * -(-count // (4 * width))
    files: dict[str, bytes] = {}
    meta: dict[str, Any] = {
        "version": 2, "asset": {"generator": f"mmcity {__version__}"}, "count": count
    }  # fmt: skip

    def store(name: str, rgb: np.ndarray, alpha: np.ndarray | int = 255) -> str:
        pixels = np.zeros((height * width, 4), np.uint8)
        pixels[:count, :3], pixels[:count, 3] = rgb, alpha
        files[name] = encode_texture(pixels.reshape(height, width, 4), f"{path}: {name}")
        return name

    means = g.means.double().numpy()
    logs = np.sign(means) * np.log1p(np.abs(means))
    low, high = logs.min(0), logs.max(0)
    steps = np.floor((logs - low) / np.where(high == low, 1, high - low) * 65535 + 0.5)
    steps = steps.clip(0, 65535).astype(np.uint16)
    names = [store("means_l.webp", steps & 255), store("means_u.webp", steps >> 8)]
    meta["means"] = {"mins": low, "maxs": high, "files": names}
    scales = g.scales.double().numpy()
    zero = scales <= 0
    logs = np.log(np.where(zero, 1, scales))
    if zero.any():
        least = logs[~zero].min() if not zero.all() else 0.0
        logs[zero] = least - _ZERO_SCALE
        below = np.array([least - _ZERO_SCALE], np.float32)
        book = np.concatenate([below, codebook(logs[~zero] if not zero.all() else below, 255)])
    else:
        book = codebook(logs)
    meta["scales"] = {
        "codebook": _short(book),
        "files": [store("scales.webp", nearest(logs, book))],
    }
    largest, codes = pack_rotations(g.quats.numpy(), 255)
    meta["quats"] = {"files": [store("quats.webp", codes, largest + _LARGEST_W)]}
    assert g.sh0 is not None and g.shN is not None  # of for_writing
    book = codebook(g.sh0.numpy())
    alpha = np.floor(g.opacities.numpy() * 255 + 0.5)
    colors = store("sh0.webp", nearest(g.sh0[:, 0].numpy(), book), alpha)
    meta["sh0"] = {"codebook": _short(book), "files": [colors]}
    coefficients = g.shN.shape[1]
    if coefficients:
        # Surface times opacity.
        seen = g.opacities * g.scales.sort(1).values[:, 1:].prod(1)
        sets, labels = palette(g.shN.flatten(1), _sets_of(count), seen)
        book = codebook(sets.numpy())
        rows = -(-len(sets) // _ROW)
        pixels = np.full((rows * _ROW * coefficients, 4), 255, np.uint8)
        pixels[: len(sets) * coefficients, :3] = nearest(sets.numpy(), book).reshape(-1, 3)
        image = pixels.reshape(rows, _ROW * coefficients, 4)
        name = "shN_centroids.webp"
        files[name] = encode_texture(image, f"{path}: {name}")
        split = np.stack([labels & 255, labels >> 8, torch.zeros_like(labels)], 1)
        meta["shN"] = {
            "count": len(sets),
            "bands": g.sh_degree,
            "codebook": _short(book),
            "files": [name, store("shN_labels.webp", split)],
        }
    return files, meta


def _short(book: np.ndarray) -> list[float]:
    """Numbers of single precision with no more digits than these need."""
    return [float(str(value)) for value in book.astype(np.float32)]


def _sets_of(count: int) -> int:
    """Sets of further SH for so many Gaussians."""
    power = min(int(np.floor(np.log2(count / 1024))), 6)
    return max(int(1024 * 2.0**power), min(count, _FEW_SETS))


def _is_sog(path: Path, head: bytes) -> bool:
    if head.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(path) as archive:
                return meta_folder(archive) is not None
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
            return False
    return head.lstrip().startswith(b"{") and b'"means"' in head and b'"quats"' in head


SOG = GaussianFormat("sog", (".sog", META), _load_sog, write_sog, _is_sog)
