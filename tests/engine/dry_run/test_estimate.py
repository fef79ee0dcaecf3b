"""What configs ask of GPUs, against sums worked out by hand."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from mmcity.engine.config_check import ConfigError
from mmcity.engine.dry_run import Memory, dry_run, first_setting, parse_memory, sizes_of
from mmcity.engine.dry_run.measure import counting
from mmcity.engine.launch import load_config
from mmcity.registry import MODELS
from mmcity.structures import Cameras

GAUSSIANS = "configs/gaussian_splatting/3dgs_colmap.py"
VAE = "configs/dynamiccity/dynamiccity_vae_toytown_cpu.py"
DISTILL = "configs/streamvggt/streamvggt_1b_distill.py"


def test_parameters_and_optimizer_are_those_of_the_model():
    model = MODELS.build(load_config(VAE).model)
    weights = sum(p.numel() * 4 for p in model.parameters())
    found = dry_run(VAE)
    buffers = sum(b.nbytes for b in model.buffers())
    assert found.training.parameters == weights + buffers
    assert found.training.optimizer == 2 * weights  # Adam: two moments
    assert found.prediction.parameters == weights + buffers


def test_scene_has_the_bytes_of_its_gaussians():
    count = 6_000_000
    found = dry_run(GAUSSIANS, scene_size=count, image_size=(1600, 1200), seen=0.3)
    # means 3, scales 3, quaternion 4, opacity 1, 48 coefficients of colours
    table = 59 * 4 * count
    assert abs(found.training.parameters - table) < 20_000  # training cameras beside it
    assert found.training.optimizer == 2 * table
    assert 0.2e9 < found.training.activations < 2e9
    assert found.export_bytes == 62 * 4 * count
    assert found.checkpoint_bytes == pytest.approx(3 * table, rel=1e-3)
    assert found.verdict == "fits"
    assert replace(found, gpu_memory=2**30).verdict == "does not fit"


def test_anchors_are_divided_among_the_gpus():
    config, options = "configs/citygsx/citygsx_building.py", dict(image_size=(640, 480))
    one = dry_run(config, scene_size=100_000, **options)
    two = dry_run(config, scene_size=100_000, gpus=2, **options)
    anchor = (3 + 10 * 3 + 32 + 6) * 4
    assert one.training.optimizer - two.training.optimizer == 2 * anchor * 50_000
    assert two.training.peak < 0.7 * one.training.peak


def test_replicated_networks_keep_all_and_add_buckets():
    one, two = dry_run(VAE), dry_run(VAE, gpus=2)
    assert two.training.parameters == one.training.parameters
    assert two.training.optimizer == one.training.optimizer
    assert two.training.activations > one.training.activations


def test_attention_that_drops_weights_keeps_no_matrix_of_them():
    tokens = torch.zeros(1, 1, 4096, 16, requires_grad=True)
    with counting({}) as (meter, _):
        F.scaled_dot_product_attention(tokens, tokens, tokens, dropout_p=0.1).sum().backward()
    assert meter.peak < 4096 * 4096


def test_predicted_cameras_may_be_any():
    with counting({}):
        Cameras(torch.diag(torch.tensor([-1.0, 1.0, 1.0])), torch.eye(4), 8, 8)


@pytest.mark.parametrize(("suite", "frames"), [("monodepth", 1), ("video_depth", 10)])
def test_frames_are_predicted_as_the_suite_does(suite, frames):
    cfg = load_config(f"configs/streamvggt/eval_{suite}.py")
    assert sizes_of(cfg, training=False).frames == frames


def test_batch_size_replaces_that_of_the_config():
    one, four = dry_run(VAE), dry_run(VAE, batch_size=4)
    assert four.sizes.batch == 4
    assert 3 < four.training.activations / one.training.activations < 5


def test_report_names_all_parts():
    text = str(dry_run(VAE, gpu_memory="1GB"))
    for part in ("parameters", "gradients", "optimizer", "activations", "peak", "on disk"):
        assert part in text
    assert "does not fit on a GPU of 1 GB" in text
    assert "turn first: " in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(gpu_memory="much"), "--gpu-memory: expected a size such as 24GB, got 'much'"),
        (dict(gpu_memory="0GB"), "--gpu-memory: expected a size"),
        (dict(gpus=0), "--gpus: expected a whole number from 1 on, got 0"),
        (dict(batch_size=-1), "--batch-size: expected a whole number from 1 on, got -1"),
        (dict(seen=2.0), "--seen: expected a share above 0, at most 1, got 2.0"),
        (dict(image_size=(0, 5)), "--image-size: expected width and height"),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        dry_run(VAE, **options)


def test_unknown_configs_and_models_are_refused():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        dry_run("nowhere")
    with pytest.raises(ConfigError, match=r"model.type: expected one of .*got 'ImgDataPrep"):
        dry_run(Config(dict(model=dict(type="ImgDataPreprocessor"))))


def test_sizes_of_memory():
    assert parse_memory("24GB") == parse_memory("24 GiB") == parse_memory("24g") == 24 << 30
    assert parse_memory("512MB") == 1 << 29


FULL = Memory(parameters=10, gradients=5, optimizer=10, activations=75)
HELD = Memory(parameters=40, gradients=20, optimizer=30, activations=10)


def test_advice_follows_what_fills_the_memory():
    distill = load_config(DISTILL)
    assert first_setting(distill, FULL).option == ("model.aggregator.gradient_checkpointing=True")
    assert first_setting(distill).option == "model.aggregator.gradient_checkpointing=True"
    assert "FullyShardStrategy" in first_setting(distill, HELD).option
    fully = load_config("configs/streamvggt/streamvggt_1b_distill_fsdp.py")
    assert first_setting(fully, HELD, gpus=4).option == "--gpus 8"
    dit = load_config("configs/dynamiccity/dynamiccity_dit_carlasc.py")
    assert "train_dataloader.batch_size=8" in first_setting(dit, FULL).option
    vae = load_config(VAE, {"model.with_checkpoint": True})
    assert first_setting(vae, FULL).option == "--amp"
    mcmc = load_config("configs/gaussian_splatting/3dgs_mcmc_colmap.py")
    assert first_setting(mcmc, HELD).option == (
        "default_hooks.growth.strategy.max_gaussians=500000"
    )
    anchors = load_config("configs/citygsx/citygsx_matrixcity.py")
    assert "share the anchors" in first_setting(anchors, HELD).option
    assert first_setting(anchors, FULL).option == "train_dataloader.batch_size=4"


def test_dry_run_leaves_no_trace():
    state = torch.get_rng_state()
    config = load_config(VAE)
    before = config.pretty_text
    dry_run(config)
    assert config.pretty_text == before
    assert torch.nn.functional.dropout.__module__ == "torch.nn.functional"
    assert len(state) == len(torch.get_rng_state())
