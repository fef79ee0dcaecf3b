"""Losses that make rendered planes agree with depth, priors and other views.

Functions named ``*_sums`` give a sum and the number of its entries, so that processes which
share a view can add up before they divide. Both stay on the device, and sums are over all pixels
with zeros where there is nothing: picking pixels would make the host wait.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mmcity.structures.multi_view import homographies, pixel_rays, reproject, sample_map

MIN_VARIANCE = 1e-8
MAX_NCC = 0.9  # patches that differ more are occluded or wrong


def image_gradient(image: Tensor) -> Tensor:
    """Strength of the edges of a photograph, scaled to [0, 1]; 1 on the border.

    Args:
        image: ``(3, H, W)`` in [0, 1].

    Returns:
        ``(H, W)``.
    """
    horizontal = (image[:, 1:-1, 2:] - image[:, 1:-1, :-2]).abs().mean(0)
    vertical = (image[:, :-2, 1:-1] - image[:, 2:, 1:-1]).abs().mean(0)
    inner = torch.maximum(horizontal, vertical)
    low, high = inner.min(), inner.max()
    inner = (inner - low) / (high - low).clamp_min(torch.finfo(inner.dtype).tiny)
    return torch.nn.functional.pad(inner, (1, 1, 1, 1), value=1.0)


def normals_from_depth(depth: Tensor, K: Tensor, pixel_offset: float = 0.5) -> Tensor:
    """Normals of a depth map from central differences; 0 on the border.

    Args:
        depth: ``(H, W)`` z-depth.
        K: ``(3, 3)``.
        pixel_offset: Centre of the first pixel. Defaults to 0.5.

    Returns:
        ``(3, H, W)`` unit vectors in camera axes, towards the camera.
    """
    height, width = depth.shape
    points = pixel_rays(K, width, height, pixel_offset) * depth[..., None]  # (H, W, 3)
    right = points[1:-1, 2:] - points[1:-1, :-2]
    up = points[:-2, 1:-1] - points[2:, 1:-1]
    normals = torch.nn.functional.normalize(torch.cross(right, up, dim=-1), dim=-1)
    return torch.nn.functional.pad(normals.permute(2, 0, 1), (1, 1, 1, 1))


def inverse_depth_sums(
    depth: Tensor, prior: Tensor, usable: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Absolute differences of inverse depths where there is a prior.

    Args:
        depth: ``(H, W)`` rendered z-depth.
        prior: ``(H, W)`` inverse depth, 0 where there is none.
        usable: ``(H, W)`` bool, pixels with a rendered depth. Defaults to None: all.

    Returns:
        Their sum and their number.
    """
    valid = prior > 0
    if usable is not None:
        valid = valid & usable
    # Dividing everywhere is cheaper than picking pixels; a 1 keeps the others finite.
    inverse = 1 / torch.where(valid, depth, 1.0)
    difference = torch.where(valid, (inverse - prior).abs(), 0.0)
    return difference.sum(), valid.sum()


