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


@pytest.mark.parametrize(
    "text", ["20240513", "2024_05_13", "castle, north", "none", "my scene (1)", "1e3", "[a]"]
)
def test_text_stays_as_it_was_typed_where_text_was(cfg, text):
    merge_options(cfg, parse_options([f"data_root={text}"]))
    assert cfg.data_root == cfg.train_dataloader.dataset.data_root == text


def test_texts_follow_the_type_of_the_old_value():
    cfg = Config(
        dict(
            train_cfg=dict(max_iters=10, by_epoch=True, splits=["a"], rate=0.5, file=None),
            work_dir="x",
        )
    )
    texts = ["max_iters=20", "by_epoch=0", "splits=b", "rate=1", "file=None"]
    merge_options(cfg, parse_options([f"train_cfg.{t}" for t in texts] + ["work_dir='5'"]))
    values = dict(max_iters=20, by_epoch=False, splits=["b"], rate=1, file=None)
    assert cfg.train_cfg == values and cfg.train_cfg.by_epoch is False and cfg.work_dir == "5"
    merge_options(cfg, parse_options(["work_dir=None", "train_cfg.splits=b,c"]))
    assert cfg.work_dir is None and list(cfg.train_cfg.splits) == ["b", "c"]
    merge_options(cfg, parse_options(["train_cfg.splits=[007,'2024']", "train_cfg.max_iters=3e2"]))
    assert list(cfg.train_cfg.splits) == ["007", "2024"]
    assert cfg.train_cfg.max_iters == 300 and isinstance(cfg.train_cfg.max_iters, int)


@pytest.mark.parametrize(
    ("text", "message"),
    [("max_iters=abc", "expected a number as the config has, got 'abc'"),
     ("by_epoch=maybe", "expected true or false as the config has, got 'maybe'"),
     ("steps=[0", r"expected a list as the config has, got '\[0'"),
     ("steps=1;2", r"expected numbers as the config has, got '1;2'"),
     ("steps.1=2", r"expected a place from 0 to 0 of a list, got '1'"),
     ("loop=dict(a=1)", r"expected None, or values of its keys \(train_cfg.loop.KEY=VALUE\)")],
)  # fmt: skip
def test_texts_of_another_type_are_refused(text, message):
    cfg = Config(dict(train_cfg=dict(max_iters=10, by_epoch=True, steps=[1], loop=dict(a=2))))
    with pytest.raises(ConfigError, match=f"--cfg-options train_cfg.*{message}"):
        merge_options(cfg, parse_options([f"train_cfg.{text}"]))


def test_one_value_of_a_list():
    cfg = Config(dict(model=dict(betas=(0.9, 0.99), sizes=[[1, 2], [3, 4]]), hooks=[dict(a=1)]))
    texts = ["model.betas.0=-5e-1", "model.sizes.1.0=7", "hooks.0.a=2"]
    merge_options(cfg, parse_options(texts))
    assert cfg.model.betas == (-0.5, 0.99) and cfg.model.sizes == [[1, 2], [7, 4]]
    assert cfg.hooks == [dict(a=2)]


def test_a_misspelt_name_is_refused_though_a_base_has_the_right_one():
    with pytest.raises(ConfigError, match="'train_cfgs', did you mean 'train_cfg'"):
        check_config_keys(Config(dict(train_cfg=dict(), train_cfgs=dict())))
