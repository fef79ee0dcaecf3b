"""Fake kernels, autograd and autocast rules of the native spherical harmonics."""

import torch

from mmcity_ops import _backend as backend

OPS = torch.ops.mmcity


def _fake(degree, means, viewmats, base, rest, masks, camera_ids, gaussian_ids, shift):
    if gaussian_ids is not None:
        return means.new_empty((gaussian_ids.shape[0], base.shape[-1]))
    rows = (*means.shape[:-2], viewmats.shape[-3], means.shape[-2])
    return means.new_empty((*rows, base.shape[-1]))


def _fake_backward(
    degree, means, viewmats, base, rest, masks, camera_ids, gaussian_ids, shift, colors,
    v_colors, need_means, need_viewmats,
):  # fmt: skip
    return (
        means.new_empty(means.shape if need_means else (0,)),
        means.new_empty(viewmats.shape if need_viewmats else (0,)),
        means.new_empty(base.shape),
        means.new_empty((0,) if rest is None else rest.shape),
    )


def _setup(ctx, inputs, output) -> None:
    degree, means, viewmats, base, rest, masks, camera_ids, gaussian_ids, shift = inputs
    ctx.settings = (degree, shift)
    ctx.save_for_backward(
        means, viewmats, base, rest, masks, camera_ids, gaussian_ids, output if shift else None
    )


def _backward(ctx, v_colors):
    means, viewmats, base, rest, masks, camera_ids, gaussian_ids, colors = ctx.saved_tensors
    degree, shift = ctx.settings
    needs = ctx.needs_input_grad
    g_means, g_view, g_base, g_rest = OPS.sh_bwd(
        degree, means, viewmats, base, rest, masks, camera_ids, gaussian_ids, shift, colors,
        v_colors, needs[1], needs[2],
    )  # fmt: skip
    return (
        None,
        g_means if needs[1] else None,
        g_view if needs[2] else None,
        g_base if needs[3] else None,
        g_rest if needs[4] else None,
        None,
        None,
        None,
        None,
    )


@backend.on_native_load
def _register() -> None:
    torch.library.register_fake("mmcity::sh_fwd", _fake)
    torch.library.register_fake("mmcity::sh_bwd", _fake_backward)
    torch.library.register_autograd("mmcity::sh_fwd", _backward, setup_context=_setup)
    backend.forbid_double_backward("mmcity::sh_bwd")
    backend.cast_under_autocast("mmcity::sh_fwd")


def spherical_harmonics(degree, means, viewmats, coeffs, masks, camera_ids, gaussian_ids, shift):
    """Checked arguments to the native operator; ``shift`` gives ``max(SH + 0.5, 0)``."""
    base, rest = (coeffs, None) if isinstance(coeffs, torch.Tensor) else coeffs
    return OPS.sh_fwd(degree, means, viewmats, base, rest, masks, camera_ids, gaussian_ids, shift)
