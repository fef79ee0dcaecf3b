"""Fake kernels, autograd and autocast rules of the native projection."""

import torch
from torch import Tensor

from mmcity_ops import _backend as backend

OPS = torch.ops.mmcity
MODELS = {"pinhole": 0, "ortho": 1, "fisheye": 2}


def _fake_dense(
    means, covars, quats, scales, viewmats, Ks, opacities, width, height, eps2d, near_plane,
    far_plane, radius_clip, calc_compensations, camera_model,
):  # fmt: skip
    shape = (*means.shape[:-2], viewmats.shape[-3], means.shape[-2])
    return (
        means.new_empty((*shape, 2), dtype=torch.int32),
        means.new_empty((*shape, 2)),
        means.new_empty(shape),
        means.new_empty((*shape, 3)),
        means.new_empty(shape if calc_compensations else (0,)),
    )


def _fake_packed(
    means, covars, quats, scales, viewmats, Ks, opacities, width, height, eps2d, near_plane,
    far_plane, radius_clip, calc_compensations, camera_model,
):  # fmt: skip
    nnz = torch.library.get_ctx().new_dynamic_size()
    ids = [means.new_empty((nnz,), dtype=torch.int64) for _ in range(3)]
    images = viewmats.shape[:-2].numel()
    return (
        *ids,
        means.new_empty((images + 1,), dtype=torch.int64),
        means.new_empty((nnz, 2), dtype=torch.int32),
        means.new_empty((nnz, 2)),
        means.new_empty((nnz,)),
        means.new_empty((nnz, 3)),
        means.new_empty((nnz,) if calc_compensations else (0,)),
    )


def _fake_backward(
    means, covars, quats, scales, viewmats, Ks, radii, gaussian_ids, indptr, width, height,
    eps2d, camera_model, v_means2d, v_depths, v_conics, v_compensations, need_viewmats, per_row,
):  # fmt: skip
    rows = gaussian_ids.shape if per_row else means.shape[:-1]
    has_covars = covars is not None
    return (
        means.new_empty((*rows, 3)),
        means.new_empty((*rows, 3, 3) if has_covars else (0,)),
        means.new_empty((0,) if has_covars else (*rows, 4)),
        means.new_empty((0,) if has_covars else (*rows, 3)),
        means.new_empty(viewmats.shape if need_viewmats else (0,)),
    )


def _save(ctx, inputs, radii, gaussian_ids, indptr) -> None:
    means, covars, quats, scales, viewmats, Ks = inputs[:6]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(means, covars, quats, scales, viewmats, Ks, radii, gaussian_ids, indptr)
    ctx.settings = (inputs[7], inputs[8], inputs[9], inputs[14])  # width, height, eps2d, model
    ctx.has_compensations = inputs[13]


def _setup_dense(ctx, inputs, output) -> None:
    _save(ctx, inputs, output[0], None, None)
    ctx.mark_non_differentiable(output[0])


def _setup_packed(ctx, inputs, output) -> None:
    ids, indptr, radii = output[:3], output[3], output[4]
    _save(ctx, inputs, radii, ids[2], indptr)
    ctx.mark_non_differentiable(*ids, indptr, radii)


def _gradients(ctx, v_means2d, v_depths, v_conics, v_compensations) -> tuple:
    """Gradients in the order of the 15 inputs."""
    saved = ctx.saved_tensors
    means, covars, quats, scales, viewmats, Ks, radii, gaussian_ids, indptr = saved
    none = (None,) * 15
    needs = ctx.needs_input_grad
    if not any(needs[:5]) or all(v is None for v in (v_means2d, v_depths, v_conics)):
        if v_compensations is None or not any(needs[:5]):
            return none
    width, height, eps2d, model = ctx.settings
    if not ctx.has_compensations:
        v_compensations = None
    grads = OPS.project_bwd(
        means, covars, quats, scales, viewmats, Ks, radii, gaussian_ids, indptr, width, height,
        eps2d, model, v_means2d, v_depths, v_conics, v_compensations, needs[4], False,
    )  # fmt: skip
    picked = [grad if need else None for grad, need in zip(grads, needs[:5])]
    return (*picked, *none[5:])


