"""Reading checkpoints: ``weights_only=True`` always, unless the user opts out by name."""

import os
import pickle
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, get_rank
from mmengine.runner import CheckpointLoader

from mmcity.utils.cli import UserError
from mmcity.utils.fileio import read_text, visible
from mmcity.utils.published_weights import find_weights

from .codec import decode_checkpoint

UNSAFE_LOAD_VARIABLE = "MMCITY_UNSAFE_LOAD"


class CheckpointError(UserError, RuntimeError):
    """A checkpoint cannot be used; the message names the file and what to do."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint would run code when it is unpickled."""


#: What reading a damaged checkpoint raises.
_DAMAGE = (EOFError, RuntimeError, ValueError, LookupError, AssertionError, TypeError)
_DAMAGE += (AttributeError, MemoryError, OverflowError, struct.error)


def is_unsafe_load_allowed() -> bool:
    """Whether the user set ``MMCITY_UNSAFE_LOAD=1`` (the tools' ``--unsafe-load``)."""
    return os.environ.get(UNSAFE_LOAD_VARIABLE, "0") not in ("", "0")


def find_checkpoint(folder: str | os.PathLike) -> Path:
    """Checkpoint of a folder: the one that ``last_checkpoint`` names, else the only one there.

    Files of shards do not count: they belong to the checkpoint beside them.

    Raises:
        CheckpointError: If there is none, or a choice.
    """
    folder = Path(folder)
    note = folder / "last_checkpoint"
    if note.is_file():
        named = Path(read_text(note).strip())
        # A work directory may have been moved as a whole.
        inside = folder / named.name
        return inside if inside.is_file() else named
    found = visible(sorted(folder.glob("*.pth")))
    found = [path for path in found if not re.search(r"\.shard\d+of\d+$", path.stem)]
    if len(found) != 1:
        raise CheckpointError(
            f"{folder}: expected a file last_checkpoint or one checkpoint, got "
            f"{[p.name for p in found]}: name the file"
        )
    return found[0]


def load_from_local(filename: str | os.PathLike, map_location: Any = None) -> Any:
    """Read a checkpoint file and rebuild what the checkpoint hook had encoded.

    Args:
        filename: Path of the file or of a folder with one (:func:`find_checkpoint`), or the name
            of published weights (``mmcity weights list``).
        map_location: As in :func:`torch.load`. Defaults to None.

    Returns:
        The checkpoint, usually a dict.

    Raises:
        FileNotFoundError: If there is no such file.
        UnsafeCheckpointError: If the file needs classes or functions beyond tensors and
            plain containers, and ``MMCITY_UNSAFE_LOAD`` is not set.
        CheckpointError: If the file is not a checkpoint or is damaged.
    """
    is_folder = os.path.isdir(filename)
    path = find_checkpoint(filename) if is_folder else find_weights(filename)
    if path is None:
        raise FileNotFoundError(f"checkpoint {filename}: expected a file, found none")
    try:
        return decode_checkpoint(torch.load(path, map_location=map_location, weights_only=True))
    except pickle.UnpicklingError as error:
        offenders = _unsafe_globals(path, str(error))
        if not offenders:
            raise _not_a_checkpoint(path) from error
        if not is_unsafe_load_allowed():
            raise UnsafeCheckpointError(
                f"checkpoint {path}: expected data only, refused as reading it would import and "
                f"call {', '.join(offenders)}, which can run any code: if you trust its origin, "
                f"pass --unsafe-load to the tool or set {UNSAFE_LOAD_VARIABLE}=1"
            ) from error
    except _DAMAGE as error:
        raise _not_a_checkpoint(path) from error

    warnings.warn(
        f"reading {path} without weights_only, because {UNSAFE_LOAD_VARIABLE} is set: "
        "the file may run code",
        stacklevel=2,
    )
    try:
        return decode_checkpoint(torch.load(path, map_location=map_location, weights_only=False))
    except (pickle.UnpicklingError, ImportError, *_DAMAGE) as error:
        raise _not_a_checkpoint(path) from error


def load_from_http(filename: str, map_location: Any = None, model_dir: str | None = None) -> Any:
    """Download a checkpoint once per machine into torch's hub folder, then read it safely.

    Args:
        filename: URL of the file.
        map_location: As in :func:`torch.load`. Defaults to None.
        model_dir: Folder of the downloads. Defaults to torch's ``hub/checkpoints``.
    """
    folder = Path(model_dir or Path(torch.hub.get_dir()) / "checkpoints")
    target = folder / filename.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    is_downloader = int(os.environ.get("LOCAL_RANK", get_rank())) == 0
    if is_downloader and not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        # torch writes to a temporary name and moves the finished file into place
        torch.hub.download_url_to_file(filename, str(target), progress=True)
    barrier()
    return load_from_local(target, map_location)


def _unsafe_globals(path: Path, message: str) -> list[str]:
    """Names that the pickle wants beyond the allowed ones; empty if it is no such pickle."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (pickle.UnpicklingError, *_DAMAGE):
        names = []
    found = re.findall(r"GLOBAL ([\w.]+) was not an allowed", message)
    return sorted({*names, *found})


def _not_a_checkpoint(path: Path) -> CheckpointError:
    with path.open("rb") as file:
        head = file.read(4)
    if path.stat().st_size == 0:
        what = "it is empty"
    elif head[:2] == b"PK":
        what = "it is cut off or damaged (a zip archive that cannot be read to its end)"
    else:
        what = f"its first bytes are {head!r}"
    return CheckpointError(
        f"{path} is not a checkpoint: expected a file written by torch.save, but {what}"
    )


CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)
CheckpointLoader.register_scheme(
    prefixes=("http://", "https://"), loader=load_from_http, force=True
)
