"""Trainings of another length: what follows the number of iterations, and what does not."""

import re

import pytest
from mmengine.config import Config

from mmcity.engine.config_check import ConfigError
from mmcity.engine.launch import load_config
from mmcity.engine.schedule import scale_schedule
from tests.cli.conftest import REPO

CONFIGS = [
    path
    for path in sorted((REPO / "configs").glob("*/*.py"))
    if "max_iters" in path.read_text() or "3dgs" in path.name
]
#: Keys that look like iterations and are none, or that stay as they are.
OTHERS = re.compile(
    r".*(num_iterations|track_head\.iters|from_scratch|_factor|logger\.interval|log_interval"
    r"|beta_(start|end)|dtype|num_steps|stop_dpt_at_end|depth_schedule|multi_view_interval|extend"
    r"|start_(pose|limit)|restart_weights|max_interval|selection_every|refresh_every|by_epoch"
    r"|convert_to_iter_based|(diffusion|sampler).*steps)$"
)
SUSPECTS = re.compile(
    r"iter|interval|begin|start|stop|end$|every|until|schedule|from_|warm|miles|T_max|period"
)


def leaves(node, path=""):
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        here = f"{path}.{name}" if path else str(name)
        items = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(item, dict) for item in items):
            yield from leaves(value, here)
        else:
            yield here, value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_number_of_iterations_of_a_config_is_scaled(path):
    """Whatever looks like a number of iterations is scaled, or named in OTHERS."""
    cfg = load_config(path)
    if "max_iters" not in (cfg.get("train_cfg") or {}):
        with pytest.raises(ConfigError, match="counts epochs"):
            scale_schedule(cfg, 3)
        return
    parts = ("train_cfg", "param_scheduler", "model", "default_hooks", "custom_hooks")
    before = dict(leaves({part: cfg.get(part) for part in parts}))
    changed = scale_schedule(cfg, 3 * cfg.train_cfg.max_iters)
    for key, value in before.items():
        if not SUSPECTS.search(key.rpartition(".")[2]) or OTHERS.match(key) or not value:
            continue
        assert key in changed, f"{key}={value}"
        if isinstance(value, int):
            assert changed[key] == (value, 3 * value)
        if key.endswith("periods"):
            assert changed[key][1] == [3 * length for length in value]


def test_a_short_training_keeps_the_shares_of_its_schedule():
    cfg = load_config("3dgs_colmap_cpu")
    changed = scale_schedule(cfg, 500)
    assert cfg.train_cfg == dict(type="IterBasedTrainLoop", max_iters=500, val_interval=500)
    assert cfg.param_scheduler[0].end == 500 and cfg.max_iters == 500
    assert cfg.model.resolution_schedule == [(0, 2), (120, 1)]
    strategy = cfg.default_hooks.growth.strategy
    assert (strategy.refine_start, strategy.refine_stop, strategy.refine_every) == (30, 420, 10)
    assert cfg.default_hooks.checkpoint.interval == 100
    assert cfg.default_hooks.logger.interval == 100  # lines of the log stay as far apart
    assert changed["train_cfg.max_iters"] == (5000, 500)
    assert scale_schedule(cfg, 500) == {}


def test_learning_rates_of_few_steps_have_a_step_each():
    warmup = dict(type="LinearLR", begin=0, end=50, by_epoch=False)
    fall = dict(type="CosineAnnealingLR", begin=50, end=1200, T_max=100, by_epoch=False)
    cfg = Config(dict(train_cfg=dict(max_iters=1200), param_scheduler=[warmup, fall]))
    scale_schedule(cfg, 4)
    assert [(row.begin, row.end) for row in cfg.param_scheduler] == [(0, 1), (0, 4)]
    assert cfg.param_scheduler[1].T_max == 1


def test_lengths_that_follow_one_another_end_where_the_training_does():
    scheduler = dict(type="CosineRestartLR", begin=100, periods=[2100, 400], by_epoch=False)
    cfg = Config(dict(train_cfg=dict(max_iters=2600), param_scheduler=[scheduler]))
    scale_schedule(cfg, 777)
    found = cfg.param_scheduler[0]
    assert found.begin + sum(found.periods) == 777 and found.begin == 30


def test_what_cannot_be_scaled_is_refused():
    with pytest.raises(ConfigError, match="from 1 on, got 0"):
        scale_schedule(load_config("3dgs_colmap_cpu"), 0)
    with pytest.raises(ConfigError, match=r"train_cfg\.max_epochs=N"):
        scale_schedule(load_config("rap_colmap_cpu"), 100)
