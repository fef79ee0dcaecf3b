"""Losses reach the log with one wait for the device."""

from types import SimpleNamespace

import torch
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS, DefaultScope

import mmcity.engine.hooks  # noqa: F401
from mmcity.engine.hooks import RuntimeInfoHook
from tests.devices import on_the_cpu


@on_the_cpu("how the suite places tensors calls methods twice; the rig counts waits")
def test_all_losses_are_read_at_once(monkeypatch):
    hub = MessageHub.get_instance("runtime_info_hook")
    waits = []
    for name in ("tolist", "item", "__float__"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda *a, f=original, n=name: (waits.append(n), f(*a))[1]
        )
    outputs = {f"loss_{n}": torch.tensor(n / 3) for n in range(5)}
    runner = SimpleNamespace(message_hub=hub, rank=0, iter=4, max_iters=10)
    RuntimeInfoHook().after_train_iter(runner, 0, outputs=outputs)
    assert waits == ["tolist"]
    assert hub.get_scalar("train/loss_2").current() == outputs["loss_2"].item()


def test_runners_of_the_scope_take_it():
    with DefaultScope.overwrite_default_scope("mmcity"):
        assert type(HOOKS.build(dict(type="RuntimeInfoHook"))) is RuntimeInfoHook
