"""Configs of StreamVGGT: they load, and name what exists."""

from pathlib import Path

import pytest
import torch

from mmcity.datasets.sequences.train_layouts import TRAIN_LAYOUTS
from mmcity.engine.launch import load_config
from mmcity.registry import DATASETS, METRICS, MODELS

FOLDER = Path("configs/streamvggt")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda p: p.stem)
def test_config_loads(path):
    cfg = load_config(path)
    assert MODELS.get(cfg.model.type) is not None
    for name in ("train_dataloader", "test_dataloader"):
        if cfg.get(name):
            assert DATASETS.get(cfg[name].dataset.type) is not None
    evaluators = cfg.get("test_evaluator") or []
    for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
        METRICS.build(evaluator)
    if path.stem.startswith("eval_") and path.stem != "eval_base":
        assert cfg.model.predict_stream.policy == "full"


@pytest.mark.parametrize("name", ["vggt_1b", "streamvggt_1b"])
def test_full_size_config_has_the_published_parameters(name):
    cfg = load_config(FOLDER / f"{name}.py")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) == 1_256_537_516
    assert len(model.state_dict()) == 1797


def test_recipe():
    cfg = load_config(FOLDER / "streamvggt_1b_distill.py")
    mixture = cfg.train_dataloader.dataset.datasets
    assert len(mixture) == 15
    weights = cfg.train_dataloader.sampler.probabilities
    assert [w / sum(weights) for w in weights[:1] + weights[-1:]] == [2 / 15, 1 / 15]
    assert sum(TRAIN_LAYOUTS[part.layout].clips for part in mixture) == 39_000
    assert cfg.train_cfg.max_epochs == 10
    assert cfg.optim_wrapper.optimizer.lr == 1e-5
    assert cfg.model.teacher.type == "VGGT" and cfg.model.type == "StreamVGGT"
