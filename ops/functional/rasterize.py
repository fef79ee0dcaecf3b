"""Alpha compositing of projected Gaussians over tile lists."""

import math

import torch
from torch import Tensor

from mmcity_ops import _backend as backend
from mmcity_ops.reference import rasterize as reference

T_STOP_FLOAT32 = 9.999999747378752e-05  # the float32 next to 1e-4
KERNEL_TILE = 16  # edge of the squares of pixels that the kernels work on


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
    semantics: str = "default",
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
        semantics (str): ``inria`` blends the entry that takes the transmittance to 1e-4 exactly
            and ends the pixel only below. Defaults to "default".

    Returns:
        tuple: renders ``[..., H, W, D]`` and alphas ``[..., H, W, 1]``.

    Raises:
        ValueError: a shape does not fit; the message names argument, expected and received.
    """
    lead = isect_offsets.shape[:-2]
    th, tw = isect_offsets.shape[-2:]
    channels = colors.shape[-1]
    backend.check_choice("semantics", semantics, ("default", "inria"))
    check_rows(means2d, conics, colors, opacities)
    check_tiling(isect_offsets, flatten_ids, width, height, tile_size)
    if backgrounds is not None:
        backend.check_shape("backgrounds", backgrounds, (*lead, channels))
    if masks is not None:
        backend.check_shape("masks", masks, (*lead, th, tw))
        backend.check_dtype("masks", masks, torch.bool)
    if not packed and math.prod(means2d.shape[:-2]) != math.prod(lead):
        raise ValueError(
            f"means2d: expected shape {[*lead, 'N', 2]} as of isect_offsets"
            f" {list(isect_offsets.shape)}, got {list(means2d.shape)}; packed rows need packed=True"
        )
    backend.check_device(
        means2d=means2d, conics=conics, colors=colors, opacities=opacities,
        isect_offsets=isect_offsets, flatten_ids=flatten_ids, backgrounds=backgrounds, masks=masks,
    )  # fmt: skip
    backend.check_finite(
        means2d=means2d, conics=conics, colors=colors, opacities=opacities, backgrounds=backgrounds
    )
    renders, alphas, info = composite(
        means2d, conics, colors, opacities, width=width, height=height, tile_size=tile_size,
        isect_offsets=isect_offsets.reshape(-1, th, tw), flatten_ids=flatten_ids,
        backgrounds=None if backgrounds is None else backgrounds.reshape(-1, channels),
        masks=None if masks is None else masks.reshape(-1, th, tw), absgrad=absgrad,
        stats=stats is not None, t_stop=stop_level(semantics, means2d.dtype),
    )  # fmt: skip
    if stats is not None:
        stats["last_ids"] = info["last_ids"].reshape(*lead, height, width)
        stats["n_touched"] = info["n_touched"].reshape(opacities.shape)
        stats["max_weight"] = info["max_weight"].reshape(opacities.shape)
    return (
        renders.reshape(*lead, height, width, channels),
        alphas.reshape(*lead, height, width, 1),
    )


def stop_level(semantics: str, dtype: torch.dtype) -> float:
    """Transmittance at which a pixel ends: T <= 1e-4, or T < 1e-4 as T <= the number before it."""
    if semantics == "default":
        return reference.T_STOP
    if dtype == torch.float64:
        return math.nextafter(reference.T_STOP, 0.0)
    return T_STOP_FLOAT32 - 2.0**-37  # one unit in the last place


def check_rows(means2d: Tensor, conics: Tensor, colors: Tensor, opacities: Tensor) -> None:
    """Raise ValueError or TypeError unless the rows of one call fit together."""
    rows = tuple(means2d.shape[:-1])
    backend.check_last("means2d", means2d, 2)
    backend.check_shape("conics", conics, (*rows, 3))
    backend.check_shape("colors", colors, (*rows, "D"))
    backend.check_shape("opacities", opacities, rows)
    if colors.shape[-1] == 0:
        raise ValueError(f"colors: expected at least one channel, got {list(colors.shape)}")
    backend.check_float(means2d=means2d, conics=conics, opacities=opacities)
    if colors.dtype not in (means2d.dtype, torch.bfloat16, torch.float16):
        raise TypeError(f"colors: expected {means2d.dtype} as of 'means2d', got {colors.dtype}")


def check_tiling(
    isect_offsets: Tensor, flatten_ids: Tensor, width: int, height: int, tile_size: int
) -> None:
    """Raise ValueError or TypeError unless the lists' tiles cover the image."""
    th, tw = isect_offsets.shape[-2:]
    if tw != -(-width // tile_size) or th != -(-height // tile_size):
        raise ValueError(
            f"isect_offsets: expected shape [..., {-(-height // tile_size)}, "
            f"{-(-width // tile_size)}] for an image of {width} x {height} and tile_size "
            f"{tile_size}, got {list(isect_offsets.shape)}"
        )
    backend.check_shape("flatten_ids", flatten_ids, ("n_isects",))
    backend.check_dtype("flatten_ids", flatten_ids, torch.int32, torch.int64)
    backend.check_dtype("isect_offsets", isect_offsets, torch.int32, torch.int64)


def composite(
    means2d: Tensor,
    conics: Tensor,
    colors: Tensor,
    opacities: Tensor,
    *,
    width: int,
    height: int,
    tile_size: int,
    isect_offsets: Tensor,
    flatten_ids: Tensor,
    backgrounds: Tensor | None,
    masks: Tensor | None = None,
    tile_ids: Tensor | None = None,
    absgrad: bool = False,
    stats: bool = False,
    t_stop: float = reference.T_STOP,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Composite checked inputs: whole images ``[I, H, W, ...]``, or with ``tile_ids`` int64
    ``[n]`` (image * tiles + tile) blocks ``[n, ts, ts, ...]``; rows of any leading shape.
    """
    probe = None
    if absgrad and means2d.requires_grad:
        probe = torch.zeros_like(means2d.detach()).reshape(-1, 2).requires_grad_()
        _attach_absgrad(means2d, probe)
    rows = (
        means2d.reshape(-1, 2),
        conics.reshape(-1, 3),
        colors.reshape(-1, colors.shape[-1]).to(means2d.dtype),
        opacities.reshape(-1),
    )
    if backgrounds is not None:
        backgrounds = backgrounds.to(means2d.dtype)
    isect_offsets = isect_offsets.to(torch.int64)
    tiling = dict(
        width=width, height=height, tile_size=tile_size, isect_offsets=isect_offsets,
        flatten_ids=flatten_ids, backgrounds=backgrounds, masks=masks, tile_ids=tile_ids,
        probe=probe, t_stop=t_stop,
    )  # fmt: skip
    if not backend.use_native(means2d):
        return _reference(*rows, **tiling)
    renders, alphas, _, last, _, touched, peak = torch.ops.mmcity.rasterize_fwd(
        *rows, **tiling, stats=stats
    )
    backend.check_refused(means2d)
    info: dict[str, Tensor] = {}
    if stats:
        first = _list_starts(isect_offsets, tile_ids, width, height, tile_size)
        info["last_ids"] = torch.where(last >= 0, last + first, -1)
        info["n_touched"], info["max_weight"] = touched, peak
    return renders, alphas, info


_reference = backend.float32_under_autocast(reference.rasterize_to_pixels)


def _list_starts(
    isect_offsets: Tensor, tile_ids: Tensor | None, width: int, height: int, tile_size: int
) -> Tensor:
    """Start of the list of each pixel's tile."""
    if tile_ids is not None:
        return isect_offsets.reshape(-1)[tile_ids][:, None, None]
    rows = torch.arange(height, device=isect_offsets.device) // tile_size
    columns = torch.arange(width, device=isect_offsets.device) // tile_size
    return isect_offsets[:, rows[:, None], columns[None, :]]


def _fake(
    means2d, conics, colors, opacities, backgrounds, probe, masks, isect_offsets, flatten_ids,
    tile_ids, width, height, tile_size, stats, t_stop,
):  # fmt: skip
    pixels = (
        (isect_offsets.shape[0], height, width)
        if tile_ids is None
        else (tile_ids.shape[0], tile_size, tile_size)
    )
    subs = (-(-tile_size // KERNEL_TILE)) ** 2
    rows = means2d.shape[0] if stats else 0
    return (
        colors.new_empty((*pixels, colors.shape[1])),
        means2d.new_empty((*pixels, 1)),
        means2d.new_empty(pixels),
        means2d.new_empty(pixels, dtype=torch.int32),
        means2d.new_empty((flatten_ids.shape[0] * subs,), dtype=torch.int16),
        means2d.new_empty((rows,), dtype=torch.int32),
        means2d.new_empty((rows,)),
    )


def _fake_backward(
    v_renders, v_alphas, means2d, conics, colors, opacities, backgrounds, masks,
    isect_offsets, flatten_ids, tile_ids, final_t, last, hits, width, height, tile_size,
    geometry, features, absolute,
):  # fmt: skip
    def wanted(want, like):
        return like.new_empty(like.shape if want else (0,))

    return (
        wanted(geometry, means2d),
        wanted(geometry, conics),
        wanted(features, colors),
        wanted(geometry, opacities),
        wanted(absolute, means2d),
        means2d.new_empty((0,)) if backgrounds is None else torch.empty_like(backgrounds),
    )


def _setup(ctx, inputs, output):
    ctx.mark_non_differentiable(*output[2:])
    # All but the probe, then the transmittances, last entries and hits.
    ctx.save_for_backward(*inputs[:5], *inputs[6:10], *output[2:5])
    ctx.size = inputs[10:13]
    ctx.set_materialize_grads(False)


def _backward(ctx, v_renders, v_alphas, *_):
    _, _, colors, *_, final_t, _, _ = ctx.saved_tensors
    needs = ctx.needs_input_grad
    geometry, absolute = needs[0] or needs[1] or needs[3], needs[5]
    if v_renders is None:
        v_renders = final_t.new_zeros((*final_t.shape, colors.shape[1]))
    if v_alphas is None:
        v_alphas = final_t.new_zeros((*final_t.shape, 1))
    *v_rows, v_abs, v_backgrounds = torch.ops.mmcity.rasterize_bwd(
        v_renders, v_alphas, *ctx.saved_tensors, *ctx.size, geometry=geometry,
        features=needs[2], absolute=absolute,
    )  # fmt: skip
    return backend.needed_gradients(ctx, *v_rows, v_backgrounds, v_abs)


backend.register_operator("rasterize", _fake, _fake_backward, _setup, _backward)
