"""Number of iterations that fit into a given time, from a training in miniature."""

import copy
import os
import tempfile
import time
from pathlib import Path
from unittest import mock

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmcity.utils.fileio import read_json, write_json
from mmcity.utils.progress import VARIABLE, report_progress

from .config_check import ConfigError
from .schedule import scale_schedule

#: File of the work folder with the plan, which a resumed training keeps.
PLAN = "schedule.json"
#: Of the time given, that the pilot may take; its iterations.
_SHARE, _FEWEST, _MOST = 0.08, 40, 200


class _Stopwatch(Hook):
    """Times at which the iterations end."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Note the time; the losses are on the host, so that the device is done."""
        self.ends.append(time.perf_counter())


def build_runner(cfg: Config) -> Runner:
    """Build the Runner that a config describes (``runner_type`` chooses another class).

    mmengine's own loops of validation and test become those of
    :mod:`mmcity.engine.loops.forgiving_loops`.
    """
    if "model" not in cfg:
        raise ConfigError(f"{cfg.filename}: expected a config with a model, got {sorted(cfg)}")
    for place, kind in (("val", "ValLoop"), ("test", "TestLoop")):
        loop = cfg.get(f"{place}_cfg")
        if loop is not None and loop.get("type", kind) == kind:
            loop.type = f"mmcity.Forgiving{kind}"
    return RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)


def plan_iterations(cfg: Config, minutes: float, keep: bool = False) -> int:
    """Number of iterations that a training of ``minutes`` has, its start included.

    A pilot runs the whole schedule in miniature, with its growth and its resolutions, so that
    its mean step takes as long as that of the training. ``schedule.json`` in the work folder
    keeps the plan: a resumed training has the length that it began with.

    Args:
        cfg: Config that counts iterations, with ``work_dir``.
        minutes: For the training, without validation.
        keep: Take the plan of the work folder, where there is one for as many minutes. Defaults
            to False.

    Raises:
        ConfigError: If the time is none, or too short for one step.
    """
    if not minutes > 0:
        raise ConfigError(f"--minutes: expected a number above 0, got {minutes}")
    file, start = Path(cfg.work_dir) / PLAN, time.perf_counter()
    if keep and file.is_file() and (plan := read_json(file))["minutes"] == minutes:
        return plan["max_iters"]
    seconds = _seconds_per_step(cfg, _FEWEST)
    count = int(_SHARE * 60 * minutes / seconds)
    if count > _FEWEST:  # few steps in miniature are a rough measure
        seconds = _seconds_per_step(cfg, min(count, _MOST))
    left = 60 * minutes - (time.perf_counter() - start)
    max_iters = int(left / seconds)
    if max_iters < 1:
        raise ConfigError(
            f"--minutes: expected time for a step, which takes {seconds:.2g} s, got {minutes:g} "
            f"minutes, of which the start and the measuring took {60 * minutes - left:.2g} s: give "
            "more, or reduce the pictures (resize)"
        )
    write_json(file, dict(minutes=minutes, max_iters=max_iters, step_seconds=seconds))
    return max_iters


def _seconds_per_step(cfg: Config, count: int) -> float:
    """Mean time of the steps of a training of ``count`` steps, without the first."""
    cfg = copy.deepcopy(cfg)
    scale_schedule(cfg, count, fewest_between_edits=1)
    for name in ("val", "test"):
        cfg.update({f"{name}_{part}": None for part in ("dataloader", "cfg", "evaluator")})
    for name in ("export", "visualization"):
        cfg.default_hooks.pop(name, None)
    cfg.default_hooks.checkpoint = None
    cfg.update(resume=False, log_level="ERROR")
    watch = _Stopwatch()
    report_progress("measuring the time of a step", 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        # Loggers and message hubs are found by the name of the experiment.
        cfg.update(work_dir=folder, experiment_name=Path(folder).name)
        runner = build_runner(cfg)
        runner.register_hook(watch)
        with mock.patch.dict(os.environ, {VARIABLE: ""}):  # not the progress of the training
            runner.train()
    return (watch.ends[-1] - watch.ends[0]) / (len(watch.ends) - 1)
