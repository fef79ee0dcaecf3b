"""Records of what outputs were made from, so that only what is up to date is left as it is."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from .cli import UserError
from .fileio import alone_in, from_json, read_json, to_json, visible, write_json

#: The record, beside the outputs.
RECORD = ".made_from.json"


def keep_made_alike(
    folder: str | os.PathLike,
    options: Mapping[str, Any],
    outputs: Mapping[str, Iterable[str | os.PathLike]],
    replace: bool = False,
) -> None:
    """Leave in a folder only outputs that the same inputs and options give.

    Called before the first output is made; what it leaves need not be made again. Outputs whose
    inputs have another size or time of change are removed, with a warning.

    Args:
        folder: Of the outputs.
        options: Whatever else decides what is in them, as plain values: arguments, digests of
            weights (:func:`file_digest`).
        outputs: Input files by the name of the output, relative to the folder.
        replace: Also remove what was made with other options, or nobody knows how, instead of
            refusing it. Defaults to False.

    Raises:
        UserError: If outputs were made with other options, or have no record.
    """
    folder = Path(folder)
    options = {name: to_json(value, sort_keys=True) for name, value in options.items()}
    inputs = {name: [_state(file) for file in files] for name, files in outputs.items()}
    with alone_in(folder):  # processes that share the work come one by one
        record = folder / RECORD
        found = read_json(record) if record.is_file() else {"options": options, "inputs": {}}
        before = found["inputs"]
        there = [name for name in inputs if (folder / name).exists()]
        stale = [name for name in there if before.get(name) != inputs[name]]
        if found["options"] != options:
            stale = there
            if there and not replace:
                raise UserError(_other_options(folder, found["options"], options))
            before = {}
        unknown = [name for name in stale if name not in before]
        if unknown and not replace:
            raise UserError(
                f"{folder / unknown[0]}: expected no file, or one that {RECORD} speaks of, got "
                f"another ({len(unknown)} such files): move them away or choose another folder"
            )
        if stale:
            print_log(
                f"{folder}: {len(stale)} outputs of other inputs are made anew", "current", 30
            )
        for name in stale:
            (folder / name).unlink()
        write_json(record, {"options": options, "inputs": {**before, **inputs}}, indent=None)


def made_with(folder: str | os.PathLike) -> dict[str, Any] | None:
    """Options that the outputs of a folder were made with; None where there is no record."""
    record = Path(folder) / RECORD
    if not record.is_file():
        return None
    return {name: from_json(text, record) for name, text in read_json(record)["options"].items()}


def _state(file: str | os.PathLike) -> list[int]:
    """Size in bytes and time of change in ns; nothing of a file that is not there."""
    if not os.path.exists(file):
        return []
    found = os.stat(file)
    return [found.st_size, found.st_mtime_ns]


def _other_options(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    told = ", ".join(f"{name} {wanted.get(name)} (not {found.get(name)})" for name in names)
    return f"{folder}: expected outputs of {told}, got others: remove them or choose another folder"


def file_digest(path: str | os.PathLike | None) -> str | None:
    """Digest of a file's content, or of the files of a folder; None for no path."""
    if path is None:
        return None
    files = visible(sorted(Path(path).rglob("*"))) if Path(path).is_dir() else [Path(path)]
    whole = hashlib.sha256()
    for file in files:
        if file.is_file():
            with open(file, "rb") as content:
                whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()[:16]
