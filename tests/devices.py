"""The device of the suite: tensors and models that tests make lie on ``MMCITY_TEST_DEVICE``.

Only calls from files of tests are redirected. What the toolbox makes itself stays where the
toolbox puts it, so that a tensor on the wrong device is an error there. Values are drawn on the CPU
and moved: a test sees the same numbers on every device. What a test itself combines, compares or
turns into an array may lie on several devices.
"""

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import pytest

DEVICE = os.environ.get("MMCITY_TEST_DEVICE", "cpu")
TESTS = str(Path(__file__).resolve().parent) + os.sep
LIBRARIES = (
    *(f"{os.sep}{name}{os.sep}" for name in ("torch", "mmengine", "numpy", "_pytest")),
    __file__,
)


def on_the_cpu(reason: str) -> pytest.MarkDecorator:
    """Mark of tests that other devices cannot run, with the reason."""
    return pytest.mark.skipif(DEVICE != "cpu", reason=f"on the CPU alone: {reason}")


def need_devices(count: int) -> None:
    """Skip a test whose processes have no device each."""
    import torch

    if DEVICE != "cpu" and torch.cuda.device_count() < count:
        pytest.skip(f"needs {count} devices, one for each process")


def from_a_test(depth: int = 2) -> bool:
    """Whether the nearest caller outside of libraries is a file of tests."""
    frame = sys._getframe(depth)
    while frame is not None and any(part in frame.f_code.co_filename for part in LIBRARIES):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(TESTS)


def changes(function) -> bool:
    """Whether a function of tensors works in place."""
    name = function.__name__
    return name.startswith(("__set", "__i")) or name.endswith("_") and not name.endswith("__")


def own_modules(base: type) -> set[type]:
    """Classes of the toolbox below a class that have a constructor of their own."""
    below = {cls for direct in base.__subclasses__() for cls in {direct, *own_modules(direct)}}
    return {c for c in below if c.__module__.startswith("mmcity") and "__init__" in vars(c)}


@contextmanager
def on_the_suites_device() -> Iterator[None]:
    """Redirect what tests make within."""
    import torch
    from torch.nn.modules.module import register_module_forward_pre_hook
    from torch.overrides import TorchFunctionMode
    from torch.utils._device import _device_constructors
    from torch.utils._pytree import tree_leaves, tree_map_only

    constructors = _device_constructors()

    def moved(value):
        return value.detach().to(DEVICE).requires_grad_(value.requires_grad)

    in_place = ("normal_", "uniform_", "random_", "bernoulli_", "exponential_")
    drawing = {torch.rand_like, torch.randn_like, torch.randint_like}
    drawing |= {getattr(torch.Tensor, name) for name in in_place}
    drawing |= {f for name, f in vars(torch.nn.init).items() if name[0] != "_" == name[-1]}
    to_arrays = (torch.Tensor.numpy, torch.Tensor.__array__)

    def on_host(values):
        return tree_map_only(torch.Tensor, lambda x: x.detach().cpu(), values)

    class OfTests(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if not from_a_test():
                return func(*args, **kwargs)
            if func in constructors and kwargs.get("device") is None:
                made = func(*args, **kwargs)
                return moved(made) if made.device.type == "cpu" else made
            tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            places = {x.device.type for x in tensors if x.device.type != "meta"}
            if func in drawing and places - {"cpu"}:
                drawn = func(*on_host(args), **on_host(kwargs))
                return tensors[0].data.copy_(drawn) if changes(func) else moved(drawn)
            target = DEVICE if len(places) > 1 else None
            if target and changes(func):  # what is changed stays the same object
                target = args[0].device
            if func in to_arrays:
                args, kwargs = on_host(args), on_host(kwargs)
            elif target and func not in copies:
                args, kwargs = tree_map_only(torch.Tensor, lambda x: x.to(target), (args, kwargs))
            return func(*args, **kwargs)

    def compare(*args, **kwargs):
        return assert_close(*args, **{"check_device": not from_a_test(), **kwargs})

    assert_close, copies = (
        torch.testing.assert_close,
        (torch.Tensor.copy_, torch.Tensor.data.__set__),
    )

    def redirect(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            made = function(*args, **kwargs)
            return moved(made) if from_a_test() else made

        return call

    def built(init):
        @functools.wraps(init)
        def call(module, *args, **kwargs):
            init(module, *args, **kwargs)
            place(module)

        return call

    def place(module, *inputs):
        if from_a_test() and not any(x.is_meta for x in module.parameters()):
            module.to(DEVICE)

    with ExitStack() as stack:
        stack.callback(register_module_forward_pre_hook(place).remove)
        stack.enter_context(OfTests())
        stack.enter_context(mock.patch.object(torch.testing, "assert_close", compare))
        stack.enter_context(mock.patch.object(torch, "from_numpy", redirect(torch.from_numpy)))
        for module in own_modules(torch.nn.Module):
            stack.enter_context(mock.patch.object(module, "__init__", built(module.__init__)))
        yield
