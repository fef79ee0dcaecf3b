"""Schedulers that carry functions are saved and resumed as any other."""

import torch
from mmengine.optim.scheduler import OneCycleLR

from mmcity.engine.hooks import CityCheckpointHook


def build():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    return optimizer, OneCycleLR(optimizer, eta_max=0.5, total_steps=20, by_epoch=False)


def run(optimizer, scheduler, steps):
    rates = []
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_one_cycle_resumes(tmp_path):
    optimizer, scheduler = build()
    expected = run(optimizer, scheduler, 15)
    optimizer, scheduler = build()
    run(optimizer, scheduler, 7)
    checkpoint = {
        "param_schedulers": [scheduler.state_dict()],
        "optimizer": optimizer.state_dict(),
    }
    CityCheckpointHook(interval=1).before_save_checkpoint(None, checkpoint)
    torch.save(checkpoint, tmp_path / "file.pth")
    loaded = torch.load(tmp_path / "file.pth", weights_only=True)
    optimizer, scheduler = build()
    optimizer.load_state_dict(loaded["optimizer"])
    scheduler.load_state_dict(loaded["param_schedulers"][0])
    assert run(optimizer, scheduler, 8) == expected[7:]
