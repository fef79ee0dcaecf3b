"""Intersection of projected Gaussians with tiles: lists in depth order per tile."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mmcity_ops import _backend as backend
from mmcity_ops.reference import intersection as reference

NATIVE = "mmcity::isect_tiles"
_debug = {"wide_ids": False}


class TileLists(NamedTuple):
    """Lists of all tiles.

    Attributes:
        tiles_per_gauss (Tensor): int32, shape of the rows: tiles that each row touches.
        isect_ids (Tensor): int64 ``[n_isects]`` keys image | tile | depth bits, ascending.
        flatten_ids (Tensor): int32 (int64 from 2**31 rows on) ``[n_isects]`` row of each entry.
        isect_offsets (Tensor): int64 ``[I, th, tw]`` start of each tile's list.
        n_found (Tensor): int64 scalar on the device, entries found; more than the capacity
            means that the farthest tiles' lists were cut.
    """

    tiles_per_gauss: Tensor
    isect_ids: Tensor
    flatten_ids: Tensor
    isect_offsets: Tensor
    n_found: Tensor


def force_wide_ids(enabled: bool) -> None:
    """Debugging aid: emit int64 ``flatten_ids`` as for more than 2**31 rows."""
    _debug["wide_ids"] = enabled


def check_key_width(n_images: int, n_tiles: int) -> None:
    """Raise ``ValueError`` where the sort keys of so many images and tiles exceed 64 bits."""
    bits = 32 + math.ceil(math.log2(max(n_tiles, 1))) + math.ceil(math.log2(max(n_images, 1)))
    if bits > 64:
        raise ValueError(
            f"images: expected a sort key of at most 64 bits, got {bits} for {n_images} images "
            f"of {n_tiles} tiles: render fewer images at once or use larger tiles"
        )


def _check(means2d, radii, depths, *, conics, opacities, image_ids, masks, n_images, size) -> None:
    rows = tuple(means2d.shape[:-1])
    backend.check_last("means2d", means2d, 2)
    backend.check_shape("radii", radii, (*rows, 2))
    backend.check_shape("depths", depths, rows)
    backend.check_dtype("radii", radii, torch.int32)
    if conics is not None:
        backend.check_shape("conics", conics, (*rows, 3))
    if opacities is not None:
        backend.check_shape("opacities", opacities, rows)
    if image_ids is not None:
        backend.check_shape("image_ids", image_ids, rows)
        backend.check_dtype("image_ids", image_ids, torch.int64)
    if masks is not None:
        backend.check_last("masks", masks, *size)
        backend.check_dtype("masks", masks, torch.bool)
        if masks.numel() != n_images * math.prod(size):
            raise ValueError(f"masks: expected {n_images} images, got shape {list(masks.shape)}")
    backend.check_float(means2d=means2d, conics=conics, opacities=opacities)
    backend.check_float(depths=depths)
    backend.check_device(
        means2d=means2d, radii=radii, depths=depths, conics=conics, opacities=opacities,
        image_ids=image_ids, masks=masks,
    )  # fmt: skip
    backend.check_finite(means2d=means2d, depths=depths, conics=conics, opacities=opacities)


def tile_lists(
    means2d: Tensor,
    radii: Tensor,
    depths: Tensor,
    tile_size: int,
    tile_width: int,
    tile_height: int,
    *,
    conics: Tensor | None = None,
    opacities: Tensor | None = None,
    image_ids: Tensor | None = None,
    n_images: int | None = None,
    masks: Tensor | None = None,
    max_isects: int | None = None,
) -> TileLists:
    """:func:`isect_tiles` and :func:`isect_offset_encode` in one pass (same arguments).

    Args:
        max_isects (int, optional): capacity of the lists. If given, ``isect_ids`` and
            ``flatten_ids`` have exactly this size, unused entries are -1 in ``flatten_ids``,
            and entries beyond it are dropped, which ``n_found`` tells without a
            synchronisation. Defaults to None (exact size).
    """
    if image_ids is None:
        n_images = math.prod(means2d.shape[:-2]) if n_images is None else n_images
    elif n_images is None:
        raise ValueError("n_images: expected a number with image_ids (packed rows), got none")
    means2d, depths, conics, opacities = (
        None if value is None else value.detach() for value in (means2d, depths, conics, opacities)
    )
    options = dict(
        conics=conics, opacities=opacities, image_ids=image_ids, masks=masks, n_images=n_images
    )
    _check(means2d, radii, depths, size=(tile_height, tile_width), **options)
    options.update(tile_size=tile_size, tile_width=tile_width, tile_height=tile_height)
    check_key_width(n_images, tile_width * tile_height)
    if backend.use_native(means2d):
        capacity = dict(max_isects=-1 if max_isects is None else max_isects)
        depths = depths.to(means2d.dtype)
        lists = torch.ops.mmcity.isect_tiles(
            means2d, radii, depths, **options, **capacity, wide_ids=_debug["wide_ids"]
        )
        backend.check_refused(means2d)
        return TileLists(*lists)
    counts, isect_ids, flatten_ids = reference.isect_tiles(means2d, radii, depths, **options)
    if _debug["wide_ids"]:
        flatten_ids = flatten_ids.to(torch.int64)
    offsets = reference.isect_offset_encode(isect_ids, n_images, tile_width, tile_height)
    found = torch.full((), len(isect_ids), dtype=torch.int64, device=means2d.device)
    if max_isects is not None:
        unused = max(0, max_isects - len(isect_ids))
        last = torch.iinfo(torch.int64).max
        isect_ids = torch.nn.functional.pad(isect_ids[:max_isects], (0, unused), value=last)
        flatten_ids = torch.nn.functional.pad(flatten_ids[:max_isects], (0, unused), value=-1)
        offsets = offsets.clamp(max=max_isects)
    return TileLists(counts, isect_ids, flatten_ids, offsets, found)


def isect_tiles(
    means2d: Tensor,
    radii: Tensor,
    depths: Tensor,
    tile_size: int,
    tile_width: int,
    tile_height: int,
    *,
    conics: Tensor | None = None,
    opacities: Tensor | None = None,
    image_ids: Tensor | None = None,
    n_images: int | None = None,
    masks: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """List the tiles that each projected Gaussian touches, sorted by image, tile and depth.

    Args:
        means2d (Tensor): ``[..., N, 2]`` pixels, or packed ``[nnz, 2]`` with ``image_ids``.
        radii (Tensor): int32 ``[..., N, 2]`` box half sizes in pixels; 0 marks a culled row.
        depths (Tensor): ``[..., N]`` camera z, the sort key (compared as float32).
        tile_size (int): tile edge in pixels.
        tile_width, tile_height (int): tiles per row and per column.
        conics (Tensor, optional): ``[..., N, 3]``. If given, exact ellipse lists: only tiles
            that the level set of alpha 1/255 (at most 3.33 sigma) meets. Defaults to None
            (all tiles of the box).
        opacities (Tensor, optional): ``[..., N]``, tightens the ellipse. Defaults to None.
        image_ids (Tensor, optional): int64 ``[nnz]`` image of each packed row, ascending.
        n_images (int, optional): number of images; needed with ``image_ids``.
        masks (Tensor, optional): bool ``[..., th, tw]``; False keeps a tile's list empty.

    Returns:
        tuple: ``tiles_per_gauss`` int32 in the shape of the rows; ``isect_ids`` int64
        ``[n_isects]`` with the float32 depth bits in bits 0-31, then
        ``ceil(log2(tiles))`` bits of tile ``ty * tw + tx``, then the image (with negative
        depths the bits are biased so that order holds); ``flatten_ids`` ``[n_isects]`` =
        image * N + Gaussian (dense) or the row number (packed). Ties in depth are ordered by
        row, so that lists are equal on every backend.

    Raises:
        ValueError: the sort key would need more than 64 bits; ``n_images`` is missing.
    """
    lists = tile_lists(
        means2d, radii, depths, tile_size, tile_width, tile_height, conics=conics,
        opacities=opacities, image_ids=image_ids, n_images=n_images, masks=masks,
    )  # fmt: skip
    return lists[:3]


def isect_offset_encode(
    isect_ids: Tensor, n_images: int, tile_width: int, tile_height: int
) -> Tensor:
    """Start of each tile's list in the sorted keys of :func:`isect_tiles`.

    Args:
        isect_ids (Tensor): int64 ``[n_isects]`` sorted keys.
        n_images (int): number of images.
        tile_width, tile_height (int): tiles per row and per column.

    Returns:
        Tensor: int64 ``[n_images, tile_height, tile_width]``; a list ends where the next
        begins, the last one at ``n_isects``.
    """
    if isect_ids.dtype != torch.int64:
        raise TypeError(f"isect_ids: expected int64, got {isect_ids.dtype}")
    check_key_width(n_images, tile_width * tile_height)
    return reference.isect_offset_encode(isect_ids, n_images, tile_width, tile_height)


@backend.on_native_load
def _register() -> None:
    @torch.library.register_fake(NATIVE)
    def _(
        means2d, radii, depths, conics, opacities, image_ids, masks, n_images, tile_size,
        tile_width, tile_height, max_isects, wide_ids,
    ):  # fmt: skip
        size = max_isects if max_isects >= 0 else torch.library.get_ctx().new_dynamic_size()
        id_type = torch.int64 if wide_ids else torch.int32
        return (
            radii.new_empty(radii.shape[:-1]),
            radii.new_empty(size, dtype=torch.int64),
            radii.new_empty(size, dtype=id_type),
            radii.new_empty((n_images, tile_height, tile_width), dtype=torch.int64),
            radii.new_empty((), dtype=torch.int64),
        )

    backend.cast_under_autocast(NATIVE)