def _backward_dense(ctx, v_radii, v_means2d, v_depths, v_conics, v_compensations) -> tuple:
    return _gradients(ctx, v_means2d, v_depths, v_conics, v_compensations)


def _backward_packed(ctx, *grads) -> tuple:
    return _gradients(ctx, *grads[5:])


@backend.on_native_load
def _register() -> None:
    library = torch.library
    library.register_fake("mmcity::project_fwd", _fake_dense)
    library.register_fake("mmcity::project_packed_fwd", _fake_packed)
    library.register_fake("mmcity::project_bwd", _fake_backward)
    library.register_autograd("mmcity::project_fwd", _backward_dense, setup_context=_setup_dense)
    library.register_autograd(
        "mmcity::project_packed_fwd", _backward_packed, setup_context=_setup_packed
    )
    backend.forbid_double_backward("mmcity::project_bwd")
    backend.cast_under_autocast("mmcity::project_fwd")
    backend.cast_under_autocast("mmcity::project_packed_fwd")


class SparsePacked(torch.autograd.Function):
    """Packed projection whose gradients of means, quats and scales are sparse COO tensors."""

    @staticmethod
    def forward(ctx, means, quats, scales, viewmats, Ks, opacities, settings):
        inputs = (means, None, quats, scales, viewmats, Ks, opacities, *settings)
        with torch.autocast(means.device.type, enabled=False):
            outputs = OPS.project_packed_fwd(*inputs)
        _save(ctx, inputs, outputs[4], outputs[2], outputs[3])
        ctx.batch_ids = outputs[0]
        ctx.mark_non_differentiable(*outputs[:5])
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads):
        saved = ctx.saved_tensors
        means, _, quats, scales, viewmats, Ks, radii, gaussian_ids, indptr = saved
        width, height, eps2d, model = ctx.settings
        v_means2d, v_depths, v_conics, v_compensations = grads[5:]
        needs = ctx.needs_input_grad
        rows = OPS.project_bwd(
            means, None, quats, scales, viewmats, Ks, radii, gaussian_ids, indptr, width, height,
            eps2d, model, v_means2d, v_depths, v_conics,
            v_compensations if ctx.has_compensations else None, needs[3], True,
        )  # fmt: skip
        batch = means.shape[:-2]
        index = gaussian_ids[None]
        if batch:
            index = torch.stack((*torch.unravel_index(ctx.batch_ids, batch), gaussian_ids))
        one_camera = viewmats.shape[-3] == 1

        def sparse(values: Tensor, like: Tensor) -> Tensor:
            return torch.sparse_coo_tensor(
                index, values, like.shape, is_coalesced=True if one_camera else None
            )

        return (
            sparse(rows[0], means) if needs[0] else None,
            sparse(rows[2], quats) if needs[1] else None,
            sparse(rows[3], scales) if needs[2] else None,
            rows[4] if needs[3] else None,
            None,
            None,
            None,
        )


def project(
    means, covars, quats, scales, viewmats, Ks, width, height, opacities, eps2d, near_plane,
    far_plane, radius_clip, packed, sparse_grad, calc_compensations, camera_model,
) -> tuple:  # fmt: skip
    """Checked arguments to the native operators."""
    settings = (
        width, height, float(eps2d), float(near_plane), float(far_plane), float(radius_clip),
        calc_compensations, MODELS[camera_model],
    )  # fmt: skip
    if opacities is not None:
        opacities = opacities.detach()
    Ks = Ks.detach()
    if not packed:
        outputs = OPS.project_fwd(means, covars, quats, scales, viewmats, Ks, opacities, *settings)
    elif sparse_grad:
        outputs = SparsePacked.apply(means, quats, scales, viewmats, Ks, opacities, settings)
        outputs = (*outputs[:3], outputs[3], *outputs[4:])
    else:
        outputs = OPS.project_packed_fwd(
            means, covars, quats, scales, viewmats, Ks, opacities, *settings
        )
    return outputs if calc_compensations else (*outputs[:-1], None)
