"""Writing checkpoints so that a full disk or a killed run leaves the earlier ones whole."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmcity.utils.fileio import atomic_path

from .shards import shard_files


class AtomicLocalBackend(LocalBackend):
    """Local file backend that writes beside the target and moves the whole file into place.

    Chosen by ``backend_args=dict(backend='atomic_local')``.
    """

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write bytes; see :meth:`put_text` for the errors."""
        target = Path(filepath)
        try:
            with atomic_path(target) as temporary, open(temporary, "wb") as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot write {len(obj)} bytes ({error.strerror}); files written earlier are "
                "untouched. Free space or choose another --work-dir, then use --resume auto",
                str(target),
            ) from error

    def put_text(self, obj: str, filepath: str | os.PathLike, encoding: str = "utf-8") -> None:
        """Write text.

        Raises:
            OSError: If the disk is full or the folder cannot be written; what lay at
                ``filepath`` before is left as it was.
        """
        self.put(obj.encode(encoding), filepath)


class DeferredRemoval:
    """File backend that remembers what to remove until the replacement is safely written.

    Args:
        backend: The backend that does everything else.
    """

    def __init__(self, backend) -> None:
        self._backend = backend
        self._pending: list[str] = []

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    def remove(self, filepath: str | os.PathLike) -> None:
        """Mark a file for removal by :meth:`flush`."""
        self._pending.append(str(filepath))

    def flush(self, keep: set[str]) -> None:
        """Remove the marked files, except those in ``keep`` (just written again)."""
        pending, self._pending = self._pending, []
        for path in pending:
            if path not in keep and self._backend.isfile(path):
                self._backend.remove(path)
                for companion in shard_files(path):
                    self._backend.remove(str(companion))


register_backend("atomic_local", AtomicLocalBackend, force=True)
