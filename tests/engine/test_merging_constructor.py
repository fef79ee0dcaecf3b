"""Few parameter groups, and runs that were saved with one per parameter go on."""

import copy

import pytest
import torch
from mmengine.optim import DefaultOptimWrapperConstructor, build_optim_wrapper
from mmengine.optim.scheduler import CosineRestartLR, LinearLR
from mmengine.registry import DefaultScope
from torch import nn

from mmcity.engine.launch import load_config
from mmcity.engine.optim import MergingOptimWrapperConstructor, merge_saved_groups
from mmcity.utils import register_all_modules
from tests.models.streamvggt.tiny import tiny_model

WRAPPER = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.1, weight_decay=0.1))
PARAMWISE = dict(
    norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={"head": dict(lr_mult=0.3)}
)  # fmt: skip


@pytest.fixture(autouse=True)
def scope():
    register_all_modules()
    with DefaultScope.overwrite_default_scope("mmcity"):
        yield


def build(constructor):
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {"body": nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), "head": nn.Linear(3, 1)}
    )
    wrapper = constructor(copy.deepcopy(WRAPPER), PARAMWISE)(model)
    schedulers = [
        LinearLR(wrapper, start_factor=0.1, by_epoch=False, end=3),
        CosineRestartLR(
            wrapper, by_epoch=False, begin=3, periods=[5, 9], restart_weights=[1.0, 0.5],
            eta_min_ratio=0.1,
        ),
    ]  # fmt: skip
    return model, wrapper, schedulers


def run(model, wrapper, schedulers, steps):
    for step in steps:
        data = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        wrapper.update_params(model["head"](model["body"](data)).square().mean())
        for scheduler in schedulers:
            scheduler.step()


def test_a_run_saved_with_a_group_per_parameter_goes_on():
    old = build(DefaultOptimWrapperConstructor)
    run(*old, range(5))
    model, wrapper, schedulers = old
    checkpoint = copy.deepcopy(
        {
            "state_dict": model.state_dict(),
            "optimizer": wrapper.state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in schedulers],
        }
    )
    assert len(checkpoint["optimizer"]["param_groups"]) == 6
    run(*old, range(5, 12))

    new = model, wrapper, schedulers = build(MergingOptimWrapperConstructor)
    assert [len(group["params"]) for group in wrapper.optimizer.param_groups] == [1, 3, 2]
    merge_saved_groups(checkpoint, wrapper)
    model.load_state_dict(checkpoint["state_dict"])
    wrapper.load_state_dict(checkpoint["optimizer"])
    for scheduler, state in zip(schedulers, checkpoint["param_schedulers"]):
        scheduler.load_state_dict(state)
    run(*new, range(5, 12))

    for name, expected in old[0].state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], expected)
    rates = [group["lr"] for group in wrapper.optimizer.param_groups]
    assert rates == [old[1].optimizer.param_groups[i]["lr"] for i in (0, 1, 4)]
    assert wrapper.get_lr()["base_lr"] == old[1].get_lr()["base_lr"]


def test_groups_that_fit_stay_as_they_are():
    wrapper = build(MergingOptimWrapperConstructor)[1]
    checkpoint = {"optimizer": wrapper.state_dict()}
    expected = copy.deepcopy(checkpoint)
    merge_saved_groups(checkpoint, wrapper)
    assert checkpoint == expected


def test_several_optimizers_of_one_run():
    def build_parts():
        torch.manual_seed(0)
        parts = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.LayerNorm(2)})
        part = dict(copy.deepcopy(WRAPPER), paramwise_cfg=PARAMWISE)
        cfg = dict(constructor="MultiOptimWrapperConstructor", a=part, b=copy.deepcopy(part))
        return build_optim_wrapper(parts, cfg)

    wrapper = build_parts()
    assert [len(part.optimizer.param_groups) for part in wrapper.values()] == [2, 1]
    state = {name: part.optimizer.state_dict() for name, part in wrapper.items()}
    group = state["b"]["param_groups"][0]
    apart = [{**group, "params": [number]} for number in group["params"]]
    state["b"]["param_groups"] = apart
    merge_saved_groups({"optimizer": state}, wrapper)
    assert [group["params"] for group in state["b"]["param_groups"]] == [[0, 1]]


@pytest.mark.parametrize("config", ["streamvggt_1b_distill", "streamvggt_toytown_cpu"])
def test_training_of_streamvggt_has_few_groups(config):
    cfg = load_config(f"configs/streamvggt/{config}.py")
    model = tiny_model()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert len(wrapper.optimizer.param_groups) <= 3
    count = sum(len(group["params"]) for group in wrapper.optimizer.param_groups)
    assert count == len(list(model.parameters()))
