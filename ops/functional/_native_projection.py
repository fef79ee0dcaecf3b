"""Fake kernels, autograd and autocast rules of the native projection."""

import torch
from torch import Tensor

from mmcity_ops import _backend as backend

OPS = torch.ops.mmcity
CAMERA_MODELS = ("pinhole", "ortho", "fisheye")  # in the order of their numbers
#: Arguments of the native projections behind the seven tensors, in their order.
SETTINGS = (
    "width", "height", "eps2d", "near_plane", "far_plane", "radius_clip", "calc_compensations",
    "camera_model",
)  # fmt: skip


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
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:6], radii, gaussian_ids, indptr)
    ctx.settings = dict(zip(SETTINGS, inputs[7:]))


def _setup_dense(ctx, inputs, output) -> None:
    _save(ctx, inputs, output[0], None, None)
    ctx.mark_non_differentiable(output[0])


def _setup_packed(ctx, inputs, output) -> None:
    ids, indptr, radii = output[:3], output[3], output[4]
    _save(ctx, inputs, radii, ids[2], indptr)
    ctx.mark_non_differentiable(*ids, indptr, radii)


def _gradients(ctx, v_outputs, need_viewmats: bool, per_row: bool = False) -> tuple:
    """Gradients of means, covars, quats, scales and viewmats from those of the last outputs."""
    v_means2d, v_depths, v_conics, v_compensations = v_outputs
    return OPS.project_bwd(
        *ctx.saved_tensors,
        **{name: ctx.settings[name] for name in ("width", "height", "eps2d", "camera_model")},
        v_means2d=v_means2d, v_depths=v_depths, v_conics=v_conics,
        v_compensations=v_compensations if ctx.settings["calc_compensations"] else None,
        need_viewmats=need_viewmats, per_row=per_row,
    )  # fmt: skip


def _backward(ctx, *v_outputs) -> tuple:
    """Gradients in the order of the 15 inputs."""
    needs, v_outputs = ctx.needs_input_grad[:5], v_outputs[-4:]
    if not any(needs) or all(v is None for v in v_outputs):
        return backend.needed_gradients(ctx)
    return backend.needed_gradients(ctx, *_gradients(ctx, v_outputs, needs[4]))


backend.register_operator("project", _fake_dense, _fake_backward, _setup_dense, _backward)


@backend.on_native_load
def _register_packed() -> None:
    library = torch.library
    library.register_fake("mmcity::project_packed_fwd", _fake_packed)
    library.register_autograd("mmcity::project_packed_fwd", _backward, setup_context=_setup_packed)
    backend.cast_under_autocast("mmcity::project_packed_fwd")


class SparsePacked(torch.autograd.Function):
    """Packed projection whose gradients of means, quats and scales are sparse COO tensors."""

    @staticmethod
    def forward(ctx, means, quats, scales, viewmats, Ks, opacities, settings):
        tensors = (means, None, quats, scales, viewmats, Ks, opacities)
        with torch.autocast(means.device.type, enabled=False):
            outputs = OPS.project_packed_fwd(*tensors, **settings)
        _save(ctx, (*tensors, *settings.values()), outputs[4], outputs[2], outputs[3])
        ctx.batch_ids = outputs[0]
        ctx.mark_non_differentiable(*outputs[:5])
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads):
        means, _, quats, scales, viewmats, _, _, gaussian_ids, _ = ctx.saved_tensors
        needs = ctx.needs_input_grad
        rows = _gradients(ctx, grads[5:], needs[3], per_row=True)
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
            *(None,) * 3,
        )


def project(tensors: tuple, packed: bool, sparse_grad: bool, **settings) -> tuple:
    """Checked arguments, the seven tensors and :data:`SETTINGS`, to the native operators."""
    settings = {name: settings[name] for name in SETTINGS}
    settings["camera_model"] = CAMERA_MODELS.index(settings["camera_model"])
    means, covars, quats, scales, viewmats, Ks, opacities = tensors
    Ks, opacities = Ks.detach(), None if opacities is None else opacities.detach()
    if sparse_grad:
        outputs = SparsePacked.apply(means, quats, scales, viewmats, Ks, opacities, settings)
    else:
        run = OPS.project_packed_fwd if packed else OPS.project_fwd
        outputs = run(*tensors[:5], Ks, opacities, **settings)
    return outputs if settings["calc_compensations"] else (*outputs[:-1], None)
