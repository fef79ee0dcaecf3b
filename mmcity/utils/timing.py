"""Timing the stages of a training step (data, projection, rasterization, ...)."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_active_timer: ContextVar["StageTimer | None"] = ContextVar("stage_timer", default=None)


class StageTimer:
    """Sums wall time and calls per named stage; the ends of a stage wait for the CUDA device."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        #: False: stages pass untimed, without a wait.
        self.is_on = True

    @contextmanager
    def activate(self) -> Iterator["StageTimer"]:
        """Make this the timer that :func:`stage` reports to."""
        token = _active_timer.set(self)
        try:
            yield self
        finally:
            _active_timer.reset(token)

    def add(self, name: str, seconds: float) -> None:
        """Add one call of a stage."""
        self.seconds[name] += seconds
        self.calls[name] += 1

    def now(self) -> float:
        """Seconds on a clock that only differences of make sense."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def summary(self) -> dict[str, dict[str, float]]:
        """Per stage: ``calls``, ``seconds`` in all and ``ms_per_call``."""
        return {
            name: {
                "calls": self.calls[name],
                "seconds": seconds,
                "ms_per_call": 1000 * seconds / self.calls[name],
            }
            for name, seconds in self.seconds.items()
        }


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time a block under a name, if a :class:`StageTimer` is active; free otherwise."""
    timer = _active_timer.get()
    if timer is None or not timer.is_on:
        yield
        return
    start = timer.now()
    try:
        yield
    finally:
        timer.add(name, timer.now() - start)
