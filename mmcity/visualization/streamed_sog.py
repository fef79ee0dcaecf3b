"""Writer of streamed SOG: cells of Gaussians in levels of detail, for viewers of PlayCanvas.

:mod:`mmcity.structures.io.streamed_sog` reads what this writes.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from mmcity.structures import GaussianLodTree, Gaussians, SplatInfo, merge_gaussians
from mmcity.structures.geometry import quat_to_rotmat
from mmcity.structures.io.gaussian_format import for_writing
from mmcity.structures.io.gaussians_sog import META, write_sog_rows
from mmcity.structures.io.glb import set_frame
from mmcity.structures.io.streamed_sog import INDEX
from mmcity.structures.morton import morton_order
from mmcity.utils.fileio import alone_in, scratch_folder, visible, write_json
from mmcity.utils.made_from import file_digest
from mmcity.version import __version__

#: Names of folders of units.
_UNITS = r"units-[0-9a-f]{8}"
#: Leaves with fewer Gaussians are not split further.
_FEW = 8192
_DIGITS = 7
#: Points whose distance to the next one tells the spacing of a leaf.
_SPACING_SAMPLE = 4096


def write_streamed_sog(
    tree: GaussianLodTree,
    folder: str | os.PathLike,
    levels: int = 4,
    unit: int = 524_288,
    extent: float = 16.0,
    info: SplatInfo | None = None,
) -> SplatInfo:
    """Write a folder of streamed SOG; ``lod-meta.json`` comes last.

    An earlier one in the folder goes when the new one is whole.

    The format wants each leaf in all levels. Leaves are those of the tree; the finest level holds
    what they hold, level k one Gaussian for each cube of 2^(k - 1) times their spacing.

    Args:
        tree: Of :func:`~mmcity.structures.build_lod_tree`.
        folder: Target.
        levels: Of detail. Defaults to 4.
        unit: Gaussians of a file at most, but of a leaf at least. Defaults to 524,288.
        extent: Leaves wider than this, in world units, are split while they hold more than 8,192
            Gaussians. Defaults to 16.
        info: What is known of the scene. Defaults to None: nothing.

    Returns:
        SplatInfo: What the files say, and what was lost.

    Raises:
        ValueError: If there is no Gaussian, no colour, or a value that is not finite.
    """
    folder = Path(folder)
    scene, _, said = for_writing(tree.gather(tree.leaves), folder / INDEX, info)
    sizes = [len(tree.cells[number].gaussians) for number in tree.leaves]
    leaves = [
        _Leaf(scene[rows], levels)
        for cell in torch.arange(len(scene)).split(sizes)
        for rows in _split(cell, scene.means, extent)
    ]
    root, leaves = _binary(leaves)
    names: list[str] = []
    with scratch_folder(folder / INDEX) as scratch:
        for level in range(levels):
            for number, members in enumerate(_units(leaves, level, unit)):
                rows = Gaussians.cat([leaf.levels[level] for leaf in members])
                rows.frame = None  # the index has it
                names.append(f"{level}_{number}/{META}")
                write_sog_rows(rows, scratch / "units" / names[-1], said.model)
                offset = 0
                for leaf in members:
                    count = len(leaf.levels[level])
                    leaf.lods[str(level)] = dict(file=len(names) - 1, offset=offset, count=count)
                    offset += count
        # Units of another scene, or of this one in another form, lie in a folder of another name.
        units = f"units-{str(file_digest(scratch / 'units'))[:8]}"
        counts = [sum(len(leaf.levels[level]) for leaf in leaves) for level in range(levels)]
        asset = {"generator": f"mmcity {__version__}", "chunkGaussians": unit}
        document = {
            "version": 1,
            "asset": {**asset, "chunkExtent": extent, "chunkMinGaussians": _FEW},
            "count": sum(counts),
            "counts": counts,
            "lodLevels": levels,
            "lodErrors": True,
            "filenames": [f"{units}/{name}" for name in names],
            "tree": root,
        }
        set_frame(document, scene.frame)
        with alone_in(folder):
            if not (folder / units).exists():
                (scratch / "units").rename(folder / units)
            write_json(folder / INDEX, document, indent=None, separators=(",", ":"))
            for earlier in visible(folder.glob("units-*")):
                if re.fullmatch(_UNITS, earlier.name) and earlier.name != units:
                    shutil.rmtree(earlier)
    return replace(said, format="streamed sog", generator=asset["generator"])


class _Leaf:
    """A leaf in all levels, finest first, with its box, errors, and rows of units by level."""

    def __init__(self, gaussians: Gaussians, levels: int) -> None:
        edges = [_spacing(gaussians.means) * 2.0**k for k in range(levels - 1)]
        coarser = [merge_gaussians(gaussians, edge) for edge in edges]
        self.levels = [part[morton_order(part.means)] for part in (gaussians, *coarser)]
        self.errors = [0.0, *edges]
        self.lods: dict[str, dict[str, int]] = {}
        reach = (quat_to_rotmat(gaussians.quats).abs() * gaussians.scales[:, None]).sum(2)
        self.low = (gaussians.means - reach).amin(0)
        self.high = (gaussians.means + reach).amax(0)


def _units(leaves: list[_Leaf], level: int, most: int) -> Iterator[list[_Leaf]]:
    """Leaves of each unit."""
    members: list[_Leaf] = []
    size = 0
    for leaf in leaves:
        count = len(leaf.levels[level])
        if members and size + count > most:
            yield members
            members, size = [], 0
        members.append(leaf)
        size += count
    yield members


def _spacing(means: Tensor) -> float:
    """Median distance of points to the next one, above 0."""
    points = means.double().numpy()
    if len(points) < 2:
        return 1.0
    step = -(-len(points) // _SPACING_SAMPLE)
    distances = cKDTree(points).query(points[::step], k=2)[0][:, 1]
    found = distances[distances > 0]
    return float(np.median(found)) if len(found) else 1.0


def _rounded(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values]


def _split(rows: Tensor, means: Tensor, extent: float) -> list[Tensor]:
    """Rows of a leaf, halved along its longest edge while it is wide and full."""
    points = means[rows]
    low, high = points.amin(0), points.amax(0)
    axis = int((high - low).argmax())
    if len(rows) <= _FEW or float((high - low)[axis]) <= extent:
        return [rows]
    upper = points[:, axis] > (low + high)[axis] / 2
    return [part for half in (~upper, upper) for part in _split(rows[half], means, extent)]


def _binary(leaves: list[_Leaf]) -> tuple[dict[str, Any], list[_Leaf]]:
    """Node of the file for some leaves, halved along the longest edge, and these in its order."""
    low = torch.stack([leaf.low for leaf in leaves])
    high = torch.stack([leaf.high for leaf in leaves])
    bound = {"min": _rounded(low.amin(0)), "max": _rounded(high.amax(0))}
    if len(leaves) == 1:
        errors = _rounded(leaves[0].errors)
        return {"bound": bound, "lods": leaves[0].lods, "errors": errors}, leaves
    middles = (low + high) / 2
    axis = int((middles.amax(0) - middles.amin(0)).argmax())
    order = middles[:, axis].argsort(stable=True).tolist()
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    nodes, ordered = zip(*(_binary([leaves[i] for i in half]) for half in halves))
    return {"bound": bound, "children": list(nodes)}, [*ordered[0], *ordered[1]]
