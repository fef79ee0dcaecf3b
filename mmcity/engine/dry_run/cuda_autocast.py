"""Autocast on CPU tensors with the operators that it takes to float32 on CUDA."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

__all__ = ["cuda_autocast"]

_HALF = (torch.float16, torch.bfloat16)
#: Autocast of CUDA runs these in the lower precision, or in the widest of their arguments.
_NOT_FLOAT32 = {
    "addbmm", "addcdiv", "addcmul", "addmv", "addr", "atan2", "baddbmm", "bilinear",
    "binary_cross_entropy", "chain_matmul", "conv_tbc", "cross", "dot", "einsum", "gru_cell",
    "index_put", "linalg_multi_dot", "linalg_vecdot", "lstm_cell", "mv", "prelu", "rnn_relu_cell",
    "rnn_tanh_cell", "scatter_add", "tensordot", "vdot", "_convolution", "convolution",
    "cudnn_convolution", "cudnn_convolution_transpose",
    "_scaled_dot_product_flash_attention", "_thnn_fused_gru_cell", "_thnn_fused_lstm_cell",
}  # fmt: skip
#: These take half precision and give float32, without a copy of what they read.
_FLOAT32_RESULT = {"cumprod", "cumsum", "linalg_matrix_norm", "linalg_vector_norm", "log_softmax"}
_FLOAT32_RESULT |= {"prod", "softmax", "sum"}


def _registered(key: str) -> set[str]:
    return set(torch._C._dispatch_get_registrations_for_dispatch_key(key))


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in _HALF else value


def _in_float32(operator: Any, sets_dtype: bool) -> Any:
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(autocast):
            if not sets_dtype:
                args, kwargs = tree_map(_widened, (args, kwargs))
            elif args[0].dtype in _HALF and kwargs.get("dtype") is None:
                kwargs = {**kwargs, "dtype": torch.float32}
            return operator(*args, **kwargs)

    return run


@contextlib.contextmanager
def cuda_autocast() -> Iterator[None]:
    """Within it, autocast of the CPU keeps as much in float32 as that of CUDA.

    Memory depends on it: layer norms and softmax of a network in half precision give float32.
    """
    library = torch.library.Library("aten", "IMPL", "AutocastCPU")
    try:
        for name in sorted(_registered("AutocastCUDA") - _registered("AutocastCPU")):
            base, _, overload = name.removeprefix("aten::").partition(".")
            if name.startswith("aten::") and base not in _NOT_FLOAT32:
                operator = getattr(getattr(torch.ops.aten, base), overload or "default")
                library.impl(
                    operator, _in_float32(operator, base in _FLOAT32_RESULT), "AutocastCPU"
                )
        yield
    finally:
        library._destroy()
