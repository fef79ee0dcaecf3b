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

DEVICE = os.environ.get("MMCITY_TEST_DEVICE", "cpu")
TESTS = str(Path(__file__).resolve().parent) + os.sep
LIBRARIES = (*(f"{os.sep}{name}{os.sep}" for name in ("torch", "mmengine", "numpy")), __file__)


def from_a_test(depth: int = 2) -> bool:
    """Whether the nearest caller outside of libraries is a file of tests."""
    frame = sys._getframe(depth)
    while frame is not None and any(part in frame.f_code.co_filename for part in LIBRARIES):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(TESTS)


@contextmanager
def on_the_suites_device() -> Iterator[None]:
    """Redirect what tests make within."""
    import torch
    from mmengine.registry import Registry
    from torch.nn.modules.module import register_module_forward_pre_hook
    from torch.overrides import TorchFunctionMode
    from torch.utils._device import _device_constructors
    from torch.utils._pytree import tree_leaves, tree_map_only

    constructors = _device_constructors()

    def moved(value):
        if isinstance(value, torch.nn.Module):
            return value.to(DEVICE)
        if not isinstance(value, torch.Tensor):
            return value
        return value.detach().to(DEVICE).requires_grad_(value.requires_grad)

    to_arrays = (torch.Tensor.numpy, torch.Tensor.__array__)

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
            target = "cpu" if func in to_arrays else DEVICE if len(places) > 1 else None
            if target and func not in copies:
                args, kwargs = tree_map_only(
                    torch.Tensor, lambda x: x.detach().cpu() if target == "cpu" else x.to(target),
                    (args, kwargs),
                )  # fmt: skip
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

    def place(module, inputs):
        if from_a_test():
            module.to(DEVICE)

    with ExitStack() as stack:
        stack.callback(register_module_forward_pre_hook(place).remove)
        stack.enter_context(OfTests())
        stack.enter_context(mock.patch.object(torch.testing, "assert_close", compare))
        for owner, name in ((torch, "from_numpy"), (Registry, "build")):
            patch = mock.patch.object(owner, name, redirect(getattr(owner, name)))
            stack.enter_context(patch)
        yield
