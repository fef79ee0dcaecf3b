"""Running a model for its memory alone: large tensors get shapes, but neither pages nor values."""

import math
import mmap
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._library import fake_impl, simple_registry
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.flop_counter import flop_registry

__all__ = ["BLOCK", "DryMode", "MemoryMeter", "rounded"]

#: Bytes in which CUDA's caching allocator of torch hands out memory.
BLOCK = 512
#: Entries of the lists of tiles that a Gaussian in the picture causes, about, with 16 px tiles.
TILES_PER_GAUSSIAN = 4
#: Labels and indices are looked up by, so they keep their values up to this many times the size.
_INTEGER_SHARE = 256
#: Of Linux; the module mmap knows it from Python 3.13 on.
_MAP_NORESERVE = 0x4000

aten = torch.ops.aten
#: Looks for gradients that are not finite, with which no step is taken.
_SKIPPED = {aten._amp_foreach_non_finite_check_and_unscale_.default}


def rounded(n_bytes: int) -> int:
    """Bytes that an allocator hands out for ``n_bytes``."""
    return -(-n_bytes // BLOCK) * BLOCK


class MemoryMeter(TorchDispatchMode):
    """Counts the bytes of all tensors that are made in it, as an allocator would.

    Args:
        device: Type of the device whose tensors count. Defaults to ``cpu``.

    Attributes:
        live: Bytes in use.
        peak: Most bytes in use since the last :meth:`reset_peak`.
        at_peak: Bytes of gradients of parameters at that time, see :meth:`watch_gradients`.
        traffic: Bytes that operators read and wrote, since then too.
        flops: Floating point operations of matrix products, convolutions and attention.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.device = device
        self.live = self.peak = self.at_peak = self.traffic = self.flops = 0
        self._gradients = 0
        self._known: dict[int, int] = {}

    def reset_peak(self) -> None:
        """Begin to look for the peak anew."""
        self.peak, self.at_peak, self.traffic, self.flops = self.live, self._gradients, 0, 0

    def watch_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Tell the gradients of leaf tensors apart from other memory."""
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._found_gradient)

    def _found_gradient(self, parameter: Tensor) -> None:
        storage = parameter.grad.untyped_storage()
        if not getattr(storage, "is_gradient", False):
            storage.is_gradient = True
            self._gradients += rounded(storage.nbytes())
            weakref.finalize(storage, self._lost_gradient, rounded(storage.nbytes()))

    def _lost_gradient(self, n_bytes: int) -> None:
        self._gradients -= n_bytes

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if tensor.device.type == self.device and key not in self._known and storage.nbytes():
            self._known[key] = rounded(storage.nbytes())
            self.live += self._known[key]
            weakref.finalize(storage, self._forget, key)
            if self.live > self.peak:
                self.peak, self.at_peak = self.live, self._gradients

    def _forget(self, key: int) -> None:
        self.live -= self._known.pop(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = None if func in _SKIPPED else self.run(func, args, kwargs)
        if not func.is_view:
            tensors = [t for t in tree_flatten(result)[0] if isinstance(t, Tensor)]
            for tensor in tensors:
                self._count(tensor)
            read = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
            self.traffic += sum(t.nbytes for t in (*read, *tensors))
            if func.overloadpacket in flop_registry:
                self.flops += flop_registry[func.overloadpacket](*args, **kwargs, out_val=result)
        return result

    def run(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """Run an operator."""
        return func(*args, **kwargs)


class DryMode(MemoryMeter):
    """Runs operators on large CPU tensors by their shapes; small ones are computed.

    A dry run of a model that fits nowhere needs hardly any memory: what is large lies in pages
    that nobody touches. Values of small tensors are true as long as they do not follow from
    large ones.

    Args:
        above: Size in bytes from which a tensor is large. Defaults to 1 MiB.
        kept: Entries that a mask of so many entries keeps, where the values are not known.
            Defaults to all.
    """

    def __init__(self, above: int = 1 << 20, kept: Mapping[int, int] | None = None) -> None:
        super().__init__()
        self.above, self.kept = above, dict(kept or {})

    def is_large(self, tensor: Tensor) -> bool:
        """Whether values of a tensor are left out."""
        share = 1 if tensor.is_floating_point() else _INTEGER_SHARE
        return tensor.nbytes > share * self.above

    def run(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """Run an operator, or tell only what it would make."""
        if func.is_view or func in _NO_COPIES:
            return func(*args, **kwargs)
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        if func is aten.nonzero.default and (self.is_large(args[0]) or self._is_guessed(args[0])):
            return torch.zeros(self._rows(args[0]), args[0].dim(), dtype=torch.long)
        if any(self.is_large(t) for t in tensors):
            return self._run_dry(func, args, kwargs)
        if func.namespace == "mmcity" or (not tensors and "device" in kwargs):
            return self._run_dry(func, args, kwargs, may_be_small=True)
        return func(*args, **kwargs)

    def _run_dry(self, func: Any, args: tuple, kwargs: dict, may_be_small: bool = False) -> Any:
        if func is aten._local_scalar_dense.default:
            return func(*args)
        if func is aten.index.Tensor:
            args = (args[0], self._without_masks(args[1]))
        schema = func._schema
        if schema.is_mutable and all(r.alias_info is not None for r in schema.returns):
            return self._outputs(func, args, kwargs, (None,) * len(schema.returns))
        flat, spec = tree_flatten((args, kwargs))
        twins: dict[int, Tensor] = {}
        for i, value in enumerate(flat):
            if isinstance(value, Tensor):
                flat[i] = twins.setdefault(id(value), _twin(value))
            elif isinstance(value, torch.device):
                flat[i] = torch.device("meta")
            elif isinstance(value, torch.Generator):
                flat[i] = None
        meta_args, meta_kwargs = tree_unflatten(flat, spec)
        with torch._C._DisableTorchDispatch(), self._sized(func, args, kwargs):
            made = _shapes_of(func)(*meta_args, **meta_kwargs)
        if may_be_small:
            results = [t for t in tree_flatten(made)[0] if isinstance(t, Tensor)]
            if not any(self.is_large(t) for t in results):
                return func(*args, **kwargs)
        return self._outputs(func, args, kwargs, made)

    def _is_guessed(self, mask: Tensor) -> bool:
        """Whether a mask is one of a scene that is too large to be computed."""
        return mask.numel() in self.kept and 4 * mask.numel() > self.above

    def _may_be_filled(self, tensor: Tensor) -> bool:
        is_value = tensor.is_floating_point() or tensor.dtype == torch.bool
        return is_value and not self.is_large(tensor)

    def _rows(self, mask: Tensor) -> int:
        """Entries that a mask keeps."""
        if self.is_large(mask) or self._is_guessed(mask):
            return self.kept.get(mask.numel(), mask.numel())
        return int(mask.count_nonzero())

    def _without_masks(self, indices: list) -> list:
        """Indices of what masks keep, at most, instead of the masks."""
        found = []
        for index in indices:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                rows = index.new_zeros(self._rows(index), dtype=torch.long)
                found += [rows] * index.dim()
            else:
                found.append(index)
        return found

    def _sized(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """Size of what operators of Gaussians find, where values decide it."""
        named = dict(zip((a.name for a in func._schema.arguments), args), **kwargs)
        count = 0
        if "isect_tiles" in func._schema.name:
            rows = math.prod(named["radii"].shape[:-1])
            count = self.kept.get(rows, rows) * TILES_PER_GAUSSIAN
        elif "project_packed" in func._schema.name:
            rows, cameras = named["means"].shape[-2], named["viewmats"].shape[-3]
            count = self.kept.get(rows, rows) * cameras
        return fake_impl.set_ctx_getter(lambda: _Found(count))

    def _outputs(self, func: Any, args: tuple, kwargs: dict, made: Any) -> Any:
        schema = func._schema
        named = dict(zip((a.name for a in schema.arguments), args), **kwargs)
        changed = {
            name: named.get(a.name)
            for a in schema.arguments
            if a.alias_info is not None and a.alias_info.is_write
            for name in a.alias_info.before_set
        }

        if len(schema.returns) == 1:
            value = made[0] if isinstance(made, tuple) else made
            return self._real(schema.returns[0], value, changed)
        if not schema.returns:
            return None
        return tuple(self._real(*pair, changed) for pair in zip(schema.returns, made))

    def _real(self, spec: Any, value: Any, changed: dict[str, Any]) -> Any:
        """Output of an operator on the CPU; the argument itself where it was changed."""
        if spec.alias_info is not None:
            for name in spec.alias_info.before_set:
                if name in changed:
                    return changed[name]
        if isinstance(value, (list, tuple)):
            return type(value)(self._real(spec, v, changed) for v in value)
        if isinstance(value, Tensor) and value.is_meta:
            result = _untouched(value.shape, value.stride(), value.dtype)
            # Depths are above 0, all is finite, and masks keep all.
            return result.fill_(1) if self._may_be_filled(result) else result
        return value


class _Found:
    """Tells fake kernels how much there is of what they cannot know."""

    def __init__(self, count: int) -> None:
        self.count = count

    def new_dynamic_size(self, **_: Any) -> int:
        """The number."""
        return self.count


def _shapes_of(func: Any) -> Any:
    """Function that gives the outputs of an operator for arguments on the meta device."""
    if func.namespace != "mmcity":
        return func
    return simple_registry.singleton.find(func._schema.name).fake_impl.kernel or func


#: Operators that make no copy although their schema does not say so.
_NO_COPIES = {aten._unsafe_view.default, aten.lift_fresh.default, aten.set_.source_Storage}


def _twin(tensor: Tensor) -> Tensor:
    """A tensor of the same shape without values."""
    twin = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return twin.requires_grad_(False)


def _untouched(shape: tuple, strides: tuple | None, dtype: torch.dtype) -> Tensor:
    """A CPU tensor whose pages are reserved, all zero, and not in memory before they are used."""
    if strides is None:
        strides = torch.empty(shape, device="meta").stride()
    extent = 1 + sum((n - 1) * s for n, s in zip(shape, strides)) if math.prod(shape) else 0
    n_bytes = extent * dtype.itemsize
    if n_bytes < mmap.PAGESIZE:
        flat = torch.zeros(extent, dtype=dtype)
    else:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        flat = torch.frombuffer(mmap.mmap(-1, n_bytes, flags=flags), dtype=dtype)
    return torch.as_strided(flat, shape, strides)
