"""The device that commands run on."""

import importlib

import pytest
import torch

from mmcity.apis.occupancy.foundation_maps import providers
from mmcity.apis.streaming import generate_depth
from mmcity.utils.device import device_at_hand


@pytest.fixture
def on_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_cuda_where_there_is_one_and_what_is_named_else(monkeypatch):
    assert device_at_hand("cuda:3") == "cuda:3"
    assert device_at_hand(torch.device("cpu")) == "cpu"
    for available, wanted in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert device_at_hand() == wanted


def test_targets_and_depth_are_made_on_the_device_at_hand(on_cuda, monkeypatch, tmp_path):
    seen = []

    def factory(options, device):
        seen.append(device)

    monkeypatch.setitem(providers._FACTORIES, ("depth", "toytown"), factory)
    providers.make_provider("depth", "toytown")

    class Estimator:
        def __init__(self, weights, device):
            seen.append(device_at_hand(device))

        def write(self, images, out, report):
            return []

    module = importlib.import_module("mmcity.apis.streaming.generate_depth")
    monkeypatch.setattr(module, "DepthAnythingEstimator", Estimator)
    generate_depth(tmp_path, "depth_anything", weights=tmp_path)
    assert seen == ["cuda", "cuda"]
