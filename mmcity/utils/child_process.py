"""Functions that are called in a process of their own."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .cli import UserError, find_root, run_command
from .progress import VARIABLE, ProgressWatch

Result = TypeVar("Result")

#: The child looks for modules where its parent does, before it imports any.
_CODE = "import sys; sys.path[:] = sys.argv[2:]; import {0}; {0}._answer(sys.argv[1])"


def describe_call(function: Callable, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """A call as a line of Python; paths are written as text."""
    words = [_literal(value) for value in args]
    words += [f"{name}={_literal(value)}" for name, value in kwargs.items()]
    return f"{function.__module__}.{function.__qualname__}({', '.join(words)})"


def _literal(value: Any) -> str:
    return repr(os.fspath(value) if isinstance(value, os.PathLike) else value)


def call_in_child(
    function: Callable[..., Result], args: Sequence[Any], kwargs: Mapping[str, Any], folder: Path
) -> Result:
    """Call a function in a child process, whose working folder is the root of the toolbox.

    What it reports of its progress is shown, see :func:`~mmcity.utils.progress.report_progress`.

    Args:
        function: Of a module; it, its arguments and its result can be pickled.
        args, kwargs: Of the call.
        folder: Its output is appended to ``log.txt`` there.

    Raises:
        UserError: If the function or its process fails, with the end of the output.
    """
    exchange, log = folder / "call.pkl", folder / "log.txt"
    line = describe_call(function, args, kwargs)
    exchange.write_bytes(pickle.dumps((function, args, kwargs)))
    paths = [os.path.abspath(path) for path in (find_root(), *sys.path)]
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"> {line}\n")
        file.flush()
        status = _run(
            [sys.executable, "-c", _CODE.format(__name__), str(exchange), *paths],
            ProgressWatch((folder / "progress.json").absolute()),
            cwd=find_root(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    answer = exchange.read_bytes()
    exchange.unlink()
    if status:
        tail = log.read_text(encoding="utf-8", errors="replace")[-1500:]
        if (refused := tail.rfind("\nerror: ")) >= 0:  # by a line of its own, without a traceback
            tail = tail[refused + 1 :].strip()
        name = line.partition("(")[0]
        raise UserError(f"{name} ended with status {status}; {log}:\n{tail}")
    return pickle.loads(answer)


def _run(command: Sequence[str], watch: ProgressWatch, **options: Any) -> int:
    """Exit status of a process, whose progress is shown while it runs."""
    with subprocess.Popen(
        command, env={**os.environ, VARIABLE: str(watch.path)}, **options
    ) as process:
        try:
            while True:
                try:
                    return process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    watch.look()
        except BaseException:
            process.kill()
            raise
        finally:
            watch.close()


def _answer(exchange: str) -> None:
    """Main function of the child: the call in the file gives way to its result."""

    def call() -> None:
        function, args, kwargs = pickle.loads(Path(exchange).read_bytes())
        Path(exchange).write_bytes(pickle.dumps(function(*args, **kwargs)))

    run_command(call)
