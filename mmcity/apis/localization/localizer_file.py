"""A localiser as one file that names all its parts."""

import os
from pathlib import Path
from typing import Any

from mmcity.apis.scenes.scene_renderer import SceneRenderer
from mmcity.datasets import ColmapDataset
from mmcity.utils.fileio import read_json, write_json

from .localizer import Localizer

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
    write_json(path, content)


def read_localizer_file(path: str | os.PathLike) -> dict[str, Any]:
    """Content of a file of :func:`write_localizer_file`, with full paths.

    Raises:
        ValueError: If it is no such file.
        FileNotFoundError: If a part is gone.
    """
    path = Path(path)
    try:
        content = dict(read_json(path))
        content["scene"], content["map"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a localiser file with scene and map (mmcity make-localizer writes "
            f"one), got {error!r}"
        ) from error
    for name in _PATHS:
        if content.get(name) is not None:
            if not isinstance(content[name], str):
                raise ValueError(f"{path}: expected the path of its {name}, got {content[name]!r}")
            content[name] = str((path.parent / content[name]).resolve())
            if not Path(content[name]).exists():
                raise FileNotFoundError(f"{path}: expected its {name} {content[name]}, found none")
    return content


def load_localizer(path: str | os.PathLike, device: str | None = None, **options) -> Localizer:
    """The localiser of a file.

    Args:
        path: File of :func:`write_localizer_file`.
        device: Defaults to CUDA where it is.
        **options: Further arguments of :class:`Localizer`.
    """
    parts = read_localizer_file(path)
    parts = {name: parts.get(name) for name in (*_PATHS, "long_side")}
    return build_localizer(**parts, device=device, **options)


def build_localizer(
    scene: str | os.PathLike,
    map: str | os.PathLike,
    map_config: str | os.PathLike | None = None,
    config: str | os.PathLike | None = None,
    checkpoint: str | os.PathLike | None = None,
    alignment: str | os.PathLike | None = None,
    long_side: int | None = None,
    depth_mode: str | None = None,
    device: str | None = None,
    **options,
) -> Localizer:
    """A localiser of its parts: see :func:`write_localizer_file` and :class:`Localizer`."""
    resize = None if long_side is None else dict(long_side=long_side)
    mapped = ColmapDataset(scene, split="train", resize=resize, require_points=False)
    renderer = SceneRenderer(
        map_config, map, device=device, depth_mode=depth_mode, show_progress=False
    )
    return Localizer(
        renderer, mapped, config, checkpoint, alignment=alignment, device=device, **options
    )
