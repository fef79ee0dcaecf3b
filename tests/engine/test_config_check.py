"""Misspelt names and options of configs."""

import pytest
from mmengine.config import Config

from mmcity.engine.config_check import ConfigError, check_config_keys
from mmcity.engine.config_options import merge_options, parse_options


@pytest.fixture
def cfg() -> Config:
    return Config(
        dict(
            data_root="data/fox",
            max_iters=300,
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=0.1)),
            train_cfg=dict(max_iters=300),
            train_dataloader=dict(dataset=dict(data_root="data/fox", ann="data/fox/train.txt")),
            other="data/foxes",
            param_scheduler=[dict(type="A")],
            visualizer=None,
            default_hooks=dict(view_synthesis=dict(type="B")),
        )
    )


def test_variables_and_runner_names_pass(cfg):
    check_config_keys(cfg)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("optim_wraper", "optim_wrapper"), ("custom_hook", "custom_hooks"),
     ("train_dataloder", "train_dataloader"), ("randomnes", "randomness")],
)  # fmt: skip
def test_misspelt_names(wrong, right):
    with pytest.raises(ConfigError, match=f"'{wrong}', did you mean '{right}'"):
        check_config_keys(Config({wrong: {}}))


def test_option_texts():
    assert parse_options(
        ["a=1", "b.c=1e-3", "d=true", "e=None", "f=[1,2]", "g=(a,b)", "h=/my data/x=y", "i='5'"]
    ) == {
        "a": 1, "b.c": 1e-3, "d": True, "e": None, "f": [1, 2], "g": ("a", "b"),
        "h": "/my data/x=y", "i": "5",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="KEY=VALUE, got 'lr'"):
        parse_options(["lr"])


def test_options_change_values_lists_and_new_arguments(cfg):
    merge_options(
        cfg,
        {"optim_wrapper.optimizer.lr": 1, "param_scheduler.0.type": "B", "train_cfg.val_begin": 3,
         "auto_scale_lr.base_batch_size": 8, "visualizer.type": "V"},
    )  # fmt: skip
    assert cfg.optim_wrapper.optimizer.lr == 1 and cfg.param_scheduler[0].type == "B"
    assert cfg.train_cfg.val_begin == 3 and cfg.auto_scale_lr.base_batch_size == 8


def test_a_path_variable_is_followed_to_its_uses(cfg):
    merge_options(cfg, {"data_root": "/mnt/castle/"})
    dataset = cfg.train_dataloader.dataset
    assert (dataset.data_root, dataset.ann) == ("/mnt/castle/", "/mnt/castle/train.txt")
    assert cfg.data_root == "/mnt/castle/" and cfg.other == "data/foxes"


def test_a_number_variable_that_was_used_is_refused(cfg):
    with pytest.raises(ConfigError, match=r"equal to it now: train_cfg\.max_iters"):
        merge_options(cfg, {"max_iters": 10})


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("optim_wraper.optimizer.lr", "'optim_wraper' is not in the config, did you mean"),
        (
            "optim_wrapper.optimiser.lr",
            "'optimiser' is not in the config, did you mean 'optimizer'",
        ),
        ("train_cfg.max_iters.x", "'train_cfg.max_iters' is no dict"),
        ("param_scheduler.3.type", "'3' is not in the config"),
        ("custom_hooks.1.map", "expected default_hooks.NAME, .* one of view_synthesis"),
    ],
)
def test_options_that_change_nothing(cfg, option, message):
    with pytest.raises(ConfigError, match=message):
        merge_options(cfg, {option: 1})
