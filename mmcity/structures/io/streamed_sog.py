"""Folders of streamed SOG: a tree of cells in several levels of detail.

``lod-meta.json`` names units, each a SOG folder, and for each leaf of a binary tree the rows of a
unit that hold the leaf in a level. Level 0 is the finest. The writer, which starts from a tree of
Gaussians, is :func:`mmcity.visualization.streamed_sog.write_streamed_sog`.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from mmcity.structures.gaussian_lod import GaussianLodTree, LodCell, box_of
from mmcity.structures.gaussians import Gaussians
from mmcity.structures.splat_info import SplatInfo
from mmcity.utils.fileio import damage_told, path_below, read_json

from .gaussian_format import (
    MOST_GAUSSIANS,
    GaussianFileError,
    GaussianFormat,
    keep_valid,
)
from .gaussians_sog import MOST_JSON, decode_sog
from .glb import get_frame

#: File that tells of the units.
INDEX = "lod-meta.json"
_MOST_DEPTH = 64
_MOST_LEVELS = 64


@dataclass(frozen=True)
class _Rows:
    """Rows of a unit."""

    file: int
    offset: int
    count: int


@dataclass(frozen=True)
class _Leaf:
    """Rows by level, and the errors of all levels if the file says them."""

    levels: dict[int, _Rows]
    errors: list[float] | None


def load_streamed_sog(
    path: str | os.PathLike, drop_invalid: bool = False, lod: int | str = 0
) -> tuple[Any, SplatInfo]:
    """Read one level of a streamed scene, or all.

    Args:
        path: ``lod-meta.json``.
        drop_invalid: Leave out Gaussians whose values are not finite. Defaults to False.
        lod: Level, 0 is the finest; ``all`` for a tree. Defaults to 0.

    Returns:
        Gaussians in the order of the units, or a
        :class:`~mmcity.structures.GaussianLodTree` whose root has a chain of levels for each leaf;
        and what the first unit says.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it or a unit is broken, or has no such level.
    """
    path = Path(path)
    if path.stat().st_size > MOST_JSON:
        raise GaussianFileError(f"{path}: expected at most 256 MiB, got {path.stat().st_size} B")
    with damage_told(path, "a streamed SOG scene", GaussianFileError):
        meta = read_json(path)
        names, leaves = _read_index(path, meta)
        frame = get_frame(meta, path)
    levels = range(meta["lodLevels"])
    if lod != "all" and lod not in levels:
        raise GaussianFileError(
            f"{path}: expected a level of 0 to {len(levels) - 1} or 'all', got {lod!r}"
        )
    if meta.get("environment"):
        print_log(f"{path}: the environment {meta['environment']} is not read", "current", 20)
    units = _Units(path, names)
    wanted = levels if lod == "all" else [lod]
    found = [
        (number, level, leaf.levels[level])
        for number, leaf in enumerate(leaves)
        for level in wanted
        if level in leaf.levels and leaf.levels[level].count
    ]
    found.sort(key=lambda item: (item[2].file, item[2].offset))
    with damage_told(path, "a streamed SOG scene", GaussianFileError):
        parts = {
            (number, level): keep_valid(units.rows(rows), path, drop_invalid)
            for number, level, rows in found
        }
        whole = Gaussians.cat(list(parts.values()))
    whole.frame = frame
    if lod != "all":
        return whole, units.info
    for part in parts.values():
        part.frame = frame
    return _tree(leaves, parts), units.info


class _Units:
    """Units by number, read when they are asked for; the last one is kept."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self._path, self._names = path, names
        self._last: tuple[int, Gaussians] | None = None
        self.info = SplatInfo(format=STREAMED_SOG.name)

    def rows(self, part: _Rows) -> Gaussians:
        if self._last is None or self._last[0] != part.file:
            file = path_below(self._path.parent, self._names[part.file])
            if not file.is_file():
                raise GaussianFileError(
                    f"{self._path}: expected {self._names[part.file]} beside it, found no such "
                    "file: copy the whole folder"
                )
            unit, info = decode_sog(file)
            if self._last is None:
                self.info = replace(info, format=STREAMED_SOG.name)
            self._last = (part.file, unit)
        unit = self._last[1]
        if part.offset + part.count > len(unit):
            raise GaussianFileError(
                f"{self._path}: expected rows {part.offset} to {part.offset + part.count} of "
                f"{self._names[part.file]}, got {len(unit)} rows: export the scene again"
            )
        return unit[part.offset : part.offset + part.count]


