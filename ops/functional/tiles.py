"""Rendering a share of an image's tiles, as one rank of several does."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmcity_ops import _backend as backend
from mmcity_ops.functional.intersection import tile_lists
from mmcity_ops.functional.rasterize import check_rows, composite


@dataclass(frozen=True)
class TilePartition:
    """The tiles that one rank renders.

    Attributes:
        mask (Tensor): bool ``[C, th, tw]``, True where the tile is this rank's.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        if self.mask.dim() != 3 or self.mask.dtype != torch.bool:
            raise ValueError(
                f"mask: expected bool [C, th, tw], got {self.mask.dtype} {list(self.mask.shape)}"
            )

    @classmethod
    def from_ranges(
        cls, ranges: Sequence[tuple[int, int]], n_images: int, tile_width: int, tile_height: int
    ) -> "TilePartition":
        """Half-open ranges of the sequence of all tiles (image by image, in raster order)."""
        count = n_images * tile_height * tile_width
        mask = torch.zeros(count, dtype=torch.bool)
        for begin, end in ranges:
            if not 0 <= begin <= end <= count:
                raise ValueError(f"ranges: expected within [0, {count}], got ({begin}, {end})")
            mask[begin:end] = True
        return cls(mask.reshape(n_images, tile_height, tile_width))

    @classmethod
    def split(cls, costs: Tensor, n_parts: int) -> list["TilePartition"]:
        """Contiguous segments of the raster-ordered tile sequence of nearly equal cost.

        Args:
            costs (Tensor): ``[C, th, tw]`` cost of each tile, at least 0: list lengths, or
                measured times averaged over iterations.
            n_parts (int): number of ranks.

        Returns:
            list[TilePartition]: ``n_parts`` disjoint shares that cover every tile. A share
            exceeds the mean cost by at most one tile's cost.
        """
        if n_parts < 1:
            raise ValueError(f"n_parts: expected at least 1, got {n_parts}")
        if costs.dim() != 3 or bool((costs < 0).any()):
            raise ValueError(f"costs: expected [C, th, tw] of at least 0, got {list(costs.shape)}")
        flat = costs.reshape(-1).to(torch.float64)
        if not float(flat.sum()) > 0:
            flat = torch.ones_like(flat)
        # A tile belongs to the share in which the middle of its cost falls.
        middle = flat.cumsum(0) - 0.5 * flat
        owner = (middle * (n_parts / flat.sum())).floor().clamp(0, n_parts - 1)
        owner = owner.reshape(costs.shape)
        return [cls(owner == part) for part in range(n_parts)]

    @property
    def tile_ids(self) -> Tensor:
        """int64 ``[n]``, ascending: image * tiles + ty * tw + tx."""
        return self.mask.reshape(-1).nonzero()[:, 0]

    def pixel_mask(self, width: int, height: int, tile_size: int) -> Tensor:
        """bool ``[C, H, W]`` of this rank's pixels."""
        pixels = self.mask.repeat_interleave(tile_size, 1).repeat_interleave(tile_size, 2)
        return pixels[:, :height, :width]


def tile_costs(isect_offsets: Tensor, n_isects: int) -> Tensor:
    """List length of each tile ``[C, th, tw]``, the usual estimate of its cost."""
    flat = torch.cat([isect_offsets.reshape(-1), isect_offsets.new_tensor([n_isects])])
    return flat.diff().reshape(isect_offsets.shape)


