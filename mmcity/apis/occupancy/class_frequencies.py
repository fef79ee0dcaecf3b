"""Voxels of each class in a data set of occupancy."""

import os
from collections.abc import Mapping

from mmengine.registry import init_default_scope

from mmcity.datasets.occ_sequence import OccSequenceDataset
from mmcity.engine.launch import load_config
from mmcity.registry import DATASETS
from mmcity.utils.cli import UserError


def count_class_frequencies(
    config: str | os.PathLike,
    *,
    split: str = "train",
    cfg_options: Mapping[str, object] | None = None,
) -> list[int]:
    """Count voxels in every frame of the occupancy that a config names, each frame once.

    Args:
        config: Config of a HexPlane VAE, by path or name.
        split: Data loader whose data is counted: ``train``, ``val`` or ``test``. Defaults to
            ``train``.
        cfg_options: Dotted keys of the config and their values. Defaults to None.

    Returns:
        Numbers of the unified classes, free voxels first, as ``class_frequencies`` of a
        :class:`~mmcity.models.dynamiccity.HexPlaneVAE` takes them.

    Raises:
        UserError: If the config has no such data, or frames cannot be read.
    """
    cfg = load_config(config, cfg_options)
    loader = cfg.get(f"{split}_dataloader")
    if loader is None:
        raise UserError(f"--split: expected a loader of {config}, got {split}")
    init_default_scope(cfg.get("default_scope", "mmcity"))
    dataset = DATASETS.build(dict(loader.dataset, lazy_init=True))
    if not isinstance(dataset, OccSequenceDataset):
        raise UserError(
            f"{config}: expected clips of occupancy in {split}_dataloader, got "
            f"{type(dataset).__name__}: name the config of the VAE"
        )
    return dataset.count_classes().tolist()
