"""How commands report errors that their user can mend."""

import os
import sys
from collections.abc import Callable

__all__ = ["UserError", "run_command"]


class UserError(Exception):
    """An error whose message says what was expected, what came and what to do."""


def run_command(main: Callable[[], object]) -> None:
    """Run the main function of a tool; user errors end it with one line and status 1.

    Errors of the file system count among them. ``MMCITY_TRACEBACK=1`` shows where they
    came from; all other exceptions pass with their traceback.
    """
    try:
        main()
    except (UserError, OSError) as error:
        if os.environ.get("MMCITY_TRACEBACK", "0") not in ("", "0"):
            raise
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