def _read_index(path: Path, meta: Any) -> tuple[list[str], list[_Leaf]]:
    """Names of units, and leaves in their order."""
    if meta.get("version", 1) != 1:
        raise GaussianFileError(
            f"{path}: expected streamed SOG of version 1, got {meta['version']!r}: export it again"
        )
    levels, names = _whole(path, meta["lodLevels"], _MOST_LEVELS), meta["filenames"]
    leaves: list[_Leaf] = []
    pending = [(meta["tree"], 1)]
    while pending:
        node, depth = pending.pop()
        if depth > _MOST_DEPTH:
            raise GaussianFileError(f"{path}: expected a tree of at most {_MOST_DEPTH} levels")
        if "children" in node:
            pending += [(child, depth + 1) for child in reversed(node["children"])]
        else:
            leaves.append(_read_leaf(path, node, levels, len(names)))
    for level in range(levels):
        count = sum(leaf.levels[level].count for leaf in leaves if level in leaf.levels)
        if count != meta["counts"][level]:
            raise GaussianFileError(
                f"{path}: expected {meta['counts'][level]} Gaussians in level {level}, got {count} "
                "in its leaves: export the scene again"
            )
    return names, leaves


def _read_leaf(path: Path, node: Any, levels: int, files: int) -> _Leaf:
    rows = {
        int(level): _Rows(
            _whole(path, part["file"], files - 1),
            _whole(path, part["offset"], MOST_GAUSSIANS),
            _whole(path, part["count"], MOST_GAUSSIANS),
        )
        for level, part in node["lods"].items()
    }
    for level in rows:
        _whole(path, level, levels - 1)
    errors = node.get("errors")
    if errors is not None and (
        len(errors) != levels
        or not np.isfinite(np.asarray(errors, np.float64)).all()
        or min(errors) < 0
        or sorted(errors) != errors
    ):
        raise GaussianFileError(
            f"{path}: expected {levels} rising errors of a leaf, got {str(errors)[:80]}"
        )
    return _Leaf(rows, errors)


def _whole(path: Path, value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise GaussianFileError(f"{path}: expected a whole number up to {most}, got {value!r}")
    return value


def _tree(leaves: list[_Leaf], parts: dict[tuple[int, int], Gaussians]) -> GaussianLodTree:
    """A root that draws the coarsest levels, with a chain of levels for each leaf."""
    cells: list[LodCell] = []
    chains = []
    for number, leaf in enumerate(leaves):
        chain: list[LodCell] = []  # finest first, so that a box can hold those below
        for level in sorted(leaf.levels):
            part = parts.get((number, level))
            if part is None:
                continue
            box, error, below = box_of(part), 0.0, []
            if chain:
                finer = chain[-1]
                box = torch.stack([box[0].minimum(finer.box[0]), box[1].maximum(finer.box[1])])
                spacing = float((box[1] - box[0]).norm()) / len(part) ** 0.5
                error = max(spacing if leaf.errors is None else leaf.errors[level], finer.error)
                below = [len(cells) + len(chain)]  # behind the root
            chain.append(LodCell(part, box, error, 0, below))
        for depth, cell in enumerate(reversed(chain), 1):
            cell.depth = depth
        cells += chain
        chains += [len(cells)] * bool(chain)
    coarse = [cells[number - 1] for number in chains]
    boxes = torch.stack([cell.box for cell in coarse])
    root = LodCell(
        Gaussians.cat([cell.gaussians for cell in coarse]),
        torch.stack([boxes[:, 0].amin(0), boxes[:, 1].amax(0)]),
        max(cell.error for cell in coarse),
        0,
        chains,
    )
    return GaussianLodTree([root, *cells])


def _is_streamed(path: Path, head: bytes) -> bool:
    return head.lstrip().startswith(b"{") and (
        path.name == INDEX or b'"lodLevels"' in head and b'"tree"' in head
    )


STREAMED_SOG = GaussianFormat("streamed sog", (INDEX,), load_streamed_sog, sniff=_is_streamed)
