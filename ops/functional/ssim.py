"""Fused SSIM: window moments, map and gradients in one pass over the images."""

from typing import Any

import torch
from torch import Tensor

from mmcity_ops import _backend
from mmcity_ops.reference import ssim as reference

CROP = reference.WINDOW_SIZE // 2  # pixels that "valid" drops at each side


def fused_ssim(
    img1: Tensor,
    img2: Tensor,
    padding: str = "same",
    train: bool = True,
    return_map: bool = False,
    mask: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Structural similarity with an 11-tap Gaussian window (sigma 1.5) and zero padding.

    Differentiable with respect to both images. Constants are those of a value range of 1
    (Wang et al., "Image quality assessment", 2004).

    Args:
        img1: Images, values in [0, 1], [B, C, H, W].
        img2: Images to compare with, [B, C, H, W].
        padding: "same" averages over all pixels, "valid" leaves out the outer 5 pixels, whose
            window reaches beyond the image. Defaults to "same".
        train: Keep what the backward needs when an input requires a gradient. Defaults to True.
        return_map: Also return the map. Defaults to False.
        mask: Weights of the pixels (bool or float, not differentiated), [B, 1 or C, H, W]. The
            mean is weighted by it and the map multiplied by it; the windows still see all pixels.
            Defaults to None.

    Returns:
        Mean SSIM, a scalar; 0 where the mask selects nothing. With ``return_map`` also the map
        [B, C, H, W], or [B, C, H - 10, W - 10] for "valid".

    Raises:
        ValueError: For shapes that do not fit, an unknown padding, or an image smaller than
            11 pixels with "valid".
        TypeError: Unless both images are float32 or both float64.
    """
    _check(img1, img2, padding, mask)
    if _backend.use_native(img1):
        needs = train and torch.is_grad_enabled()
        n_partials = 0
        if needs and img2.requires_grad:
            n_partials = 4
        elif needs and img1.requires_grad:
            n_partials = 3
        centers = torch.stack([reference.plane_means(img1), reference.plane_means(img2)])
        ssim_map = torch.ops.mmcity.fused_ssim_fwd(img1, img2, centers, n_partials)[0]
    else:
        with torch.set_grad_enabled(train and torch.is_grad_enabled()):
            ssim_map = _reference_map(img1, img2)
    if padding == "valid":
        ssim_map = ssim_map[:, :, CROP:-CROP, CROP:-CROP]
    if mask is None:
        mean = ssim_map.mean() if ssim_map.numel() else ssim_map.sum()
    else:
        weights = mask.to(ssim_map.dtype).expand(*img1.shape)
        if padding == "valid":
            weights = weights[:, :, CROP:-CROP, CROP:-CROP]
        ssim_map = ssim_map * weights
        total = weights.sum()
        mean = ssim_map.sum() / torch.where(total > 0, total, torch.ones_like(total))
    return (mean, ssim_map) if return_map else mean


_reference_map = _backend.float32_under_autocast(reference.ssim_map)


def _check(img1: Tensor, img2: Tensor, padding: str, mask: Tensor | None) -> None:
    _backend.check_choice("padding", padding, ("same", "valid"))
    _backend.check_shape("img1", img1, ("B", "C", "H", "W"))
    _backend.check_shape("img2", img2, tuple(img1.shape))
    _backend.check_device(img1=img1, img2=img2, mask=mask)
    if not torch.is_autocast_enabled(img1.device.type):
        _backend.check_float(img1=img1, img2=img2)
    height, width = img1.shape[2:]
    if padding == "valid" and min(height, width) < reference.WINDOW_SIZE:
        raise ValueError(
            f"img1: expected at least {reference.WINDOW_SIZE} pixels per side for "
            f"padding='valid', got {height} x {width}"
        )
    if mask is not None:
        batch, channels = img1.shape[:2]
        if mask.dim() != 4 or mask.shape[0] != batch or mask.shape[1] not in (1, channels):
            expected = f"[{batch}, 1 or {channels}, {height}, {width}]"
            raise ValueError(f"mask: expected shape {expected}, got {list(mask.shape)}")
        _backend.check_shape("mask", mask, (None, None, height, width))
    _backend.check_finite(img1=img1, img2=img2)


def _fake(img1: Tensor, img2: Tensor, centers: Tensor, n_partials: int) -> tuple[Tensor, Tensor]:
    return img1.new_empty(img1.shape), img1.new_empty((n_partials, *img1.shape))


def _fake_backward(
    v_map: Tensor, img1: Tensor, img2: Tensor, centers: Tensor, partials: Tensor
) -> tuple[Tensor, Tensor]:
    both = partials.shape[0] == 4
    return img1.new_empty(img1.shape), img2.new_empty(img2.shape if both else 0)


def _setup(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    img1, img2, centers, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(img1, img2, centers, output[1])


def _backward(ctx: Any, v_map: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    img1, img2, centers, partials = ctx.saved_tensors
    if ctx.needs_input_grad[1] and partials.shape[0] != 4 or partials.shape[0] == 0:
        raise RuntimeError("train: expected True in fused_ssim for backward, got False")
    grads = torch.ops.mmcity.fused_ssim_bwd(v_map, img1, img2, centers, partials)
    return _backend.needed_gradients(ctx, *grads)


_backend.register_operator("fused_ssim", _fake, _fake_backward, _setup, _backward)
