"""Gaussians from one format to another."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmcity.structures import (
    GaussianLodTree,
    Gaussians,
    SplatInfo,
    build_lod_tree,
    convert_axes,
    drop_unseen,
    write_gaussians,
)
from mmcity.structures.axes import UP_AXES, up_direction
from mmcity.structures.io.gaussian_files import find_format
from mmcity.structures.io.gaussian_format import in_axes
from mmcity.structures.io.streamed_sog import INDEX
from mmcity.structures.io.view_notes import ViewNotes
from mmcity.utils.cli import UserError
from mmcity.visualization.streamed_sog import write_streamed_sog
from mmcity.visualization.tiles3d import write_tileset
from mmcity.visualization.viewer import Layer

from .page import export_page

#: The axis that points up, by the axes that are named for it.
_UP_OF = {axes: up for up, axes in UP_AXES.items()}


@dataclass(frozen=True)
class ExportedScene:
    """A scene that was written.

    Attributes:
        path: The file, ``tileset.json`` of a folder of tiles, or the folder of a COLMAP model.
        contents: How many of what it holds.
        lost: One clause for each thing that the format could not hold. Defaults to none.
    """

    path: Path
    contents: dict[str, int]
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{count} {what}" for what, count in self.contents.items()]
        if self.path.is_file():
            parts.append(f"{self.path.stat().st_size / 1e6:.2f} MB")
        return f"{self.path}: {', '.join(parts)}"


def export_gaussians(
    layer: Layer,
    source: Path,
    target: Path,
    *,
    up: str | None = None,
    assume_axes: str | None = None,
    to_axes: str | None = None,
    sh: int | None = None,
    antialiased: bool | None = None,
    georeference: tuple[float, float, float] | None = None,
    max_per_cell: int = 20_000,
    sh_bits: int | None = None,
    spz_version: int | None = None,
    compress: str | None = None,
    title: str | None = None,
    config: str | None = None,
) -> ExportedScene:
    """Write a layer of Gaussians; arguments as of :func:`~mmcity.apis.scenes.export_scene`."""
    scene, info = layer.data, layer.info or SplatInfo()
    is_tileset = target.name == "tileset.json" or not target.suffix
    stays = is_tileset and sh is None and to_axes is None
    if isinstance(scene, GaussianLodTree) and not stays:
        scene = scene.gather(scene.leaves)
    contents: dict[str, int] = {}
    lost: tuple[str, ...] = ()
    if isinstance(scene, Gaussians):
        scene, info = in_axes(scene, info, source, to_axes, assume_axes)
        kept = drop_unseen(scene, least_opacity=0)
        if len(kept) < len(scene):
            contents["strays left out"] = len(scene) - len(kept)
        scene, lost = _cut(kept, sh)
    if antialiased is not None:
        info = replace(info, model="antialiased" if antialiased else "default")
    if up is not None:
        if info.axes not in (None, UP_AXES[up]):
            print_log(f"{source}: axes count as {UP_AXES[up]}, not as {info.axes}", "current", 30)
        info = replace(info, axes=UP_AXES[up])
    upright = _UP_OF.get(info.axes or UP_AXES["z"])
    if is_tileset:
        if upright is None:  # axes that tiles have no name for
            scene, upright = convert_axes(scene, str(info.axes), UP_AXES["z"]), "z"
        tree = scene if isinstance(scene, GaussianLodTree) else build_lod_tree(scene, max_per_cell)
        folder = target.parent if target.suffix else target
        packing = None if compress == "none" else "spz"
        if packing is None:
            print_log(f"{folder}: CesiumJS up to 1.145 shows plain cells as points", "current", 30)
        index = write_tileset(tree, folder, upright, georeference, packing, info)
        cells = {"cells": len(tree), "cells of the full scene": len(tree.leaves)}
        return ExportedScene(index, {**cells, **contents}, lost)
    contents = {"Gaussians": len(scene), **contents}
    if target.name == INDEX:
        tree = build_lod_tree(scene, max_per_cell)
        said = write_streamed_sog(tree, target.parent, info=info)
        return ExportedScene(target, contents, lost + said.lost)
    if target.suffix.lower() == ".html":
        notes = layer.notes
        if to_axes is not None:
            x, y, z = up_direction(to_axes).tolist()
            notes = ViewNotes((x, y, z))
        said = export_page(
            scene, target, title or source.name, source=source,
            config=config if to_axes is None else None,  # cameras are those of the scene as it was
            notes=notes, info=info, up=upright or "z",
        )  # fmt: skip
        return ExportedScene(target, contents, lost + said.lost)
    options: dict[str, Any] = {"compress": compress if compress == "spz" else None}
    options["version"] = spz_version
    entry = find_format(target, write=True)
    if entry is not None:  # others need none of these
        if "up" in entry.options and info.axes is None:
            options["up"] = upright
        if "sh_bits" in entry.options and sh_bits is not None:
            options["sh_bits"] = (sh_bits, sh_bits)
    if spz_version is not None and (entry is None or "version" not in entry.options):
        raise UserError(f"--spz-version: expected a target .spz, got {target.name}: leave it out")
    given = {name: value for name, value in options.items() if value is not None}
    said = write_gaussians(scene, target, info=info, **given)
    return ExportedScene(target, contents, lost + said.lost)


def _cut(scene: Gaussians, degree: int | None) -> tuple[Gaussians, tuple[str, ...]]:
    """A scene without view-dependent colours above a degree, and what that loses."""
    if degree is None or scene.shN is None or (scene.sh_degree or 0) <= degree:
        return scene, ()
    rows = (degree + 1) ** 2 - 1
    cut = scene[:]
    cut.shN = scene.shN[:, :rows]
    return cut, (f"SH cut from degree {scene.sh_degree} to {degree}",)
