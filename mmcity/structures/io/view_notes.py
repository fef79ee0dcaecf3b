"""Notes on how a file of Gaussians is to be looked at: ``FILE.view.json`` beside it."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmcity.utils.fileio import read_json, write_json

_SUFFIX = ".view.json"


@dataclass(frozen=True)
class ViewNotes:
    """Notes on a file of Gaussians that it cannot hold itself.

    Attributes:
        up: Unit vector that points up, in the axes of the file.
        left_out: Parts of the trained scene that plain Gaussians have no place for.
    """

    up: tuple[float, float, float]
    left_out: tuple[str, ...] = ()


def write_view_notes(path: str | os.PathLike, up: Sequence[float], left_out: Sequence[str]) -> None:
    """Write the notes beside a file; arguments as in :class:`ViewNotes`."""
    notes = dict(up=[float(value) for value in up], left_out=list(left_out))
    write_json(f"{path}{_SUFFIX}", notes)


def read_view_notes(path: str | os.PathLike) -> ViewNotes | None:
    """Notes beside a file, None where there are none.

    Raises:
        ValueError: If they are broken.
    """
    file = Path(f"{path}{_SUFFIX}")
    if not file.is_file():
        return None
    content = read_json(file)
    try:
        x, y, z = (float(value) for value in content["up"])
        left_out = tuple(str(part) for part in content.get("left_out", ()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{file}: expected 'up' of three numbers and 'left_out' of texts, got {content!r}: "
            "remove the file"
        ) from error
    if not math.isclose(math.hypot(x, y, z), 1, abs_tol=1e-3):
        raise ValueError(f"{file}: expected 'up' of length 1, got {[x, y, z]}: remove the file")
    return ViewNotes((x, y, z), left_out)
