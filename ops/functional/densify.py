"""Screen-space statistics that decide where to add Gaussians."""

from typing import Any

import torch
from torch import Tensor

from mmcity_ops import _backend as backend


def accumulate_densify_stats(state: dict[str, Tensor], meta: dict[str, Any]) -> dict[str, Tensor]:
    """Add one render's statistics to ``state``, after the backward pass.

    Works on dense and packed metas of :func:`mmcity_ops.rasterization` without batch
    dimensions; all cameras of the render are added. Gradients are scaled from pixels to
    normalized device coordinates by (W / 2, H / 2); scale the thresholds or the loss by the
    number of cameras where that is averaged.

    Args:
        state: Tensors [N]: ``grad2d_norm``, ``count``, ``max_radius``, and ``absgrad_norm``
            where the meta has absolute gradients. Missing ones are made (an empty dict needs
            ``meta["n_gaussians"]`` or a dense meta); changed in place.
        meta: Of a render whose ``means2d`` retained its gradient.

    Returns:
        ``state``.

    Raises:
        ValueError: If ``means2d`` has no gradient, or the number of Gaussians is unknown.
    """
    means2d: Tensor = meta["means2d"]
    if means2d.grad is None:
        raise ValueError(
            "meta['means2d'].grad: expected a gradient, got None; call retain_grad() on it "
            "before backward()"
        )
    ids = meta.get("gaussian_ids")
    radii = meta["radii"].detach()
    backend.check_device(means2d=means2d, radii=radii, gaussian_ids=ids, **state)
    width, height = meta["width"], meta["height"]
    gradients = {"grad2d_norm": means2d.grad}
    if getattr(means2d, "absgrad", None) is not None:
        gradients["absgrad_norm"] = means2d.absgrad
    if ids is None:
        n_gaussians = means2d.shape[-2]
    elif "count" in state:
        n_gaussians = state["count"].shape[0]
    elif "n_gaussians" in meta:
        n_gaussians = meta["n_gaussians"]
    else:
        raise ValueError("state: expected tensors [N] for a packed meta, got none")
    with torch.no_grad():
        unit = means2d.new_full((2,), width / 2)
        unit[1:].fill_(height / 2)  # a tensor of both would make the host wait
        visible = radii.reshape(-1, 2)[:, 0] > 0
        relative = radii.reshape(-1, 2).amax(-1).to(means2d.dtype) / max(width, height)
        for name in (*gradients, "count", "max_radius"):
            if name not in state:
                state[name] = means2d.new_zeros(n_gaussians)
        rows = {name: (grad.reshape(-1, 2) * unit).norm(dim=-1) for name, grad in gradients.items()}
        rows["count"] = visible.to(means2d.dtype)
        if ids is None:
            for name, value in rows.items():
                state[name] += value.reshape(-1, n_gaussians).sum(0)
            largest = relative.reshape(-1, n_gaussians).amax(0)
            torch.maximum(state["max_radius"], largest, out=state["max_radius"])
        else:
            for name, value in rows.items():
                state[name].index_add_(0, ids, value)
            state["max_radius"].scatter_reduce_(0, ids, relative, "amax")
    return state