def blocks_to_images(
    blocks: Tensor, tile_ids: Tensor, n_images: int, width: int, height: int
) -> Tensor:
    """Place tile blocks ``[n, ts, ts, D]`` in images ``[n_images, H, W, D]``, 0 elsewhere."""
    backend.check_device(blocks=blocks, tile_ids=tile_ids)
    ts, channels = blocks.shape[1], blocks.shape[3]
    th, tw = -(-height // ts), -(-width // ts)
    canvas = blocks.new_zeros(n_images * th * tw, ts, ts, channels).index_copy(0, tile_ids, blocks)
    canvas = canvas.reshape(n_images, th, tw, ts, ts, channels).transpose(2, 3)
    return canvas.reshape(n_images, th * ts, tw * ts, channels)[:, :height, :width]


def rasterize_tiles(
    means2d: Tensor,
    conics: Tensor,
    colors: Tensor,
    opacities: Tensor,
    depths: Tensor,
    radii: Tensor,
    width: int,
    height: int,
    tile_size: int,
    partition: TilePartition,
    *,
    extras: Tensor | None = None,
    image_ids: Tensor | None = None,
    backgrounds: Tensor | None = None,
    layout: str = "blocks",
    tile_bounds: str = "ellipse",
    absgrad: bool = False,
) -> tuple[Tensor, Tensor, dict]:
    """Composite a share of the tiles from projected rows; lists are built for them alone.

    The sum over the ranks of a partition equals the whole image, and so do the gradients.

    Args:
        means2d, conics, colors, opacities (Tensor): rows as in :func:`rasterize_to_pixels`,
            dense ``[C, N, ...]`` or packed ``[nnz, ...]`` with ``image_ids``.
        depths (Tensor): ``[C, N]`` or ``[nnz]``, the sort key.
        radii (Tensor): int32 ``[C, N, 2]`` or ``[nnz, 2]``.
        width, height, tile_size (int): in pixels.
        partition (TilePartition): the tiles to render.
        extras (Tensor, optional): further channels ``[..., E]`` (depth, plane features) behind
            the colours, with background 0. Defaults to None.
        image_ids (Tensor, optional): int64 ``[nnz]`` image of each packed row.
        backgrounds (Tensor, optional): ``[C, D]`` behind the colours. Defaults to None (0).
        layout (str): ``blocks`` (memory in proportion to the share) or ``dense`` (whole images,
            0 in the tiles of others). Defaults to ``blocks``.
        tile_bounds (str): ``ellipse`` or ``aabb``. Defaults to ``ellipse``.
        absgrad (bool): as in :func:`rasterize_to_pixels`. Defaults to False.

    Returns:
        tuple: renders ``[n_tiles, ts, ts, D + E]`` or ``[C, H, W, D + E]``, alphas likewise with
        one channel (0 outside the image and in tiles of others), and a dict with ``tile_ids``,
        ``pixel_mask`` (bool ``[n_tiles, ts, ts]`` or ``[C, H, W]``: rendered pixels),
        ``tiles_per_gauss``, ``flatten_ids``, ``isect_ids`` and ``isect_offsets``.

    Raises:
        ValueError: a shape or choice does not fit.
    """
    backend.check_choice("layout", layout, ("blocks", "dense"))
    backend.check_choice("tile_bounds", tile_bounds, ("ellipse", "aabb"))
    n_images, th, tw = partition.mask.shape
    if (th, tw) != (-(-height // tile_size), -(-width // tile_size)):
        raise ValueError(
            f"partition.mask: expected [C, {-(-height // tile_size)}, {-(-width // tile_size)}] "
            f"for {width} x {height} and tile_size {tile_size}, got {list(partition.mask.shape)}"
        )
    check_rows(means2d, conics, colors, opacities)
    backend.check_device(
        means2d=means2d, conics=conics, colors=colors, opacities=opacities, depths=depths,
        radii=radii, extras=extras, image_ids=image_ids, backgrounds=backgrounds,
    )  # fmt: skip
    if backgrounds is not None:
        backend.check_shape("backgrounds", backgrounds, (n_images, colors.shape[-1]))
    if extras is not None:
        backend.check_shape("extras", extras, (*means2d.shape[:-1], "E"))
        colors = torch.cat([colors, extras.to(colors.dtype)], dim=-1)
        if backgrounds is not None:
            backgrounds = torch.nn.functional.pad(backgrounds, (0, extras.shape[-1]))
    own = partition.mask.to(means2d.device)
    ellipse = tile_bounds == "ellipse"
    lists = tile_lists(
        means2d, radii, depths, tile_size, tw, th, conics=conics if ellipse else None,
        opacities=opacities if ellipse else None, image_ids=image_ids, n_images=n_images, masks=own,
    )  # fmt: skip
    tile_ids = own.reshape(-1).nonzero()[:, 0]
    blocks, alphas, _ = composite(
        means2d, conics, colors, opacities, width=width, height=height, tile_size=tile_size,
        isect_offsets=lists.isect_offsets, flatten_ids=lists.flatten_ids, backgrounds=backgrounds,
        tile_ids=tile_ids, absgrad=absgrad,
    )  # fmt: skip
    pixel_mask = TilePartition(own).pixel_mask(width, height, tile_size)
    if layout == "dense":
        blocks = blocks_to_images(blocks, tile_ids, n_images, width, height)
        alphas = blocks_to_images(alphas, tile_ids, n_images, width, height)
    else:
        span = torch.arange(tile_size, device=own.device)
        ty = tile_ids % (th * tw) // tw
        tx = tile_ids % tw
        inside_y = ty[:, None] * tile_size + span < height
        inside_x = tx[:, None] * tile_size + span < width
        pixel_mask = inside_y[:, :, None] & inside_x[:, None, :]
    meta = {
        "tile_ids": tile_ids,
        "pixel_mask": pixel_mask,
        "tiles_per_gauss": lists.tiles_per_gauss,
        "flatten_ids": lists.flatten_ids,
        "isect_ids": lists.isect_ids,
        "isect_offsets": lists.isect_offsets,
    }
    return blocks, alphas, meta
