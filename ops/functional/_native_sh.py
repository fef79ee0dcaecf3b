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
    degree, *tensors, shift = inputs
    ctx.degree, ctx.shift = degree, shift
    ctx.save_for_backward(*tensors, output if shift else None)


def _backward(ctx, v_colors):
    *tensors, colors = ctx.saved_tensors
    needs = ctx.needs_input_grad
    grads = OPS.sh_bwd(
        ctx.degree, *tensors, shift=ctx.shift, colors=colors, v_colors=v_colors,
        need_means=needs[1], need_viewmats=needs[2],
    )  # fmt: skip
    return backend.needed_gradients(ctx, None, *grads)


backend.register_operator("sh", _fake, _fake_backward, _setup, _backward)
