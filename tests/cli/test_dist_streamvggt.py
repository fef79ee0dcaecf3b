"""Distillation on two CPU processes takes the steps that one process takes."""

import socket

import numpy as np
import pytest
import torch

from tests.datasets.sequence_writers import Scene
from tests.devices import need_devices
from tests.models.streamvggt.tiny import SIZES

from .conftest import REPO

CONFIG = """
_base_ = [{base!r}]
sizes = {sizes!r}
loss = dict(type="DistillationLoss", alignment="none", log_depth=True)
model = dict(
    type="StreamVGGT", **sizes, loss=loss, teacher=dict(type="VGGT", **sizes),
    frozen_parts=("aggregator.patch_embed",),
)
train_dataloader = dict(
    batch_size={batch},
    num_workers=0,
    sampler=dict(type="MixtureSampler", batch_size={batch}),
    dataset=dict(
        type="MixtureDataset",
        quotas=[6],
        datasets=[
            dict(
                type="ClipDataset", layout="toytown", data_root={data!r}, num_views=3,
                resolutions=[(42, 28)], crop_jitter=0,
            )
        ],
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=3)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=1e-3))
find_unused_parameters = True
default_hooks = dict(
    checkpoint=dict(_delete_=True, type="CheckpointHook", by_epoch=False, interval=1)
)
"""
STRATEGIES = {
    "ddp": "",
    "ddp_strategy": """
runner_type = "FlexibleRunner"
strategy = dict(
    type="DDPStrategy",
    model_wrapper=dict(type="MMDistributedDataParallel", find_unused_parameters=True),
)
""",
    "fully_shard_strategy": """
runner_type = "FlexibleRunner"
strategy = dict(type="FullyShardStrategy")
""",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    scene = Scene(5)
    for number in range(2):
        folder = root / f"{number:03d}_walk"
        for i in range(5):
            scene.image(folder / "rgb" / f"{i:06d}.png", i)
            scene.npy(folder / "depth" / f"{i:06d}.npy", i)
        np.savetxt(folder / "poses.txt", scene.poses.reshape(-1, 16))
        np.savetxt(folder / "intrinsics.txt", scene.K)
    return root


def write_config(path, data, batch, extra=""):
    base = str(REPO / "configs/_base_/default_runtime.py")
    text = CONFIG.format(base=base, sizes=SIZES, batch=batch, data=str(data))
    path.write_text(text + extra)
    return path


@pytest.fixture(scope="module")
def one_process(data, tmp_path_factory):
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("one")
    config = write_config(folder / "one.py", data, batch=2)
    command = [sys.executable, REPO / "tools/train.py", config, "--work-dir", folder / "work"]
    subprocess.run(command, check=True, cwd=folder, capture_output=True, timeout=600)
    return [load(folder / f"work/iter_{number}.pth") for number in (1, 3)]


def load(path):
    state = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    return {name.removeprefix("module."): value for name, value in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", STRATEGIES)
def test_two_processes_equal_one(run_command, tmp_path, data, one_process, kind):
    need_devices(2)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    config = write_config(tmp_path / "two.py", data, batch=1, extra=STRATEGIES[kind])
    run_command(
        REPO / "tools/dist_train.sh", config, 2, "--work-dir", tmp_path / "work",
        env={"PORT": port},
    )  # fmt: skip
    early, late = one_process
    state = load(tmp_path / "work/iter_3.pth")
    assert state.keys() == late.keys()
    error = sum(float((state[name] - late[name]).square().sum()) for name in late)
    moved = sum(float((late[name] - early[name]).square().sum()) for name in late)
    assert moved > 0
    # Normals of nearly flat points amplify rounding; without averaging this would be about 1.
    assert (error / moved) ** 0.5 < 1e-2