def ncc(reference: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """One minus the squared normalised correlation of grey patches.

    Args:
        reference: ``(P, S)`` grey values of P patches.
        other: ``(P, S)``.

    Returns:
        Values ``(P,)`` in [0, 2] and whether they are below 0.9.
    """
    size = reference.shape[1]
    sum_r, sum_o = reference.sum(1), other.sum(1)
    # Sums over the patch, not means: the guard in the quotient refers to them.
    cross = (reference * other).sum(1) - sum_r * sum_o / size
    var_r = reference.square().sum(1) - sum_r.square() / size
    var_o = other.square().sum(1) - sum_o.square() / size
    value = (1 - cross * cross / (var_r * var_o + MIN_VARIANCE)).clamp(0, 2)
    return value, value < MAX_NCC


def patch_offsets(half: int, device: torch.device | None = None) -> Tensor:
    """``((2 half + 1)^2, 2)`` pixel offsets (x, y), row by row."""
    steps = torch.arange(-half, half + 1, device=device, dtype=torch.float32)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def multi_view_sums(
    depth: Tensor,
    normals: Tensor,
    distances: Tensor,
    K: Tensor,
    viewmat: Tensor,
    grey: Tensor,
    other_depth: Tensor,
    other_K: Tensor,
    other_viewmat: Tensor,
    other_grey: Tensor,
    *,
    half: int = 3,
    max_error: float = 1.0,
    max_samples: int = 102_400,
    use_occlusion: bool = True,
    usable: Tensor | None = None,
    generator: torch.Generator | None = None,
    pixel_offset: float = 0.5,
    first_row: int = 0,
    total_of: Callable[[Tensor], Tensor] | None = None,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Agreement with another view (PGSR, Chen et al. 2024), as sums and numbers of pixels.

    The maps of the reference view may be a strip of its rows; sums over all strips are then
    those of the whole view.

    Args:
        depth: ``(h, W)`` rendered plane depth.
        normals: ``(3, h, W)`` composited, camera axes.
        distances: ``(h, W)`` composited plane distances.
        K: ``(3, 3)`` of the whole picture.
        viewmat: ``(4, 4)`` world to camera.
        grey: ``(H, W)`` photograph, whole.
        other_depth: ``(H2, W2)`` of the other view, without gradient.
        other_K: ``(3, 3)``.
        other_viewmat: ``(4, 4)``.
        other_grey: ``(H2, W2)``.
        half: Half edge of a patch, px. Defaults to 3.
        max_error: px; pixels that come back farther away are left out. Defaults to 1.0.
        max_samples: Expected number of patches of a view with more pixels that qualify; each
            of these is then drawn with the same probability. Defaults to 102400.
        use_occlusion: False: the reprojection error neither excludes nor weighs pixels.
        usable: ``(h, W)`` bool, pixels with a depth. Defaults to None: all.
        generator: Source of randomness, best of the maps' device; equal on all processes that
            share a view.
        pixel_offset: Centre of the first pixel. Defaults to 0.5.
        first_row: Row of the picture that the strip begins with. Defaults to 0.
        total_of: Sums a number over the processes that share the view. Defaults to None: one.

    Returns:
        Sum of weight times error in px and number of pixels; sum of weighted patch
        differences and number of patches.
    """
    width = depth.shape[1]
    if usable is not None:
        # Zeros would divide by zero on the way back, and spoil gradients of other pixels.
        depth = torch.where(usable, depth, 1.0)
    there = reproject(
        depth,
        rows_K(K, first_row),
        viewmat,
        other_depth,
        other_K,
        other_viewmat,
        pixel_offset=pixel_offset,
    )
    error, valid = there["error"], there["valid"]
    if usable is not None:
        valid = valid & usable
    near = valid & (error < max_error)
    near_error = torch.where(near, error, 0.0)
    geometric = (torch.exp(-near_error.detach()) * near_error).sum(), near.sum()
    kept = near if use_occlusion else valid
    if grey.numel() > max_samples:
        total = kept.sum() if total_of is None else total_of(kept.sum())
        # A draw per pixel of the whole picture does not depend on how it is cut into strips.
        source = depth.device if generator is None else generator.device
        draws = torch.rand(grey.shape, generator=generator, device=source).to(depth.device)
        kept = kept & (draws[first_row : first_row + len(depth)] < max_samples / total)
    rows = kept.reshape(-1).nonzero()[:, 0]
    if not len(rows):
        return geometric, (depth.sum() * 0, near.sum() * 0)
    weight = torch.ones(len(rows), device=depth.device, dtype=depth.dtype)
    if use_occlusion:
        weight = torch.exp(-error.detach().reshape(-1)[rows])
    maps = homographies(
        normals.reshape(3, -1).T[rows],
        distances.reshape(-1)[rows],
        K,
        viewmat,
        other_K,
        other_viewmat,
    )
    lines = torch.div(rows, width, rounding_mode="floor") + first_row
    pixels = torch.stack([rows % width, lines], -1)
    patches = (pixels + pixel_offset)[:, None] + patch_offsets(half, depth.device).to(depth)
    flat = torch.cat([patches, torch.ones_like(patches[..., :1])], -1)  # (P, S, 3)
    warped = flat @ maps.transpose(1, 2)
    warped = warped[..., :2] / (warped[..., 2:] + 1e-10)
    ours = sample_map(grey[None], patches, pixel_offset, "zeros")[0]
    theirs = sample_map(other_grey[None], warped, pixel_offset, "zeros")[0]
    value, similar = ncc(ours, theirs)
    return geometric, (torch.where(similar, weight * value, 0.0).sum(), similar.sum())


def rows_K(K: Tensor, first_row: int) -> Tensor:
    """Intrinsics ``(3, 3)`` of a picture's rows from ``first_row`` on."""
    if not first_row:
        return K
    K = K.clone()
    K[1, 2] -= first_row
    return K
