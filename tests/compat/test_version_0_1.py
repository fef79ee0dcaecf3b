"""Checkpoints, configs and localiser files of version 0.1 go on working.

``tests/data/version_0_1`` was written by that version: two configs of users, with the checkpoint
of iteration 3 of a run and sums of its tensors at iteration 6, the keys and shapes of models of
the configs, and a localiser file.
"""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope

from mmcity.apis import load_localizer
from mmcity.datasets.transforms.posed_images import read_image
from mmcity.engine.launch import load_config, train
from mmcity.registry import MODELS
from mmcity.toytown import ToytownConfig
from mmcity.toytown.writers import write_citygsx
from tests.devices import DEVICE

REPO = Path(__file__).resolve().parents[2]
STORED = REPO / "tests" / "data" / "version_0_1"
KEYS = json.loads(gzip.decompress((STORED / "state_dict_keys.json.gz").read_bytes()))
SUMS = json.loads((STORED / "after_6_iterations.json").read_text())


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """The scene that the stored runs were trained on."""
    return write_citygsx(
        tmp_path_factory.mktemp("town") / "citygsx",
        ToytownConfig(seed=3, blocks=(1, 1)),
        image_size=(96, 72),
        num_images=8,
        num_points=400,
    )


@pytest.mark.parametrize("name", sorted(SUMS))
def test_a_run_goes_on_to_the_same_scene(name, town, tmp_path):
    shutil.copy(STORED / f"{name}.pth", tmp_path / "iter_3.pth")
    places = ["train", "val", "test"]
    options = {f"{place}_dataloader.dataset.data_root": str(town) for place in places}

    last = train(
        STORED / f"{name}.py",
        work_dir=tmp_path / "run",
        resume=str(tmp_path / "iter_3.pth"),
        cfg_options={**options, "experiment_name": f"version_0_1_{name}"},
    )

    state = torch.load(last, weights_only=True)["state_dict"]
    found = {k: v.double().abs().sum().item() for k, v in state.items() if v.is_floating_point()}
    assert found == pytest.approx(SUMS[name], rel=1e-4, abs=1e-6)


def without_weights(cfg):
    """A model config that reads no files."""
    for value in cfg.values() if isinstance(cfg, dict) else cfg:
        if isinstance(value, (dict, list, tuple)):
            without_weights(value)
    if isinstance(cfg, dict):
        cfg.pop("init_cfg", None)
    return cfg


def build(path: str) -> torch.nn.Module:
    cfg = load_config(REPO / path)
    init_default_scope("mmcity")
    try:
        with torch.device("meta"):
            return MODELS.build(without_weights(cfg.model.copy()))
    except (NotImplementedError, RuntimeError):  # start values that need real tensors
        return MODELS.build(without_weights(cfg.model.copy()))


@pytest.mark.parametrize("path", sorted(KEYS))
def test_state_dict_has_the_same_keys_and_shapes(path):
    state = build(path).state_dict()

    lazy = torch.nn.parameter.UninitializedTensorMixin
    found = {k: None if isinstance(v, lazy) else list(v.shape) for k, v in state.items()}

    assert found == KEYS[path]


def test_localizer_file_is_read(town, tmp_path):
    for file in ("user_3dgs.pth", "localizer.json"):
        shutil.copy(STORED / file, tmp_path)
    shutil.copytree(town, tmp_path / "citygsx")
    config = (STORED / "user_3dgs.py").read_text().replace("../../..", str(REPO))
    (tmp_path / "user_3dgs.py").write_text(config)

    localizer = load_localizer(tmp_path / "localizer.json", device=DEVICE)
    picture = read_image(next((town / "val" / "rgbs").iterdir()))
    result = localizer.localize(picture, name="query")

    assert result.name == "query" and result.camera is not None
