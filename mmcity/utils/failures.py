"""Items of a batch that fail: each is named, and none ends the batch or loses the others."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import print_log

from .cli import UserError, is_defect

_SHOWN = 3


class ItemFailures:
    """Failures of single items of a batch, told at its end.

    Example::

        failures = ItemFailures("pictures")
        for path in paths:
            with failures.item(path.name):
                convert(path)
        failures.check()

    Args:
        what: The items, in the plural.

    Attributes:
        total: Number of items so far.
        reasons: Message by name of each item that failed.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.total = 0
        self.reasons: dict[str, str] = {}
        self._first: Exception | None = None

    @contextmanager
    def item(self, name: str) -> Iterator[None]:
        """Keep an error of one item, with a warning that names it (and the place of a defect)."""
        self.total += 1
        try:
            yield
        except Exception as error:
            reason = str(error) or type(error).__name__
            self.reasons[name] = reason
            shown = reason if name in reason else f"{name}: {reason}"
            if is_defect(error):
                shown += "\n" + "".join(traceback.format_exception(error)).rstrip()
            self._first = self._first or error
            print_log(f"left out: {shown}", "current", 30)

    def check(self) -> None:
        """Tell how many items failed, and which.

        Raises:
            UserError: If one did; what the others gave is written by then. The error of a single
                item is raised itself.
        """
        if not self.reasons:
            return
        if self.total == 1 and self._first is not None:
            raise self._first
        shown = [r if n in r else f"{n}: {r}" for n, r in list(self.reasons.items())[:_SHOWN]]
        more = len(self.reasons) - len(shown)
        others = ", the others are done" if len(self.reasons) < self.total else ""
        raise UserError(
            f"{len(self.reasons)} of {self.total} {self.what} failed{others}: "
            + "; ".join(shown)
            + (f"; and {more} more" if more else "")
        ) from self._first
