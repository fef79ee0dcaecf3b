"""Frozen networks want weights that somebody has loaded."""

import copy

import pytest
import torch
from mmengine.runner.checkpoint import load_checkpoint
from torch import nn

from mmcity.models.layers.frozen import MissingWeightsError, check_loaded, freeze


def network():
    return freeze(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))


def test_freeze_ends_training():
    frozen = network()
    assert not frozen.training
    assert not any(p.requires_grad for p in frozen.parameters())


def test_random_numbers_are_refused_and_the_config_key_named():
    with pytest.raises(MissingWeightsError, match=r"model\.backbone: .* 4 of 4 .*init_cfg"):
        check_loaded(network(), "model.backbone")


def test_part_of_the_weights_is_not_enough():
    frozen = network()
    frozen.load_state_dict({"0.weight": torch.zeros(3, 2)}, strict=False)
    with pytest.raises(MissingWeightsError, match="3 of 4 parameters, such as 0.bias"):
        check_loaded(frozen, "model.backbone")


@pytest.mark.parametrize("how", ["alone", "inside", "mmengine"])
def test_loaded_weights_pass(tmp_path, how):
    frozen = network()
    if how == "alone":
        frozen.load_state_dict(network().state_dict())
    elif how == "inside":
        whole = nn.ModuleDict({"backbone": frozen})
        whole.load_state_dict(nn.ModuleDict({"backbone": network()}).state_dict())
    else:
        torch.save(network().state_dict(), tmp_path / "weights.pth")
        load_checkpoint(frozen, str(tmp_path / "weights.pth"), strict=True)
    check_loaded(frozen, "model.backbone")
    check_loaded(copy.deepcopy(frozen), "model.backbone")


def test_user_may_go_on_with_random_numbers(monkeypatch):
    monkeypatch.setenv("MMCITY_RANDOM_WEIGHTS", "1")
    check_loaded(network(), "model.backbone")


def test_trained_networks_pass():
    check_loaded(nn.Linear(2, 2), "model.head")
