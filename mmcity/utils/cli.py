"""Errors that the user of a command can mend, and their report."""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Set to 1 to see where an error came from.
TRACEBACK_VARIABLE = "MMCITY_TRACEBACK"

#: Attribute of an error that has another status than 1.
_STATUS = "exit_status"

#: Types of errors by which input is refused; others are raised by defects alone.
_REFUSALS = (ValueError, TypeError, KeyError, RuntimeError, ImportError, NotImplementedError)
_DEFECT = (
    "mmcity: this is not an error of your input but most likely a defect of mmcity: please report "
    "it with the lines below and what `mmcity info` prints"
)

#: Packages whose argument checks speak to the user.
_OWN_PACKAGES = ("mmcity", "mmcity_ops")


class UserError(Exception):
    """An error whose message says what was expected, what came and what to do."""


def find_root() -> Path:
    """Folder with ``configs``, ``tools`` and ``model-index.yml``: sources or installed ones.

    Raises:
        UserError: If there is none.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent, package / ".mim"):
        if (folder / "model-index.yml").is_file():
            return folder
    raise UserError("mmcity: expected sources or mmcity/.mim, got none: install it again")


def run_command(main: Callable[[], object]) -> None:
    """Run the main function of a tool; user errors end it with one line and status 1,
    or that of :func:`refused_with`.

    These are :class:`UserError`, errors of the file system, whatever the toolbox itself refuses,
    and arguments in a config that a class does not take. ``MMCITY_TRACEBACK=1`` shows where they
    came from; all other exceptions are defects and pass with their traceback and a hint.
    """
    # A log that cannot be written would print tracebacks before the error that ends the run.
    logging.raiseExceptions = False
    try:
        main()
        sys.stdout.flush()  # here, where a closed pipe is no error
    except BrokenPipeError:  # whoever read the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        wanted = os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0")
        message = _user_message(error)
        if wanted or message is None:
            if message is None:
                print(_DEFECT, file=sys.stderr)
            raise
        print(f"error: {type(error).__name__}: {message}", file=sys.stderr)
        sys.exit(getattr(error, _STATUS, 1))


@contextmanager
def refused_with(status: int) -> Iterator[None]:
    """Status with which :func:`run_command` ends where input is refused inside."""
    try:
        yield
    except Exception as error:
        setattr(error, _STATUS, status)
        raise


def is_defect(error: Exception) -> bool:
    """Whether an error is most likely one of the program, not of what a user gave it."""
    return _user_message(error) is None


def _user_message(error: Exception) -> str | None:
    """Message for the user, or None where the error is a defect of the program."""
    if isinstance(error, (UserError, OSError)):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not isinstance(error, _REFUSALS):
        return None
    last = frames[-1]
    hint = f" ({TRACEBACK_VARIABLE}=1 shows where this comes from)"
    if "unexpected keyword argument" in str(error) and "registry" in last.filename:
        return f"the config has an argument that its class does not take: {error}{hint}"
    if isinstance(error, KeyError):
        unknown_type = "not in the" in str(error) and "registry" in last.filename
        is_told = _is_own(last.filename) and (last.line or "").startswith("raise KeyError(")
        return f"{error.args[0]}{hint}" if unknown_type or is_told else None
    if _is_own(last.filename) and (last.line or "").startswith("raise"):
        return f"{error}{hint}"
    return None


def _is_own(filename: str) -> bool:
    package = sys.modules[__name__.partition(".")[0]]
    roots = [Path(folder).resolve() for folder in package.__path__]
    for name in _OWN_PACKAGES[1:]:
        if name in sys.modules:
            roots += [Path(folder).resolve() for folder in sys.modules[name].__path__]
    path = Path(filename).resolve()
    return any(path.is_relative_to(root) for root in roots)
