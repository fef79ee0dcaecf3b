"""Every shipped config builds and trains two steps; a short training learns and resumes."""

import copy
from pathlib import Path

import pytest
import torch

from mmcity.engine import launch
from mmcity.structures import read_gaussians_ply

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "citygsx"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py"))


def make_config(name, data_root, work_dir, iterations=2, **options):
    cfg = launch.load_config(CONFIGS / f"{name}.py", {"data_root": str(data_root)})
    cfg.work_dir = str(work_dir)
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.resize = None  # the tiny town is small enough
        loader.dataset.data_root = str(data_root)
    if cfg.model.anchors.default_voxel_size is not None:
        cfg.model.anchors.default_voxel_size = 4.0  # metres, unlike the published captures
    cfg.default_hooks.logger.interval = 50
    cfg.merge_from_dict(options)
    return cfg


def with_geometry_at_once(cfg):
    """All losses from the first step on, and neighbours that fit a town in metres."""
    cfg.model.objective.update(
        single_view_weight_from_iter=0,
        dpt_loss_from_iter=0,
        multi_view_weight_from_iter=0,
        multi_view_samples=500,
        multi_view_interval=1,
    )
    cfg.train_dataloader.dataset.update(
        multi_view_max_dis=200.0, multi_view_max_angle=60.0, multi_view_min_num=1
    )
    return cfg


def train(cfg):
    runner = launch.build_runner(cfg)
    runner.train()
    return runner


@pytest.mark.parametrize("name", NAMES)
def test_config_trains_two_steps(name, tiny_town, tiny_matrixcity, tmp_path):
    root = tiny_matrixcity if "matrixcity" in name else tiny_town
    cfg = with_geometry_at_once(make_config(name, root, tmp_path))
    runner = train(cfg)
    log = runner.message_hub.log_scalars
    wanted = {"l1", "ssim", "scale", "normal", "multi_view", "reprojection"}
    if "colmap" not in name or "cpu" in name:
        wanted.add("depth")
    for term in wanted:
        values = log[f"train/loss_{term}"].data[0]
        assert torch.isfinite(torch.tensor(values)).all()
    assert sum(log["train/loss_normal"].data[0]) > 0
    assert len(read_gaussians_ply(tmp_path / "scene.ply")) > 0


def test_original_values_of_the_full_size_configs():
    building = launch.load_config(CONFIGS / "citygsx_building.py")
    objective = building.model.objective
    assert (objective.depth_l1_weight_init, objective.depth_l1_weight_final) == (0.5, 0.01)
    assert objective.multi_view_weight_from_iter == 30000
    assert building.train_cfg.max_iters == 100000
    city = launch.load_config(CONFIGS / "citygsx_matrixcity.py")
    assert city.model.objective.multi_view_patch_size == 11
    assert city.train_cfg.max_iters * 8 == 150000
    assert city.train_dataloader.dataset.multi_view_max_dis == 25


@pytest.fixture(scope="module")
def trained(tiny_town, tmp_path_factory):
    """A town trained for 60 steps with growth, its config and test numbers."""
    work_dir = tmp_path_factory.mktemp("trained")
    cfg = make_config("citygsx_toytown_cpu", tiny_town, work_dir, iterations=60)
    cfg.default_hooks.growth.strategy.update(
        start=10, interval=20, success=0.05, grad_threshold=5e-5
    )
    cfg.model.anchors.coarse_iter = 20
    cfg.default_hooks.checkpoint.interval = 30
    runner = train(cfg)
    return cfg, runner


def test_training_learns_and_grows(trained):
    cfg, runner = trained
    losses = runner.message_hub.log_scalars["train/loss_l1"].data[0]
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])
    testing = copy.deepcopy(cfg)
    launch.apply_checkpoint(testing, str(Path(cfg.work_dir) / "iter_60.pth"))
    numbers = launch.build_runner(testing).test()
    assert numbers["test/n_images"] == 3
    assert numbers["test/psnr"] > 12


def test_a_resumed_training_ends_in_the_same_scene(trained, tmp_path):
    cfg, runner = trained
    again = copy.deepcopy(cfg)
    again.work_dir = str(tmp_path)
    launch.apply_resume(again, str(Path(cfg.work_dir) / "iter_30.pth"))
    resumed = train(again)
    expected = runner.model.state_dict()
    actual = resumed.model.state_dict()
    assert len(resumed.model.anchors) == len(runner.model.anchors)
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name
