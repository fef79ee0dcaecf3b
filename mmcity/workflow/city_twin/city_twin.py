"""The chain of a city twin: from images of a place to its digital twin."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmcity.engine.launch import load_config, set_work_dir
from mmcity.utils.setup_env import register_all_modules
from mmcity.workflow.chain import Chain


def build_city_twin(
    config: str | os.PathLike,
    work_dir: str | os.PathLike | None = None,
    cfg_options: Mapping[str, object] | None = None,
) -> Chain:
    """The chain of a config, with the state in which its work folder is.

    Args:
        config: Of a city twin.
        work_dir: Folder for everything. Defaults to the config's.
        cfg_options: Dotted keys of the config and their values. Defaults to None.
    """
    register_all_modules()
    cfg = load_config(config, cfg_options)
    set_work_dir(cfg, None if work_dir is None else str(work_dir))
    return Chain(cfg.stages.to_dict(), cfg.work_dir, cfg.get("seed", 0))


def run_city_twin(
    config: str | os.PathLike,
    work_dir: str | os.PathLike | None = None,
    force: Iterable[str] = (),
    skip: Iterable[str] = (),
    until: str | None = None,
    cfg_options: Mapping[str, object] | None = None,
) -> Path:
    """Bring a city twin up to date, and write its report, also where a stage fails.

    Args:
        config: Of a city twin, such as ``projects/city_twin/configs/toytown_cpu.py``.
        work_dir: Folder for everything. Defaults to the config's.
        force: Stages to run anew. Defaults to none.
        skip: Stages to leave out. Defaults to none.
        until: Stage to stop after. Defaults to None.
        cfg_options: Dotted keys of the config and their values. Defaults to None.

    Returns:
        The page of the report; ``manifest.json`` lies beside it.
    """
    chain = build_city_twin(config, work_dir, cfg_options)
    return chain.run_and_report(f"City twin: {Path(config).stem}", force, skip, until)
