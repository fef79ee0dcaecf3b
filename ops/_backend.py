"""Loading of libraries, choice of the backend, argument checks, rules for native operators.

Backends: a CUDA tensor goes to the CUDA library, a CPU tensor to the native CPU library, and to
the torch reference where there is no compiler (with one warning). ``MMCITY_OPS_BACKEND`` =
``auto | native | reference`` overrides: ``native`` turns the fallback into an error, and
``reference`` runs the torch reference on any device.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmcity_ops import _build, _build_cuda

BACKENDS = ("auto", "native", "reference")
FLOATS = (torch.float32, torch.float64)

_loaded: set[str] = set()
_load_hooks: list[Callable[[], None]] = []
_state: dict[str, Any] = {
    "warned": False,
    "no_compiler": "",
    "debug": os.environ.get("MMCITY_OPS_DEBUG", "0") not in ("", "0"),
}


def _load_library(kind: str, path: Path) -> None:
    """Load a built library into torch's dispatcher."""
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        raise _build.BuildError(
            f"{path}: expected a library, got {error}: delete its folder and try again"
        ) from error
    _loaded.add(kind)


def on_native_load(hook: Callable[[], None]) -> Callable[[], None]:
    """Decorator: run ``hook`` once the native operators exist (fake kernels, autograd rules)."""
    if "cpu" in _loaded:
        hook()
    else:
        _load_hooks.append(hook)
    return hook


def load_cpu_library() -> bool:
    """Build (once, cached) and load the CPU library, and register what python adds to it.

    Raises:
        BuildError: If it cannot be built; CompilerMissingError where there is no compiler.
    """
    if "cpu" not in _loaded:
        _load_library("cpu", _build.build_cpu())
        while _load_hooks:
            _load_hooks.pop(0)()
    return True


def load_cuda_library() -> bool:
    """Load the CUDA library, compiling it where nvcc is present.

    Raises:
        BuildError: Naming the missing build when there is neither a library nor nvcc.
    """
    if "cuda" not in _loaded:
        load_cpu_library()
        _load_library("cuda", _build_cuda.build_cuda())
    return True


def requested_backend() -> str:
    """Value of ``MMCITY_OPS_BACKEND``; ValueError for an unknown one."""
    name = os.environ.get("MMCITY_OPS_BACKEND", "auto") or "auto"
    if name not in BACKENDS:
        raise ValueError(f"MMCITY_OPS_BACKEND={name!r}: expected one of {', '.join(BACKENDS)}")
    return name


@torch.compiler.assume_constant_result
def _choose(device_type: str) -> bool:
    name = requested_backend()
    if name == "reference":
        return False
    if device_type == "cuda":
        return load_cuda_library()
    if device_type not in ("cpu", "meta"):
        raise RuntimeError(f"device: expected cpu or cuda, got '{device_type}'")
    if _state["no_compiler"] and name == "auto":
        return False
    try:
        return load_cpu_library()
    except _build.CompilerMissingError as error:
        if name == "native":
            raise
        _state["no_compiler"] = str(error)
        if not _state["warned"]:
            _state["warned"] = True
            warnings.warn(
                f"mmcity_ops runs its slow torch reference: {error}", RuntimeWarning, stacklevel=4
            )
        return False


def use_native(tensor: Tensor) -> bool:
    """Whether a call on this tensor goes to a native library (built and loaded on return).

    Raises:
        RuntimeError: If the tensor is on CUDA and the CUDA library is missing, or the backend
            is forced to ``native`` and cannot be built.
    """
    return _choose(tensor.device.type)


# ------------------------------------------------------------------ argument checks


def check_shape(name: str, tensor: Tensor, expected: Sequence[int | str | None]) -> None:
    """Raise ValueError unless the shape fits; a str or None in ``expected`` fits any size."""
    shape = tensor.shape
    if len(shape) != len(expected) or any(
        isinstance(want, int) and want != got for want, got in zip(expected, shape)
    ):
        wanted = ", ".join("*" if want is None else str(want) for want in expected)
        raise ValueError(f"{name}: expected shape [{wanted}], got {list(shape)}")


def check_last(name: str, tensor: Tensor, *last: int) -> None:
    """Raise ValueError unless the trailing sizes are ``last``."""
    if tuple(tensor.shape[-len(last) :]) != last:
        raise ValueError(
            f"{name}: expected shape [..., {', '.join(map(str, last))}], got {list(tensor.shape)}"
        )


def check_float(**tensors: Tensor | None) -> None:
    """Raise TypeError unless all given tensors are float32, or all are float64."""
    first: tuple[str, torch.dtype] | None = None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype not in FLOATS:
            raise TypeError(f"{name}: expected float32 or float64, got {tensor.dtype}")
        if first is None:
            first = (name, tensor.dtype)
        elif tensor.dtype != first[1]:
            raise TypeError(f"{name}: expected {first[1]} as of '{first[0]}', got {tensor.dtype}")


