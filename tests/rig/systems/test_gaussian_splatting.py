"""Plain Gaussian splatting on the virtual device."""

import torch

from .scenes import STEPS, SceneJobs, state_of


class TestGaussianSplatting(SceneJobs):
    config = "configs/gaussian_splatting/3dgs_toytown_cpu.py"
    options = {
        "model.sh_degree_interval": 2,
        "default_hooks.growth.strategy.refine_start": 1,
        "default_hooks.growth.strategy.refine_every": 3,
    }
    without_growth = {"default_hooks.growth.strategy.refine_start": 1000}
    waits = 6


class TestDensification(SceneJobs):
    """The strategy that reads gradients, of which a checkpoint holds sums."""

    config = "configs/gaussian_splatting/3dgs_colmap.py"
    options = {
        "default_hooks.growth.strategy.refine_start": 2,
        "default_hooks.growth.strategy.refine_every": 4,
        "default_hooks.growth.strategy.grow_grad2d": 1e-5,
    }
    without_growth = {"default_hooks.growth.strategy.refine_start": 1000}
    waits = 6

    trained = test_a_checkpoint_predicts = test_tools_run_on_the_device = None
    test_two_devices_train_and_resume = None

    def test_a_training_resumes_bit_for_bit(self, toytown_citygsx, tmp_path):
        whole = self.train(toytown_citygsx, tmp_path / "whole")
        half = str(whole.parent / f"iter_{STEPS // 2}.pth")
        again = state_of(self.train(toytown_citygsx, tmp_path / "again", resume=half))
        for name, value in state_of(whole).items():
            assert torch.equal(again[name], value), name
        assert len(again["splats.means"]) > 1500
