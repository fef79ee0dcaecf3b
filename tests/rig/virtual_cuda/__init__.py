"""A virtual CUDA device for a torch without CUDA: for tests only. See ../README.md.

``import virtual_cuda`` before torch; then ``torch.cuda.is_available()`` holds.
"""

import contextlib
import ctypes
import importlib.util
import os
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

if "torch" in sys.modules:
    raise RuntimeError("import virtual_cuda before torch, which asks for devices when imported")

from virtual_cuda import build

VARIANT = build.Variant.from_environment()
_library, _operators = build.build_device()
# torch does this itself, but we come first and its libraries want those of MKL
for _name in sorted((build.torch_folder() / "lib").glob("libtorch_global_deps.so")):
    ctypes.CDLL(str(_name), mode=ctypes.RTLD_GLOBAL)
lib = ctypes.CDLL(str(_library), mode=ctypes.RTLD_GLOBAL)
lib.vc_read_operators(str(_operators).encode())
lib.vc_waits.restype = lib.vc_launches.restype = ctypes.c_int64

import torch  # noqa: E402

_Listener = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int)
_Launched = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
GIB = 1 << 30


# ------------------------------------------------------------------ torch.cuda
def _index(device=None) -> int:
    if device is None:
        return lib.vc_current_device()
    if isinstance(device, int):
        return device if device >= 0 else lib.vc_current_device()
    device = torch.device(device)
    if device.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {device}")
    return lib.vc_current_device() if device.index is None else device.index


def _set_device(device) -> None:
    index = _index(device)
    if index >= lib.vc_device_count():
        raise torch.AcceleratorError("CUDA error: invalid device ordinal", 101)
    lib.vc_set_device(index)


def _exchange(index: int) -> int:
    old = lib.vc_current_device()
    if index >= 0:
        _set_device(index)
    return old


def memory(device=None) -> SimpleNamespace:
    """Bytes in use and at the peak, number of allocations and bytes of all of them."""
    out = (ctypes.c_int64 * 4)()
    lib.vc_memory(_index(device), out)
    return SimpleNamespace(current=out[0], peak=out[1], allocations=out[2], total=out[3])


def reset_peak(device=None) -> None:
    """The peak starts again at what is in use now."""
    lib.vc_reset_peak(_index(device))


def _stats(device=None) -> dict:
    now = memory(device)
    each = dict(
        current=now.current, peak=now.peak, allocated=now.total, freed=now.total - now.current
    )
    kinds = {"all": each, "small_pool": dict.fromkeys(each, 0), "large_pool": each}
    names = (
        "allocated_bytes",
        "reserved_bytes",
        "active_bytes",
        "requested_bytes",
        "inactive_split_bytes",
        "allocation",
        "segment",
        "active",
        "inactive_split",
    )
    return {**{name: kinds for name in names}, "num_alloc_retries": 0, "num_ooms": 0}


def _limit() -> int:
    return int(os.environ.get("VIRTUAL_CUDA_MEMORY") or 64 * GIB)


def _properties(device=None) -> SimpleNamespace:
    return SimpleNamespace(
        name="Virtual CUDA",
        major=VARIANT.arch // 100,
        minor=VARIANT.arch // 10 % 10,
        total_memory=_limit(),
        multi_processor_count=132,
        warp_size=32,
        max_threads_per_multi_processor=2048,
        regs_per_multiprocessor=65536,
        shared_memory_per_block=49152,
        shared_memory_per_block_optin=232448,
        L2_cache_size=50 << 20,
        is_integrated=0,
        is_multi_gpu_board=0,
        gcnArchName="",
        uuid="0",
        pci_bus_id=0,
    )


def _lazy_init() -> None:
    if lib.vc_forked():
        raise RuntimeError(
            "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, "
            "you must use the 'spawn' start method"
        )
    torch.cuda._initialized = True
    if not torch.cuda.default_generators:
        lib.vc_hand_out_default_generators(1)
        torch.cuda.default_generators = tuple(
            torch.Generator(f"cuda:{i}") for i in range(lib.vc_device_count())
        )
        lib.vc_hand_out_default_generators(0)
        for call, _ in torch.cuda._queued_calls:
            if "_check" not in getattr(call, "__name__", ""):
                call()


