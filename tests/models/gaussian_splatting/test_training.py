"""Training, testing, dumping and resuming a scene through the Runner."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from PIL import Image

from mmcity.apis import SceneRenderer
from mmcity.engine import launch
from mmcity.evaluation.functional import psnr
from mmcity.registry import HOOKS
from mmcity.structures import read_gaussians_ply
from tests.devices import DEVICE

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "gaussian_splatting"


def make_config(town, work_dir, iterations=100, config="3dgs_toytown_cpu.py", **options):
    """The shipped config, shortened."""
    cfg = launch.load_config(CONFIGS / config, {"data_root": str(town)})
    cfg.work_dir = str(work_dir)
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    for scheduler in cfg.param_scheduler:
        scheduler.end = iterations
    cfg.model.resolution_schedule = None
    cfg.default_hooks.logger.interval = 50
    cfg.merge_from_dict(options)
    return cfg


def densify(cfg, **strategy):
    """Give the densification hook of a config another strategy."""
    cfg.default_hooks.growth.strategy = strategy
    return cfg


def train(cfg):
    runner = launch.build_runner(cfg)
    runner.train()
    return runner


def test(cfg, checkpoint):
    cfg = copy.deepcopy(cfg)
    launch.apply_checkpoint(cfg, str(checkpoint))
    return launch.build_runner(cfg).test()


test.__test__ = False  # a helper, not a test


@pytest.fixture(scope="module")
def trained(tiny_town, tmp_path_factory):
    """A town trained for 100 iterations, its config and its test numbers."""
    work_dir = tmp_path_factory.mktemp("trained")
    cfg = make_config(tiny_town, work_dir)
    first = launch.build_runner(make_config(tiny_town, work_dir / "start", iterations=1))
    first.train()
    start = test(cfg, work_dir / "start" / "iter_1.pth")
    train(cfg)
    launch.apply_dump(cfg, str(work_dir / "results"))
    return cfg, start, test(cfg, work_dir / "iter_100.pth")


def test_a_hundred_iterations_raise_the_psnr_of_unseen_views(trained):
    _, start, end = trained
    assert end["test/n_images"] == 3
    assert end["test/size"] == "96x72"
    assert end["test/psnr"] > 18.5
    assert end["test/psnr"] > start["test/psnr"] + 1


def test_dumped_results_hold_what_the_metric_scored(trained):
    cfg, _, numbers = trained
    folder = Path(cfg.work_dir) / "results"
    files = sorted(folder.glob("*.npz"))
    assert len(files) == 3
    scores = []
    for file in files:
        with np.load(file, allow_pickle=False) as data:
            scores.append(float(data["metrics.psnr"]))
            render, photograph = (torch.tensor(data[k]) for k in ("pred_image", "gt_image"))
            assert psnr(render, photograph).item() == pytest.approx(scores[-1], abs=1e-6)
            assert data["pred_depth"].shape == (72, 96)
            assert data["camera.viewmats"].shape == (1, 4, 4)
            assert str(data["meta.img_name"]).startswith(file.stem)
            assert int(data["meta.n_gaussians"]) > 0
        written = np.asarray(Image.open(folder / f"{file.stem}_render.png"), np.float64) / 255
        assert np.abs(written - render.permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6
    assert np.mean(scores) == pytest.approx(numbers["test/psnr"], abs=1e-6)


def test_dumped_ply_and_checkpoint_render_the_same(trained, tmp_path):
    cfg, _, _ = trained
    work_dir = Path(cfg.work_dir)
    from_checkpoint = SceneRenderer(cfg, work_dir / "iter_100.pth", device=DEVICE)
    cameras = from_checkpoint.training_cameras[:1]
    from_ply = SceneRenderer(cfg, work_dir / "scene.ply", device=DEVICE)
    # A PLY holds the Gaussians, not the sky. It holds all degrees of the harmonics; after 100
    # iterations degree 0 is in use, and the higher ones are still zero.
    from_ply.model.renderer.load_state_dict(from_checkpoint.model.renderer.state_dict())
    first, second = from_checkpoint(cameras)["rgb"][0], from_ply(cameras)["rgb"][0]
    assert torch.allclose(first, second, atol=2e-4)
    assert len(read_gaussians_ply(work_dir / "scene.ply")) == len(from_checkpoint.model.splats)


@HOOKS.register_module(force=True)
class StopTrainingHook(Hook):
    """Ends a run as a kill would: right after an iteration, without any farewell."""

    priority = "LOWEST"

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            raise KeyboardInterrupt


STRATEGIES = {
    "default": dict(
        type="DefaultStrategy", refine_start=4, refine_every=5, grow_grad2d=1e-5, reset_every=12,
        refine_stop=100,
    ),
    "mcmc": dict(
        type="MCMCStrategy", refine_start=4, refine_every=5, refine_stop=100, max_gaussians=3000
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_resumed_runs_end_bit_for_bit_like_uninterrupted_ones(name, tiny_town, tmp_path):
    def config(folder):
        cfg = make_config(tiny_town, tmp_path / folder, iterations=20)
        cfg.default_hooks.checkpoint.interval = 7  # between two edits of the scene
        cfg.model.exposure = dict(type="AffineExposure")
        return densify(cfg, **STRATEGIES[name])

    train(config("whole"))
    for at in (10, 18):
        cfg = config("cut")
        launch.apply_resume(cfg, "auto")
        cfg.default_hooks.stop = dict(type="StopTrainingHook", at=at)
        with pytest.raises(KeyboardInterrupt):
            train(cfg)
    cfg = config("cut")
    launch.apply_resume(cfg, "auto")
    train(cfg)
    whole, cut = (
        torch.load(tmp_path / run / "iter_20.pth", weights_only=True) for run in ("whole", "cut")
    )
    assert len(whole["state_dict"]["splats.means"]) != 1500  # the scene was edited
    for part in ("state_dict", "densification"):
        for key, value in whole[part].items():
            assert torch.equal(value, cut[part][key]), key
    for number, state in whole["optimizer"]["state"].items():
        for key, value in state.items():
            assert torch.equal(value, cut["optimizer"]["state"][number][key]), (number, key)


def test_learning_rates_are_in_units_of_the_scene(tiny_town, tmp_path):
    cfg = make_config(tiny_town, tmp_path, iterations=4)
    runner = train(cfg)
    group = next(
        g for g in runner.optim_wrapper.optimizer.param_groups if g["name"] == "splats.means"
    )
    wanted = next(g for g in cfg.optim_wrapper.paramwise_cfg.groups if g.name == "splats.means")
    extent = runner.train_dataloader.dataset.scene_extent
    assert group["initial_lr"] == pytest.approx(wanted.lr * extent, rel=1e-5)
    ratio = cfg.param_scheduler[0].final_ratio
    assert group["lr"] == pytest.approx(wanted.lr * extent * ratio, rel=1e-3)
    others = [g for g in runner.optim_wrapper.optimizer.param_groups if g["name"] != "splats.means"]
    assert all(g["lr"] > 0 for g in others)


def test_a_checkpoint_of_another_model_is_one_clear_error(trained, tmp_path):
    cfg, _, _ = trained
    foreign = tmp_path / "resnet.pth"
    torch.save({"state_dict": {"conv1.weight": torch.zeros(3, 3)}, "meta": {}}, foreign)
    with pytest.raises(Exception, match="resnet.pth: expected to fit the model GaussianSplatting"):
        test(cfg, foreign)


def test_a_parameter_without_a_group_is_an_error(tiny_town, tmp_path):
    cfg = make_config(tiny_town, tmp_path, iterations=1)
    groups = cfg.optim_wrapper.paramwise_cfg.groups
    cfg.optim_wrapper.paramwise_cfg.groups = [g for g in groups if g.name != "splats.quats"]
    with pytest.raises(ValueError, match="'splats.quats' fits 0 optimiser groups"):
        train(cfg)
