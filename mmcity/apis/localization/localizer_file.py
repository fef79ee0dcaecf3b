"""A localiser as one file that names all its parts."""

import json
import os
from pathlib import Path
from typing import Any

from mmcity.apis.scenes.scene_renderer import SceneRenderer
from mmcity.datasets import ColmapDataset
from mmcity.utils.fileio import atomic_path

from .localizer import Localizer

__all__ = ["load_localizer", "read_localizer_file", "write_localizer_file"]

_PATHS = ("scene", "map", "map_config", "config", "checkpoint", "alignment")
_VALUES = ("long_side", "unit_scale", "not_metric")


def write_localizer_file(path: str | os.PathLike, **parts: Any) -> None:
    """Write ``scene``, ``map``, ``map_config``, ``config``, ``checkpoint``, ``alignment``
    (files; None for none), ``long_side``, ``unit_scale`` and ``not_metric``.

    Files are named relative to this one, so that the folder may be moved.
    """
    unknown = set(parts) - {*_PATHS, *_VALUES}
    if unknown or not {"scene", "map"} <= set(parts):
        raise ValueError(f"expected scene, map and some of {_PATHS + _VALUES}, got {sorted(parts)}")
    folder = Path(path).resolve().parent
    content = {
        name: os.path.relpath(value, folder) if name in _PATHS and value is not None else value
        for name, value in parts.items()
    }
    with atomic_path(path) as temporary:
        Path(temporary).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_localizer_file(path: str | os.PathLike) -> dict[str, Any]:
    """What :func:`write_localizer_file` wrote, with full paths.

    Raises:
        ValueError: If it is no such file.
        FileNotFoundError: If a part is gone.
    """
    path = Path(path)
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        content["scene"], content["map"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a localiser file with scene and map (tools/make_localizer.py writes "
            f"one), got {error!r}"
        ) from error
    for name in _PATHS:
        if content.get(name) is not None:
            content[name] = str((path.parent / content[name]).resolve())
            if not Path(content[name]).exists():
                raise FileNotFoundError(f"{path}: its {name} {content[name]} is gone")
    return content


def load_localizer(path: str | os.PathLike, device: str | None = None, **options) -> Localizer:
    """The localiser of a file.

    Args:
        path: File of :func:`write_localizer_file`.
        device: Defaults to CUDA where it is.
        **options: Further arguments of :class:`Localizer`.
    """
    parts = read_localizer_file(path)
    side = parts.get("long_side")
    mapped = ColmapDataset(
        parts["scene"], resize=side and dict(long_side=side), require_points=False
    )
    renderer = SceneRenderer(parts.get("map_config"), parts["map"], device=device)
    return Localizer(
        renderer,
        mapped,
        parts.get("config"),
        parts.get("checkpoint"),
        alignment=parts.get("alignment"),
        device=device,
        **options,
    )