def check_dtype(name: str, tensor: Tensor, *dtypes: torch.dtype) -> None:
    """Raise TypeError unless the tensor has one of the types."""
    if tensor.dtype not in dtypes:
        wanted = " or ".join(str(dtype) for dtype in dtypes)
        raise TypeError(f"{name}: expected {wanted}, got {tensor.dtype}")


def check_device(**tensors: Tensor | None) -> None:
    """Raise RuntimeError unless all given tensors are on one device."""
    first: tuple[str, torch.device] | None = None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if first is None:
            first = (name, tensor.device)
        elif tensor.device != first[1]:
            raise RuntimeError(
                f"{name}: expected device {first[1]} as of '{first[0]}', got {tensor.device}"
            )


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")


def plain_numbers(values: Any) -> list[float]:
    """Python floats of a number, a sequence (also nested), an array or a tensor.

    Numbers and lists stay clear of tensors, which ``torch.compile`` could not read back.
    """
    if isinstance(values, int | float):
        return [float(values)]
    if isinstance(values, list | tuple):
        return [number for value in values for number in plain_numbers(value)]
    return torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist()


# ------------------------------------------------------------------ debug mode


def set_debug(enabled: bool) -> None:
    """Turn the checks of numbers and ids in inputs on or off (also ``MMCITY_OPS_DEBUG=1``)."""
    _state["debug"] = enabled


@contextlib.contextmanager
def debug_mode(enabled: bool = True) -> Iterator[None]:
    """Check inputs for NaN, infinity and ids out of range inside a ``with`` block."""
    before = _state["debug"]
    set_debug(enabled)
    try:
        yield
    finally:
        set_debug(before)


def check_finite(**tensors: Tensor | None) -> None:
    """In debug mode, raise ValueError that names the first non-finite element."""
    if not _state["debug"]:
        return
    for name, tensor in tensors.items():
        if tensor is None or not tensor.is_floating_point():
            continue
        bad = ~torch.isfinite(tensor.detach())
        if bool(bad.any()):
            index = tuple(bad.nonzero()[0].tolist())
            raise ValueError(
                f"{name}: expected finite, got {tensor[index].item()} at index {list(index)}"
            )


def check_refused(tensor: Tensor) -> None:
    """In debug mode, wait for a CUDA device and raise for ids that its kernels refused.

    CUDA kernels leave out ids out of range and report them; without debug mode the next operator
    that waits for the device raises, so that checking costs no wait of its own.
    """
    if _state["debug"] and tensor.is_cuda:
        torch.ops.mmcity.raise_refused_ids(tensor)


# ------------------------------------------------------------------ rules for native operators


def cast_under_autocast(op: str) -> None:
    """Under autocast, run a native operator on float32 copies of its half inputs."""
    for device in ("cpu", "cuda"):
        torch.library.register_autocast(op, device, torch.float32)


def float32_under_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for a torch reference: under autocast it sees float32 and runs in float32."""
    import functools

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        device = next((a.device.type for a in args if isinstance(a, Tensor)), "cpu")
        if not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        cast = [_to_float32(value) for value in args]
        cast_kw = {key: _to_float32(value) for key, value in kwargs.items()}
        with torch.autocast(device, enabled=False):
            return function(*cast, **cast_kw)

    return wrapped


def _to_float32(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    return value


def register_operator(
    name: str, fake: Callable, fake_backward: Callable, setup: Callable, backward: Callable
) -> None:
    """Once the library is there, register what torch asks of an operator with a gradient.

    Args:
        name: The operator is ``mmcity::{name}_fwd``, its gradient ``mmcity::{name}_bwd``.
        fake: Shapes of the results.
        fake_backward: Shapes of the gradients.
        setup: Saves what the gradient needs.
        backward: Calls the gradient.
    """
    forward, gradient = f"mmcity::{name}_fwd", f"mmcity::{name}_bwd"

    def register() -> None:
        torch.library.register_fake(forward, fake)
        torch.library.register_fake(gradient, fake_backward)
        torch.library.register_autograd(forward, backward, setup_context=setup)
        cast_under_autocast(forward)
        forbid_double_backward(gradient)

    on_native_load(register)


def needed_gradients(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the first inputs, as far as they are asked for; None for all others."""
    needs = ctx.needs_input_grad
    picked = [grad if need else None for grad, need in zip(grads, needs)]
    return (*picked, *(None,) * (len(needs) - len(picked)))


def shapes_of(first: int, last: int) -> Callable[..., tuple[Tensor, ...]]:
    """A fake of a gradient: empty tensors like the inputs ``first`` to ``last - 1``."""
    return lambda *inputs: tuple(x.new_empty(x.shape) for x in inputs[first:last])


def forbid_double_backward(op: str) -> None:
    """Make differentiating a ``*_bwd`` operator raise instead of giving silent zeros."""

    def raise_error(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(
            f"{op}: expected no double backward, got one: use MMCITY_OPS_BACKEND=reference, "
            "whose operations are differentiable any number of times"
        )

    torch.library.register_autograd(op, raise_error)
