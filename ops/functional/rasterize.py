"""Alpha compositing of projected Gaussians over tile lists."""

import torch
from torch import Tensor

from mmcity_ops.reference import rasterize as reference


def _attach_absgrad(means2d: Tensor, probe: Tensor) -> None:
    """Store the probe's gradient as ``means2d.absgrad`` once a backward has filled it."""
    shape = means2d.shape

    def store(leaf: Tensor) -> None:
        means2d.absgrad = leaf.grad.reshape(shape)

    probe.register_post_accumulate_grad_hook(store)


def rasterize_to_pixels(
    means2d: Tensor,
    conics: Tensor,
    colors: Tensor,
    opacities: Tensor,
    width: int,
    height: int,
    tile_size: int,
    isect_offsets: Tensor,
    flatten_ids: Tensor,
    backgrounds: Tensor | None = None,
    masks: Tensor | None = None,
    packed: bool = False,
    absgrad: bool = False,
    stats: dict | None = None,
) -> tuple[Tensor, Tensor]:
    """Blend the Gaussians of each tile's list front to back.

    For a pixel centre p and entry i with offset d = mean - p: sigma = (A dx^2 + C dy^2) / 2
    + B dx dy, alpha = min(0.99, o exp(-sigma)), skipped if sigma < 0 or alpha < 1/255; the
    pixel ends before the entry that would take its transmittance to 1e-4 or below.

    Args:
        means2d (Tensor): ``[..., N, 2]`` pixels; packed ``[nnz, 2]``.
        conics (Tensor): ``[..., N, 3]`` inverse 2D covariances (A, B, C); packed ``[nnz, 3]``.
        colors (Tensor): ``[..., N, D]`` with any D; packed ``[nnz, D]``.
        opacities (Tensor): ``[..., N]``; packed ``[nnz]``.
        width, height (int): image size in pixels.
        tile_size (int): tile edge in pixels.
        isect_offsets (Tensor): int64 or int32 ``[..., th, tw]`` of :func:`isect_offset_encode`.
        flatten_ids (Tensor): ``[n_isects]`` of :func:`isect_tiles`.
        backgrounds (Tensor, optional): ``[..., D]``, differentiable. Defaults to None (0).
        masks (Tensor, optional): bool ``[..., th, tw]``; a False tile shows the background.
        packed (bool): rows are packed over images. Defaults to False.
        absgrad (bool): the backward also sets ``means2d.absgrad``, the sum over pixels of the
            absolute gradient. Defaults to False.
        stats (dict, optional): filled with ``last_ids`` int64 ``[..., H, W]`` (position in
            ``flatten_ids`` of the last contributor, -1 for none), ``n_touched`` int32 and
            ``max_weight`` in the shape of ``opacities`` (pixels met with transmittance above
            0.5; largest blending weight).

    Returns:
        tuple: renders ``[..., H, W, D]`` and alphas ``[..., H, W, 1]``.

    Raises:
        ValueError: a shape does not fit; the message names argument, expected and received.
    """
    lead = isect_offsets.shape[:-2]
    th, tw = isect_offsets.shape[-2:]
    channels = colors.shape[-1]
    if tw * tile_size < width or th * tile_size < height:
        raise ValueError(
            f"isect_offsets [..., {th}, {tw}] with tile_size {tile_size} does not cover an image"
            f" of {width} x {height}"
        )
    probe = None
    if absgrad and means2d.requires_grad:
        probe = torch.zeros_like(means2d.detach()).reshape(-1, 2).requires_grad_()
        _attach_absgrad(means2d, probe)
    renders, alphas, info = reference.rasterize_to_pixels(
        means2d.reshape(-1, 2),
        conics.reshape(-1, 3),
        colors.reshape(-1, channels),
        opacities.reshape(-1),
        width,
        height,
        tile_size,
        isect_offsets.reshape(-1, th, tw),
        flatten_ids,
        None if backgrounds is None else backgrounds.reshape(-1, channels),
        None if masks is None else masks.reshape(-1, th, tw),
        probe,
    )
    if stats is not None:
        stats["last_ids"] = info["last_ids"].reshape(*lead, height, width)
        stats["n_touched"] = info["n_touched"].reshape(opacities.shape)
        stats["max_weight"] = info["max_weight"].reshape(opacities.shape)
    return (
        renders.reshape(*lead, height, width, channels),
        alphas.reshape(*lead, height, width, 1),
    )
