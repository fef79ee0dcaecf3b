"""Telling what a process waits for, and that another one is gone."""

import atexit
import functools
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from mmengine.logging import MessageHub

from mmcity.utils.cli import UserError

#: Seconds after which a process says what it waits for; then after twice as long, and so on.
PATIENCE = 60.0
_POLL = 1.0
#: Parts of the messages of gloo, NCCL and their store when a process has gone or says nothing.
_LOST = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
_LOST += ("NCCL", "Timed out waiting", "timed out", "Socket Timeout")


class LostProcessError(UserError):
    """A collective could not end since another process has ended or hangs."""


class _Watchdog(threading.Thread):
    """Looks every second how long this process has been in a collective."""

    def __init__(self) -> None:
        super().__init__(name="mmcity-watchdog", daemon=True)
        self.current: tuple[str, float] | None = None

    def run(self) -> None:
        told, limit = None, PATIENCE
        while True:
            time.sleep(min(_POLL, PATIENCE / 2))
            current = self.current
            if current is None or current is not told:
                told, limit = current, PATIENCE
            if current is not None and time.monotonic() - current[1] > limit:
                waited = f"{time.monotonic() - current[1]:.0f} s"
                # Loggers of mmengine are silent on all ranks but the first.
                text = f"{place(current[0])}: has waited {waited} for others"
                print(text, file=sys.stderr, flush=True)
                limit *= 2


@functools.cache
def _watchdog() -> _Watchdog:
    thread = _Watchdog()
    thread.start()
    return thread


def place(name: str) -> str:
    """Rank and step of this process, and what it does."""
    step = MessageHub.get_current_instance().runtime_info.get("iter", "unknown")
    return f"rank {dist.get_rank() if dist.is_initialized() else 0}, step {step}, {name}"


@contextmanager
def watched(name: str) -> Iterator[None]:
    """Say what this process waits for where it waits long, and whom for where that is over.

    Args:
        name: Of the collective.

    Raises:
        LostProcessError: If another process has ended, or did not come within the timeout.
    """
    if not dist.is_initialized():
        yield
        return
    watchdog = _watchdog()
    before, watchdog.current = watchdog.current, (name, time.monotonic())
    try:
        with lost_processes_told(name):
            yield
    finally:
        watchdog.current = before


def _leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def lost_processes_told(name: str) -> Iterator[None]:
    """Make one line of the errors that libraries raise when another process is gone.

    A group of processes that was made inside is left when this process ends well: its threads would
    else abort the process if they outlived the interpreter.

    Raises:
        LostProcessError: In place of them.
    """
    had_group = dist.is_initialized()
    try:
        yield
        if dist.is_initialized() and not had_group:
            atexit.register(_leave_group)
    except RuntimeError as error:
        text = str(error)
        if not dist.is_initialized() or not any(part in text for part in _LOST):
            raise
        reason = text.strip().splitlines()[0].rpartition("] ")[2].partition(". ")[0]
        raise LostProcessError(
            f"{place(name)}: expected all processes to take part, got '{reason}': another one has "
            "ended or hangs, see its output; --resume auto goes on"
        ) from error
