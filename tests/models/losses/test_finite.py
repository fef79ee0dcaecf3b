"""Losses that are not numbers end a training."""

import pytest
import torch

from mmcity.models.losses import check_finite
from tests.devices import on_the_cpu


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_message_names_picture_and_term(value):
    losses = {"a.png: loss_l1": torch.tensor(0.5), "b.png: loss_depth": torch.tensor(value)}
    with pytest.raises(FloatingPointError, match=f"^b.png: loss_depth: .*, got {value}: look"):
        check_finite(losses)


@on_the_cpu("how the suite places tensors calls methods twice; the rig counts waits")
def test_the_host_waits_once_for_all_losses(monkeypatch):
    waits = []
    for name in ("tolist", "item", "__bool__", "__float__"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda *a, f=original, n=name: (waits.append(n), f(*a))[1]
        )
    check_finite({str(n): torch.tensor(float(n), requires_grad=True) for n in range(5)})
    assert len(waits) == 1
