"""The example project trains through the command that its README gives."""

import os
import subprocess
import sys

import pytest
import torch

from projects.example_project.losses import CharbonnierLoss
from tests.conftest import REPO


def test_loss_by_hand():
    loss = CharbonnierLoss(loss_weight=2.0, epsilon=4.0)
    prediction = torch.tensor([[[[3.0, 0.0]]]])
    assert loss(prediction, torch.zeros(1, 1, 1, 2)).item() == pytest.approx(2 * (5 + 4) / 2)
    mask = torch.tensor([[[True, False]]])
    assert loss(prediction, torch.zeros(1, 1, 1, 2), mask).item() == pytest.approx(10)


def test_config_trains(toytown_citygsx, tmp_path):
    command = [
        sys.executable,
        "tools/train.py",
        "projects/example_project/configs/3dgs_charbonnier_toytown_cpu.py",
        "--work-dir",
        str(tmp_path),
        "--cfg-options",
        f"data_root={toytown_citygsx}",
        "train_cfg.max_iters=5",
        "train_cfg.val_interval=5",
        "default_hooks.checkpoint.interval=5",
    ]
    paths = [str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    result = subprocess.run(
        command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert (tmp_path / "iter_5.pth").is_file()