class Stream:  # torch compares with the very classes of the generic ones
    def __new__(cls, device=None, priority=0, **kwargs):
        if kwargs:
            return torch.Stream(**kwargs)
        return torch.Stream(torch.device("cuda", _index(device)), priority=priority)


class Event:
    def __new__(cls, enable_timing=False, blocking=False, interprocess=False, external=False):
        return torch.Event(torch.device("cuda", _index()), enable_timing=enable_timing)


def current_stream(device=None):
    return torch._C._accelerator_getStream(_index(device))


@contextlib.contextmanager
def _stream_context(stream):
    if stream is None:
        yield
        return
    with stream:
        yield


class _NoGraph:
    def __init__(self, *args, **kwargs):
        raise NotImplementedError("virtual_cuda has no CUDA graphs")


def _storage(cls, *args, device=None, **kwargs):
    if device is not None and torch.device(device).type == "cuda":
        size = args[0] if args else kwargs.get("wrap_list", [])
        data = (
            torch.empty(size, dtype=torch.uint8, device=device)
            if isinstance(size, int)
            else torch.tensor(list(size), dtype=torch.uint8, device=device)
        )
        return data.untyped_storage()
    if device is not None:
        kwargs["device"] = device
    return _old_storage(cls, *args, **kwargs)


def _resize_storage(self, size: int):
    if self.device.type != "cuda":
        return _old_resize(self, size)
    lib.vc_resize_storage(ctypes.c_void_p(self._cdata), ctypes.c_size_t(size))
    return self


def _synchronize(device=None) -> None:
    lib.vc_synchronize(b"torch.cuda.synchronize")


def _sync_mode(mode) -> None:
    mode = {"default": 0, "warn": 1, "error": 2}.get(mode, mode)
    lib.vc_set_mode(2 if mode == 2 else 0)
    _state["mode"] = mode


_state = {"mode": 0}
_old_storage, _old_resize = torch.UntypedStorage.__new__, torch.UntypedStorage.resize_


def _fresh(function):
    """A function of python of its own: dynamo keeps a table of those of torch.cuda."""
    return lambda *args, **kwargs: function(*args, **kwargs)


