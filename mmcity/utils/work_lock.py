"""One run at a time in a work folder."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from .cli import UserError

_NAME = ".lock"


@contextmanager
def work_lock(folder: str | os.PathLike) -> Iterator[None]:
    """Hold a work folder against other processes.

    The system gives the lock back when its process ends, however it ends; the file ``.lock``
    tells who has it.

    Args:
        folder: Made if there is none.

    Raises:
        UserError: If another process has it.
    """
    path = Path(folder) / _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            # Child processes do not inherit this kind, so that orphans hold nothing.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            owner = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            raise UserError(
                f"{folder}: expected no other run in this folder, got {owner}: wait for it, end "
                "it, or choose another folder"
            ) from error
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()} since {now}\n".encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)
