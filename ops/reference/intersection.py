"""Tile lists in plain torch: which projected Gaussian touches which tile, in depth order."""

import math

import torch
from torch import Tensor

ALPHA_MIN = 1.0 / 255.0
EXTENT = 3.33
# Widens the level set so that rounding never drops a tile that a pixel needs.
LEVEL_SLACK = 1e-4


def key_bits(count: int) -> int:
    """Bits that number ``count`` things; one thing takes none."""
    return math.ceil(math.log2(count)) if count > 1 else 0


def depth_key(depths: Tensor) -> Tensor:
    """Order-preserving map from float32 depths to 32-bit unsigned keys (as int64).

    Positive depths keep their IEEE bits, which is the layout of the published keys. As soon
    as one depth is negative all keys are biased (flip the sign bit, or all bits of a negative
    number), since raw bits would sort negative numbers last and in reverse.
    """
    bits = depths.to(torch.float32).contiguous().view(torch.int32).to(torch.int64) & 0xFFFFFFFF
    if bits.numel() == 0 or not bool((bits >> 31).any()):
        return bits
    return torch.where(bits >> 31 == 1, bits ^ 0xFFFFFFFF, bits | 0x80000000)


def tile_boxes(means2d: Tensor, radii: Tensor, ts: int, tw: int, th: int) -> Tensor:
    """Half-open tile ranges of the boxes ``mean +- radius``.

    Returns:
        Tensor: int64 ``[R, 4]`` (x begin, y begin, x end, y end); empty for zero radii.
    """
    centre, reach = means2d.to(torch.float32), radii.to(torch.float32)
    lo = torch.floor((centre - reach) / ts)
    hi = torch.ceil((centre + reach) / ts)
    limit = torch.tensor([tw, th], dtype=torch.float32, device=means2d.device)
    lo = torch.minimum(lo.clamp(min=0), limit)
    hi = torch.minimum(hi.clamp(min=0), limit)
    box = torch.cat([lo, hi], dim=-1).nan_to_num(0.0).to(torch.int64)
    visible = (radii > 0).all(dim=-1, keepdim=True)
    return torch.where(visible, box, 0)


def _ellipse_hits_tile(
    means2d: Tensor, conics: Tensor, opacities: Tensor | None, tx: Tensor, ty: Tensor, ts: int
) -> Tensor:
    """Whether the level set of each row holds pixel centres' hull of its tile (x, y).

    The part of an ellipse inside a horizontal band is convex, so it meets a tile exactly when
    its x-range in the band of the tile's pixel centres meets the tile's x-range. The range
    ends lie at the ellipse's extreme points, moved into the band.
    """
    mean = means2d.to(torch.float64)
    a, b, c = conics.to(torch.float64).unbind(-1)
    level = torch.full_like(a, EXTENT**2)
    if opacities is not None:
        opacity = opacities.to(torch.float64).clamp(min=1e-30)
        level = torch.minimum(level, 2.0 * torch.log(opacity / ALPHA_MIN))
    level = level * (1.0 + LEVEL_SLACK) + LEVEL_SLACK
    det = (a * c - b * b).clamp(min=1e-300)
    half_x = torch.sqrt((level * c / det).clamp(min=0))
    half_y = torch.sqrt((level * a / det).clamp(min=0))
    skew = -b / c * half_x  # y offset of the rightmost point
    x0 = tx * ts + 0.5 - mean[:, 0]
    y0 = ty * ts + 0.5 - mean[:, 1]
    x1, y1 = x0 + (ts - 1), y0 + (ts - 1)
    h0, h1 = torch.maximum(y0, -half_y), torch.minimum(y1, half_y)
    at_right = torch.maximum(h0, torch.minimum(h1, skew))
    at_left = torch.maximum(h0, torch.minimum(h1, -skew))
    right = (-b * at_right + torch.sqrt((level * a - det * at_right**2).clamp(min=0))) / a
    left = (-b * at_left - torch.sqrt((level * a - det * at_left**2).clamp(min=0))) / a
    return (level > 0) & (h0 <= h1) & (right >= x0) & (left <= x1)


def isect_tiles(
    means2d: Tensor,
    radii: Tensor,
    depths: Tensor,
    *,
    tile_size: int,
    tile_width: int,
    tile_height: int,
    n_images: int,
    conics: Tensor | None,
    opacities: Tensor | None,
    image_ids: Tensor | None,
    masks: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Plain-torch twin of :func:`mmcity_ops.isect_tiles`."""
    rows = means2d.reshape(-1, 2)
    box = tile_boxes(rows, radii.reshape(-1, 2), tile_size, tile_width, tile_height)
    if image_ids is None:
        per_image = max(means2d.shape[-2], 1)
        image_ids = torch.arange(len(rows), device=rows.device) // per_image
    n_tiles = tile_width * tile_height
    spans = box[:, 2:] - box[:, :2]
    counts = spans.prod(dim=-1)  # tiles of each box
    ids = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
    first = torch.cumsum(counts, 0) - counts
    local = torch.arange(len(ids), device=rows.device) - first[ids]
    width = spans[ids, 0].clamp(min=1)
    tx = box[ids, 0] + local % width
    ty = box[ids, 1] + torch.div(local, width, rounding_mode="floor")
    image = image_ids.to(torch.int64)[ids]
    keep = torch.ones_like(ids, dtype=torch.bool)
    if conics is not None:
        flat_opacities = None if opacities is None else opacities.reshape(-1)[ids]
        flat_conics = conics.reshape(-1, 3)[ids]
        keep &= _ellipse_hits_tile(rows[ids], flat_conics, flat_opacities, tx, ty, tile_size)
    tile = ty * tile_width + tx
    if masks is not None:
        keep &= masks.reshape(-1, n_tiles)[image, tile]
    ids, tile, image = ids[keep], tile[keep], image[keep]
    tiles_per_gauss = torch.bincount(ids, minlength=len(rows)).to(torch.int32)
    depth_bits = depth_key(depths.reshape(-1))[ids]
    isect_ids = (image << (32 + key_bits(n_tiles))) | (tile << 32) | depth_bits
    # A key may use bit 63, which would sort as negative: sort by (image, tile) and depth.
    order = torch.argsort(depth_bits, stable=True)
    order = order[torch.argsort((image * n_tiles + tile)[order], stable=True)]
    id_dtype = torch.int32 if len(rows) < 2**31 else torch.int64
    return (tiles_per_gauss.reshape(means2d.shape[:-1]), isect_ids[order], ids[order].to(id_dtype))


def isect_offset_encode(
    isect_ids: Tensor, n_images: int, tile_width: int, tile_height: int
) -> Tensor:
    """Plain-torch twin of :func:`mmcity_ops.isect_offset_encode`."""
    n_tiles = tile_width * tile_height
    bits = key_bits(n_tiles)
    tile = (isect_ids >> 32) & ((1 << bits) - 1)
    image_bits = key_bits(n_images)
    image = (isect_ids >> (32 + bits)) & ((1 << image_bits) - 1)
    counts = torch.bincount(image * n_tiles + tile, minlength=n_images * n_tiles)
    offsets = torch.cumsum(counts, 0) - counts
    return offsets.reshape(n_images, tile_height, tile_width)