def _install() -> None:
    count = lib.vc_device_count
    low_level = dict(
        _cuda_getDeviceCount=count,
        _cuda_getDevice=lib.vc_current_device,
        _cuda_setDevice=_set_device,
        _cuda_exchangeDevice=_exchange,
        _cuda_maybeExchangeDevice=_exchange,
        _cuda_isInBadFork=lambda: bool(lib.vc_forked()),
        _cuda_memoryStats=_stats,
        _cuda_resetPeakMemoryStats=reset_peak,
        _cuda_resetAccumulatedMemoryStats=lambda d: None,
        _cuda_emptyCache=lambda: None,
        _cuda_synchronize=_synchronize,
        _cuda_getArchFlags=lambda: "sm_80 sm_90",
        _cuda_isCurrentStreamCapturing=lambda: False,
        _cuda_ipc_collect=lambda: None,
        _cuda_getCompiledVersion=lambda: 13000,
        _cuda_getCurrentRawStream=lambda device: 0,
    )
    for name, function in low_level.items():
        setattr(torch._C, name, _fresh(function))
    # What torch.compile imports with its trees of CUDA graphs, also where it makes none.
    torch._C._cuda_CUDAAllocator_AllocatorState = type("AllocatorState", (), {})
    cuda = torch.cuda
    high_level = dict(
        is_available=lambda: count() > 0,
        device_count=count,
        _lazy_init=_lazy_init,
        init=_lazy_init,
        current_device=lib.vc_current_device,
        set_device=_set_device,
        _exchange_device=_exchange,
        _maybe_exchange_device=_exchange,
        _is_compiled=lambda: True,
        _is_in_bad_fork=lambda: bool(lib.vc_forked()),
        get_device_properties=_properties,
        get_device_name=lambda device=None: "Virtual CUDA",
        get_device_capability=lambda device=None: divmod(VARIANT.arch // 10, 10),
        synchronize=_synchronize,
        current_stream=current_stream,
        default_stream=current_stream,
        Stream=Stream,
        Event=Event,
        stream=_stream_context,
        set_stream=torch._C._accelerator_setStream,
        mem_get_info=lambda device=None: (_limit() - memory(device).current, _limit()),
        set_sync_debug_mode=_sync_mode,
        get_sync_debug_mode=lambda: _state["mode"],
        is_current_stream_capturing=lambda: False,
        CUDAGraph=_NoGraph,
        graph=_NoGraph,
        make_graphed_callables=_NoGraph,
        utilization=lambda device=None: 0,
    )
    for name, function in high_level.items():
        setattr(cuda, name, function if isinstance(function, type) else _fresh(function))
    cuda.memory.mem_get_info = high_level["mem_get_info"]
    cuda.streams.Stream, cuda.streams.Event = Stream, Event
    torch.backends.cuda.is_built = lambda: True
    torch.UntypedStorage.__new__, torch.UntypedStorage.resize_ = _storage, _resize_storage


_install()


# ------------------------------------------------------------------ attention
def _register_attention() -> "torch.library.Library":
    """The fused kernels that real torch has for CUDA only, by that of the CPU.

    It has no dropout: with dropout the composite kernel is chosen, but in dry runs.
    """
    library = torch.library.Library("aten", "IMPL", "CUDA")
    ops = torch.ops.aten
    forward = ops._scaled_dot_product_flash_attention_for_cpu
    backward = ops._scaled_dot_product_flash_attention_for_cpu_backward

    def seeds(q):
        return torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64)

    def flash(q, k, v, dropout_p=0.0, is_causal=False, return_debug_mask=False, *, scale=None):
        out, logsumexp = forward(q, k, v, 0.0, is_causal, scale=scale)
        none = torch.empty(0, device=q.device, dtype=q.dtype)
        return (out, logsumexp, None, None, q.size(2), k.size(2), *seeds(q), none)

    def flash_backward(
        grad,
        q,
        k,
        v,
        out,
        logsumexp,
        cum_q,
        cum_k,
        max_q,
        max_k,
        dropout_p,
        is_causal,
        seed,
        offset,
        *,
        scale=None,
    ):
        return backward(grad, q, k, v, out, logsumexp, 0.0, is_causal, scale=scale)

    def efficient(
        q, k, v, attn_bias, compute_log_sumexp, dropout_p=0.0, is_causal=False, *, scale=None
    ):
        out, logsumexp = forward(q, k, v, 0.0, is_causal, attn_mask=attn_bias, scale=scale)
        return (out, logsumexp, *seeds(q))

    def efficient_backward(
        grad,
        q,
        k,
        v,
        attn_bias,
        out,
        logsumexp,
        seed,
        offset,
        dropout_p,
        grad_input_mask,
        is_causal=False,
        *,
        scale=None,
    ):
        grads = backward(
            grad, q, k, v, out, logsumexp, 0.0, is_causal, attn_mask=attn_bias, scale=scale
        )
        return (*grads, None)

    library.impl("_scaled_dot_product_flash_attention", flash)
    library.impl("_scaled_dot_product_flash_attention_backward", flash_backward)
    library.impl("_scaled_dot_product_efficient_attention", efficient)
    library.impl("_scaled_dot_product_efficient_attention_backward", efficient_backward)
    return library


_attention = _register_attention()
if torch.distributed.is_available():
    from virtual_cuda import nccl

    nccl.install()


# ------------------------------------------------------------------ what happened
@contextlib.contextmanager
def dry_run(above: int = 1 << 20):
    """Kernels on tensors of more than ``above`` bytes give shapes but no values.

    Peak memory of models of any size: ``with dry_run(): ...; memory().peak``. Build the model
    inside, under ``torch.device("cuda")``. ``nonzero`` keeps everything: an upper bound.
    """
    lib.vc_set_dry(ctypes.c_int64(above))
    try:
        yield
    finally:
        lib.vc_set_dry(ctypes.c_int64(-1))


