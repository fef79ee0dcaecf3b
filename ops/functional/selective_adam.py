"""Adam that touches only the rows that a view has seen."""

import torch
from torch import Tensor

from mmcity_ops import _backend as backend
from mmcity_ops.reference import selective_adam as reference


def selective_adam(
    params: Tensor,  # [N, ...]
    grads: Tensor,  # [N, ...]
    m: Tensor,  # [N, ...]
    v: Tensor,  # [N, ...]
    visible: Tensor,  # [N]
    lr: float,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-15,
    step: int = 1,
) -> None:
    """Adam with bias correction on visible rows, in place; other rows keep their moments.

    Args:
        params: Parameter [N, ...], contiguous; changed in place.
        grads: Its gradient, same shape.
        m: First moment, same shape, contiguous; changed in place.
        v: Second moment, same shape, contiguous; changed in place.
        visible: Bool [N], rows to update.
        lr: Learning rate.
        b1: Decay of the first moment. Defaults to 0.9.
        b2: Decay of the second moment. Defaults to 0.999.
        eps: Added to the root of the second moment. Defaults to 1e-15.
        step: Number of this update, from 1. Defaults to 1.

    Raises:
        ValueError: If a shape does not fit, or step is below 1.
        TypeError: If a dtype does not fit.
        RuntimeError: If the tensors are on different devices.
    """
    for name, tensor in (("grads", grads), ("m", m), ("v", v)):
        backend.check_shape(name, tensor, tuple(params.shape))
    backend.check_shape("visible", visible, tuple(params.shape[:1]))
    backend.check_dtype("visible", visible, torch.bool)
    backend.check_float(params=params, grads=grads, m=m, v=v)
    backend.check_device(params=params, grads=grads, m=m, v=v, visible=visible)
    if step < 1:
        raise ValueError(f"step: expected 1 or more, got {step}")
    with torch.no_grad():
        native = backend.use_native(params)
        update = torch.ops.mmcity.selective_adam_ if native else reference.selective_adam
        update(params, grads, m, v, visible, lr=lr, b1=b1, b2=b2, eps=eps, step=step)


@backend.on_native_load
def _register() -> None:
    torch.library.register_fake(
        "mmcity::selective_adam_", lambda param, grad, m, v, visible, lr, b1, b2, eps, step: None
    )
