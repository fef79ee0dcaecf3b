"""Clocks of the benchmarks."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Clock:
    """Milliseconds of a call on one device.

    CUDA events on a GPU. On the CPU the longest CPU time that any one thread of the process
    spent, which other programs on the machine hardly disturb, or wall time.

    Args:
        device: ``cpu`` or ``cuda[:N]``. Defaults to ``cpu``.
        wall: Measure the time that passes on the CPU. Defaults to False.
    """

    def __init__(self, device: str = "cpu", wall: bool = False) -> None:
        self.on_gpu, self.wall = device.startswith("cuda"), wall

    @property
    def name(self) -> str:
        """Name of the measured quantity."""
        if self.on_gpu:
            return "CUDA events"
        return "wall time" if self.wall else "longest CPU time of a thread"

    def __call__(self, function: Callable[[], Any]) -> tuple[float, Any]:
        """Time of a call in milliseconds, and its result."""
        if self.on_gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            result = function()
            end.record()
            torch.cuda.synchronize()
            return start.elapsed_time(end), result
        if self.wall or torch.get_num_threads() == 1:
            read = time.perf_counter if self.wall else time.process_time
            begin = read()
            result = function()
            return (read() - begin) * 1e3, result
        before = _thread_cpu_times()
        result = function()
        return max(
            ms - before.get(thread, 0.0) for thread, ms in _thread_cpu_times().items()
        ), result


def best_ms(function: Callable[[], Any], repeat: int, clock: Clock | None = None) -> float:
    """Least time of several calls, in milliseconds of CPU time unless a clock is given."""
    clock = clock or Clock()
    return min(clock(function)[0] for _ in range(repeat))


def _thread_cpu_times() -> dict[str, float]:
    """Milliseconds on a CPU of each thread of this process (Linux)."""
    times = {}
    for path in Path("/proc/self/task").iterdir():
        # The first field counts nanoseconds.
        times[path.name] = int((path / "schedstat").read_text().split()[0]) * 1e-6
    return times