class Record(contextlib.AbstractContextManager):
    """Collects waits of the host (with the line that caused each), notes and launches.

    Args:
        within: Paths; a wait is laid to the innermost line of a file that contains one of them.
        launches: Whether to count launches by operator, too. Defaults to False.
    """

    def __init__(self, within=("mmcity",), launches: bool = False) -> None:
        self.within, self.by_operator = tuple(within), launches
        self.waits, self.notes, self.launches = Counter(), Counter(), Counter()
        self._event, self._launch = _Listener(self._on_event), _Launched(self._on_launch)

    def _on_event(self, what: bytes, waits: int) -> None:
        frames = traceback.extract_stack()[:-1]
        ours = [f for f in frames if any(part in f.filename for part in self.within)]
        where = "backward or another thread"
        if frames:
            inner = (ours or frames)[-1]
            where = f"{inner.filename}:{inner.lineno} {inner.name}"
            if frames[-1] is not inner:
                where += f" via {'/'.join(frames[-1].filename.split('/')[-2:])}:{frames[-1].lineno}"
        (self.waits if waits else self.notes)[what.decode(), where] += 1

    def _on_launch(self, what: bytes) -> None:
        self.launches[what.decode()] += 1

    def __enter__(self) -> "Record":
        self.first = lib.vc_launches()
        lib.vc_set_listener(self._event)
        if self.by_operator:
            lib.vc_set_launch_listener(self._launch)
        return self

    def __exit__(self, *error) -> None:
        lib.vc_set_listener(None)
        lib.vc_set_launch_listener(None)
        self.launched = lib.vc_launches() - self.first

    def table(self, steps: int = 1) -> str:
        """Waits by line, most frequent first, each divided by ``steps``."""
        return "\n".join(
            f"{count / steps:8.2f}  {what:45s} {where}"
            for (what, where), count in self.waits.most_common()
        )

    def summary(self, steps: int = 1, peaks: Sequence[int] = ()) -> dict:
        """Everything that was recorded, for JSON; counts are divided by ``steps``."""

        def rows(counter: Counter) -> list:
            return [[count / steps, *key] for key, count in counter.most_common()]

        operators = {name: count / steps for name, count in self.launches.most_common()}
        return dict(
            steps=steps, waits=sum(self.waits.values()) / steps, lines=rows(self.waits),
            notes=rows(self.notes), launches=operators, peaks=list(peaks),
        )  # fmt: skip


# ------------------------------------------------------------------ this project
_emulator: list[ctypes.CDLL] = []


def _load_emulated_operators(archs=None) -> Path:
    """The library of the project's CUDA kernels, compiled for the CPU by the first who asks."""
    path = build.build_operators(VARIANT)
    if not _emulator:
        emulator = ctypes.CDLL(str(path))
        emulator.cuemu_counts.restype = ctypes.c_char_p
        lib.vc_set_memory_hooks(emulator.cuemu_track, emulator.cuemu_untrack)
        _emulator.append(emulator)
    return path


def counts() -> dict[str, int]:
    """Calls of CUDA operators by name and launches of their kernels by ``FILE.cu kernel``."""
    text = _emulator[0].cuemu_counts().decode() if _emulator else ""
    rows = (line.split("\t") for line in text.splitlines())
    return {name: int(count) for name, count in rows}


def _serve_operators() -> None:
    """Answer calls of mmcity_ops by emulated kernels, or by those of the CPU."""
    kind = build.setting("OPERATORS", "emulated")
    if kind not in ("emulated", "cpu"):
        raise ValueError(f"VIRTUAL_CUDA_OPERATORS: expected 'emulated' or 'cpu', got '{kind}'")
    if importlib.util.find_spec("mmcity_ops") is None:
        return  # torch alone is at work
    from mmcity_ops import _backend, _build_cuda

    if kind == "cpu":
        _backend.load_cuda_library = _backend.load_cpu_library
    else:
        _build_cuda.build_cuda = _load_emulated_operators


_serve_operators()
