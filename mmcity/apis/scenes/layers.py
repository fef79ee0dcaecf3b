"""Layers for the viewer, those of checkpoints included."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from mmcity.engine.scene_loading import info_of_scene, load_scene
from mmcity.utils.failures import ItemFailures
from mmcity.visualization.viewer import Layer, open_layers
from mmcity.visualization.viewer.shapes import free_name

_CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt")


def read_layers(
    paths: Sequence[str | os.PathLike],
    config: str | os.PathLike | None = None,
    level: int | None = None,
    drop_invalid: bool = False,
    failures: ItemFailures | None = None,
) -> list[Layer]:
    """Layers of the paths, in order, for :meth:`~mmcity.visualization.viewer.Viewer.add_layer`.

    Args:
        paths: Files or folders: checkpoints of scenes (``.pth``, ``.pt``, ``.ckpt``), and what
            :func:`~mmcity.visualization.viewer.open_layers` takes.
        config: Config of the checkpoints among the paths. Defaults to None.
        level: Of CityGS-X checkpoints: coarsest levels up to this one. Defaults to None: all.
        drop_invalid: Leave out Gaussians of files that are not finite. Defaults to False.
        failures: Takes the paths, and files of folders, that cannot be read. Defaults to None:
            they are an error.

    Raises:
        UserError: If a checkpoint has no config, or a path holds nothing to show.
    """
    layers = []
    options = {} if level is None else {"level": level}
    for path in map(Path, paths):
        with nullcontext() if failures is None else failures.item(str(path)):
            if path.suffix in _CHECKPOINT_SUFFIXES:
                scene = load_scene(path, config)
                gaussians = scene.to_gaussians(**options)
                info = info_of_scene(scene)
                layers.append(Layer(path.stem, "gaussians", gaussians, gaussians.frame, info=info))
            else:
                layers += open_layers(path, drop_invalid, failures)
    names: list[str] = []
    for layer in layers:
        layer.name = free_name(layer.name, names)
        names.append(layer.name)
    return layers
