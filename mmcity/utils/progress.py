"""Progress of long work, from a child process to the terminal of its parent."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from .fileio import read_json, write_json

#: Environment variable with the file that a child process tells its progress in.
VARIABLE = "MMCITY_PROGRESS"
_PAUSE_OF_REPORTS = 0.5  # seconds
#: Where the output is no terminal: seconds to the first line, and growth of the pauses.
_FIRST_PAUSE, _GROWTH = 15.0, 1.5


def report_progress(what: str, done: int, total: int) -> None:
    """Tell the parent process how far something is; without one that asks, nothing happens.

    Args:
        what: Is done, such as ``training``.
        done: Number of its steps that are done.
        total: All steps; 0 where that is not known.
    """
    if not (path := os.environ.get(VARIABLE)):
        return
    is_fresh = os.path.exists(path) and time.time() - os.stat(path).st_mtime < _PAUSE_OF_REPORTS
    if done in (0, total) or not is_fresh:
        write_json(path, dict(what=what, done=done, total=total))


def time_left(seconds: float) -> str:
    """A duration such as ``40 s`` or ``3 min``, as rough as an estimate is."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class ProgressWatch:
    """Shows on the terminal what a child process reports, with the time left.

    On a terminal one line is drawn over and over; elsewhere lines come ever more rarely, so
    that logs stay short.

    Args:
        path: File that the child writes (``MMCITY_PROGRESS``).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_terminal = sys.stdout.isatty()
        self._pause, self._shown = _FIRST_PAUSE, time.monotonic()
        self._what, self._begin = "", (0, 0.0)  # what is done, its first report
        self._drawn, self._text = 0, ""

    def look(self) -> None:
        """Read the file and show it, if it is time to."""
        now = time.monotonic()
        if not self._is_terminal and now - self._shown < self._pause or not self.path.is_file():
            return
        text = self._line(read_json(self.path), now)
        if text == self._text:
            return
        self._text = text
        if self._is_terminal:
            print(f"\r  {text:{self._drawn}s}", end="", flush=True)
            self._drawn = len(text)
        else:
            print(f"  {text}", flush=True)
            self._shown, self._pause = now, self._pause * _GROWTH

    def _line(self, report: Mapping, now: float) -> str:
        what, done, total = report["what"], report["done"], report["total"]
        if what != self._what:
            self._what, self._begin = what, (done, now)
        if not total:
            return f"{what} {done}" if done else what
        first, begin = self._begin
        text = f"{what} {done} of {total}"
        if done > first and now > begin:
            text += f", {time_left((now - begin) * (total - done) / (done - first))} left"
        return text

    def close(self) -> None:
        """Leave the line, and take the file away."""
        if self._drawn:
            print(f"\r{'':{self._drawn + 2}s}\r", end="", flush=True)
        self.path.unlink(missing_ok=True)
