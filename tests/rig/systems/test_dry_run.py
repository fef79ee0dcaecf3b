"""A dry run tells what real steps on the device take."""

import contextlib
import gc
import math

import pytest
import torch
import torch.nn.functional as F

from mmcity.engine.dry_run import (
    Memory,
    MemoryMeter,
    measure,
    measure_prediction,
    measure_training,
    sizes_of,
)
from mmcity.engine.launch import load_config

#: Three configs of each system, with sizes that a CPU computes in seconds.
SMALL_VGGT = {
    "model.aggregator.img_size": 56, "model.aggregator.embed_dim": 64,
    "model.aggregator.depth": 4, "model.aggregator.num_heads": 4,
    "model.aggregator.dino_depth": 2, "model.aggregator.dino_heads": 4,
    "model.camera_head.num_heads": 4, "model.camera_head.trunk_depth": 2,
    "model.depth_head.features": 16, "model.depth_head.out_channels": (16, 16, 32, 32),
    "model.depth_head.layers": (0, 1, 2, 3), "model.point_head.features": 16,
    "model.point_head.out_channels": (16, 16, 32, 32), "model.point_head.layers": (0, 1, 2, 3),
    "model.track_head.features": 16, "model.track_head.out_channels": (16, 16, 32, 32),
    "model.track_head.layers": (0, 1, 2, 3), "model.track_head.hidden_size": 32,
    "model.track_head.num_heads": 4, "model.track_head.depth": 2,
    "model.track_head.corr_levels": 3, "model.track_head.num_virtual_tracks": 4,
}  # fmt: skip
SMALL_TEACHER = {key.replace("model", "model.teacher", 1): v for key, v in SMALL_VGGT.items()}
SMALL_GAUSSTR = {
    "model.num_queries": 16, "model.gauss_head.reduce_dims": 16,
    "model.gauss_head.voxelizer.voxel_size": 1.6, "model.decoder.num_layers": 1,
    "train_dataloader.batch_size": 1, "test_dataloader.batch_size": 1,
}  # fmt: skip
SMALL_FEATUP = {
    "model.gauss_head.image_shape": (72, 128), "model.gauss_head.segment_head.input_dim": 16,
}  # fmt: skip
SMALL_TALK2DINO = {"model.gauss_head.image_shape": (56, 112), "model.backbone.depth": 2}
#: Three configs of each system, with sizes that a CPU computes in seconds.
CONFIGS = {
    "gaussian_splatting/3dgs_toytown_cpu": (dict(count=4000), (240, 180), {}),
    "gaussian_splatting/3dgs_colmap_cpu": (dict(count=4000), (240, 180), {}),
    "gaussian_splatting/3dgs_colmap": (dict(count=8000), (320, 240), {}),
    "citygsx/citygsx_toytown_cpu": (dict(count=2000), (160, 120), {}),
    "citygsx/citygsx_colmap_cpu": (dict(count=2000), (160, 120), {}),
    "citygsx/citygsx_building": (dict(count=1000), (640, 480), {}),
    "rap/rap_toytown_cpu": ({}, None, {}),
    "rap/rap_map_toytown_cpu": (dict(count=2000), (240, 180), {}),
    "rap/rap_7scenes_chess": ({}, (320, 240), {"train_dataloader.batch_size": 2}),
    "gausstr/gausstr_toytown_cpu": (
        {},
        None,
        {"model.num_queries": 64, "model.gauss_head.voxelizer.voxel_size": 1.6},
    ),
    "gausstr/gausstr_featup": ({}, None, {**SMALL_GAUSSTR, **SMALL_FEATUP}),
    "gausstr/gausstr_talk2dino": ({}, None, {**SMALL_GAUSSTR, **SMALL_TALK2DINO}),
    "streamvggt/streamvggt_toytown_cpu": ({}, None, {}),
    "streamvggt/vggt_1b_finetune": ({}, (56, 42), SMALL_VGGT),
    "streamvggt/streamvggt_1b_distill": ({}, (56, 42), {**SMALL_VGGT, **SMALL_TEACHER}),
    "dynamiccity/dynamiccity_vae_toytown_cpu": ({}, None, {}),
    "dynamiccity/dynamiccity_dit_toytown_cpu": ({}, None, {"train_dataloader.batch_size": 4}),
    "dynamiccity/occ_feature_net_toytown_cpu": ({}, None, {}),
}
TOLERANCE = 0.1


def reset_both(meter, reset=MemoryMeter.reset_peak):
    torch.cuda.reset_peak_memory_stats()
    reset(meter)


@contextlib.contextmanager
def on_the_device(kept):
    """Real steps."""
    with MemoryMeter("cuda") as meter:
        yield meter, "cuda"


@pytest.mark.parametrize("training", [True, False], ids=["training", "prediction"])
@pytest.mark.parametrize("name", CONFIGS)
def test_dry_run_tells_the_memory_of_a_real_step(name, training, monkeypatch):
    monkeypatch.setenv("MMCITY_RANDOM_WEIGHTS", "1")  # numbers do not change the memory
    scene, image_size, changes = CONFIGS[name]
    cfg = load_config(f"configs/{name}.py")
    cfg.merge_from_dict(changes)
    sizes = sizes_of(cfg, training, image_size=image_size)

    def measured() -> Memory:
        torch.manual_seed(0)
        if training:
            return measure_training(cfg, sizes, **scene).memory
        return measure_prediction(cfg, sizes, **scene)

    dry = measured()
    monkeypatch.setattr(measure, "counting", on_the_device)
    monkeypatch.setattr(MemoryMeter, "reset_peak", reset_both)
    # The device has no fused attention that drops weights, as CUDA has.
    monkeypatch.setattr(F, "scaled_dot_product_attention", measure._attention)
    gc.collect()  # what tests before left behind
    before = torch.cuda.memory_allocated()
    real = measured()
    peak = torch.cuda.max_memory_allocated() - before

    assert math.isclose(dry.peak, peak, rel_tol=TOLERANCE), (dry, real)
    assert (dry.parameters, dry.optimizer) == (real.parameters, real.optimizer)
