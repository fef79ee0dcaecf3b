"""Compositing of projected Gaussians in plain torch: one dense [pixels, entries] block per tile.

The order of blending, the skip rules and the stop rule are those of 3D Gaussian splatting
(Kerbl et al. 2023); gradients come from autograd.
"""

import torch
from torch import Tensor

ALPHA_MIN = 1.0 / 255.0
ALPHA_MAX = 0.99
T_STOP = 1e-4


class _AbsGradProbe(torch.autograd.Function):
    """Identity on the offsets whose backward hands the summed absolute gradient to a probe."""

    @staticmethod
    def forward(ctx, delta: Tensor, probe: Tensor) -> Tensor:
        return delta.view_as(delta)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, grad.abs().sum(dim=0)


def tile_pixels(tx: int, ty: int, ts: int, like: Tensor) -> Tensor:
    """Centres of a tile's pixels in raster order, ``[ts * ts, 2]`` (x, y)."""
    span = torch.arange(ts, dtype=like.dtype, device=like.device) + 0.5
    y, x = torch.meshgrid(span + ty * ts, span + tx * ts, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def blend_weights(
    sigma: Tensor, opacities: Tensor, t_stop: float = T_STOP
) -> tuple[Tensor, Tensor, Tensor]:
    """Front-to-back weights of one tile.

    Args:
        sigma (Tensor): exponents ``[P, G]`` in list order.
        opacities (Tensor): ``[G]``.
        t_stop (float): a pixel ends before its transmittance falls to this.

    Returns:
        tuple: weights ``[P, G]`` (0 where an entry does not contribute), transmittance before
        each entry ``[P, G]``, final transmittance ``[P]``.
    """
    alpha = torch.clamp(opacities * torch.exp(-sigma), max=ALPHA_MAX)
    hit = (sigma >= 0) & (alpha >= ALPHA_MIN)
    alpha = torch.where(hit, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1.0 - alpha, dim=-1)
    # Transmittance only falls, so the first entry that would pass the stop bars all later ones.
    blended = hit & (after.detach() > t_stop)
    alpha = torch.where(blended, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1.0 - alpha, dim=-1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=-1)
    return alpha * before, before, after[:, -1]


def composite_rows(
    means2d: Tensor,
    conics: Tensor,
    colors: Tensor,
    opacities: Tensor,
    tiles: list[tuple[int, int, int, int, int]],
    *,
    width: int,
    height: int,
    tile_size: int,
    flatten_ids: Tensor,
    probe: Tensor | None,
    t_stop: float,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Composite chosen tiles.

    Args:
        means2d, conics, colors, opacities (Tensor): flat rows ``[R, 2|3|D]``, ``[R]``.
        tiles (list): (image, ty, tx, begin, end) with the range of the tile in ``flatten_ids``.
        probe (Tensor, optional): ``[R, 2]`` that receives the absolute mean gradient.

    Returns:
        tuple: colours ``[n, ts, ts, D]`` without background, transmittance ``[n, ts, ts]``, and
        statistics ``last_ids`` ``[n, ts, ts]`` (position in ``flatten_ids``, -1 for none),
        ``n_touched`` int32 ``[R]``, ``max_weight`` ``[R]``.
    """
    n, ts, channels = len(tiles), tile_size, colors.shape[-1]
    color_blocks, final_blocks, last_blocks = [], [], []
    n_touched = torch.zeros(len(means2d), dtype=torch.int32, device=means2d.device)
    max_weight = torch.zeros_like(opacities.detach())
    for _, ty, tx, begin, end in tiles:
        pixels = tile_pixels(tx, ty, ts, means2d)  # [P, 2]
        if end <= begin:
            color_blocks.append(colors.new_zeros(ts * ts, channels))
            final_blocks.append(means2d.new_ones(ts * ts))
            last_blocks.append(torch.full((ts * ts,), -1, device=means2d.device))
            continue
        ids = flatten_ids[begin:end].to(torch.int64)
        delta = means2d[ids][None] - pixels[:, None]  # [P, G, 2]
        if probe is not None:
            delta = _AbsGradProbe.apply(delta, probe[ids])
        a, b, c = conics[ids].unbind(-1)
        dx, dy = delta.unbind(-1)
        sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
        weights, before, final = blend_weights(sigma, opacities[ids], t_stop)
        color_blocks.append(weights.to(colors.dtype) @ colors[ids])
        final_blocks.append(final)
        with torch.no_grad():
            inside = (pixels[:, 0] < width) & (pixels[:, 1] < height)
            blended = (weights > 0) & inside[:, None]
            slots = torch.arange(begin, end, device=ids.device)
            last_blocks.append(torch.where(blended, slots, -1).amax(dim=-1))
            touched = (blended & (before > 0.5)).sum(dim=0, dtype=torch.int32)
            n_touched.index_add_(0, ids, touched)
            peak = torch.where(blended, weights, torch.zeros_like(weights)).amax(dim=0)
            max_weight[ids] = torch.maximum(max_weight[ids], peak)
    stats = {"n_touched": n_touched, "max_weight": max_weight}
    if n == 0:
        stats["last_ids"] = flatten_ids.new_zeros((0, ts, ts), dtype=torch.int64)
        empty = colors.new_zeros(0, ts, ts, channels)
        return empty, means2d.new_ones(0, ts, ts), stats
    stats["last_ids"] = torch.stack(last_blocks).reshape(n, ts, ts)
    out = torch.stack(color_blocks).reshape(n, ts, ts, channels)
    # Ties the result to its inputs even when no entry contributes: gradients are then 0.
    tie = sum(x.flatten()[:0].sum() for x in (means2d, conics, opacities))
    out = out + colors.flatten()[:0].sum() + tie
    return out, torch.stack(final_blocks).reshape(n, ts, ts) + tie, stats


def tile_ranges(isect_offsets: Tensor, n_isects: int, masks: Tensor | None) -> list[tuple]:
    """(image, ty, tx, begin, end) of every tile; a masked tile gets an empty range."""
    n_images, th, tw = isect_offsets.shape
    bounds = isect_offsets.reshape(-1).tolist() + [n_isects]
    keep = [True] * (len(bounds) - 1) if masks is None else masks.reshape(-1).tolist()
    tiles = []
    for index in range(n_images * th * tw):
        image, rest = divmod(index, th * tw)
        end = bounds[index + 1] if keep[index] else bounds[index]
        tiles.append((image, rest // tw, rest % tw, bounds[index], end))
    return tiles


def untile(blocks: Tensor, n_images: int, th: int, tw: int, width: int, height: int) -> Tensor:
    """Tile blocks ``[I * th * tw, ts, ts, ...]`` to images ``[I, H, W, ...]``."""
    ts, tail = blocks.shape[1], blocks.shape[3:]
    grid = blocks.reshape(n_images, th, tw, ts, ts, *tail).transpose(2, 3)
    return grid.reshape(n_images, th * ts, tw * ts, *tail)[:, :height, :width]


def rasterize_to_pixels(
    means2d: Tensor,
    conics: Tensor,
    colors: Tensor,
    opacities: Tensor,
    *,
    isect_offsets: Tensor,
    flatten_ids: Tensor,
    backgrounds: Tensor | None,
    masks: Tensor | None,
    tile_ids: Tensor | None,
    **options,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Plain-torch twin of the native compositing, on flat rows.

    Args:
        means2d, conics, colors, opacities (Tensor): ``[R, 2]``, ``[R, 3]``, ``[R, D]``, ``[R]``.
        isect_offsets, flatten_ids (Tensor): ``[I, th, tw]`` and the lists.
        backgrounds, masks (Tensor, optional): ``[I, D]``, bool ``[I, th, tw]``.
        tile_ids (Tensor, optional): ``[n]``, composites only these tiles.
        **options: see :func:`composite_rows`.

    Returns:
        tuple: renders ``[I, H, W, D]``, alphas ``[I, H, W, 1]``, statistics with images
        ``last_ids`` ``[I, H, W]`` and per-row ``n_touched``, ``max_weight``. With ``tile_ids``
        blocks ``[n, ts, ts, ...]`` instead of images; pixels beyond the image are 0.
    """
    n_images, th, tw = isect_offsets.shape
    n_isects = int((flatten_ids >= 0).sum())  # lists of fixed capacity end in entries of -1
    tiles = tile_ranges(isect_offsets, n_isects, masks)
    if tile_ids is not None:
        tiles = [tiles[index] for index in tile_ids.tolist()]
    blocks, final, stats = composite_rows(
        means2d, conics, colors, opacities, tiles, flatten_ids=flatten_ids, **options
    )
    places = torch.tensor([tile[:3] for tile in tiles], dtype=torch.int64, device=final.device)
    image, ty, tx = places.reshape(-1, 3).T
    if backgrounds is not None:
        blocks = blocks + final.to(colors.dtype)[..., None] * backgrounds[image, None, None]
    alphas, last = 1.0 - final[..., None], stats["last_ids"]
    width, height, tile_size = (options[name] for name in ("width", "height", "tile_size"))
    if tile_ids is None:
        blocks, alphas, last = (
            untile(values, n_images, th, tw, width, height) for values in (blocks, alphas, last)
        )
    else:
        span = torch.arange(tile_size, device=final.device)
        x, y = tx[:, None] * tile_size + span, ty[:, None] * tile_size + span
        inside = (y[:, :, None] < height) & (x[:, None, :] < width)
        blocks, alphas = (torch.where(inside[..., None], v, 0.0) for v in (blocks, alphas))
        last = torch.where(inside, last, -1)
    return blocks, alphas, {**stats, "last_ids": last}
