"""CityGS-X on the virtual device."""

import pytest

from mmcity.engine.checkpointing import load_from_local

from .scenes import STEPS, SceneJobs


class TestCityGSX(SceneJobs):
    config = "configs/citygsx/citygsx_toytown_cpu.py"
    options = {
        "train_dataloader.dataset.resize": None,
        "train_dataloader.dataset.multi_view_max_dis": 200.0,
        "model.resolution_schedule": None,
        "model.objective.single_view_weight_from_iter": 0,
        "model.objective.dpt_loss_from_iter": 0,
        "model.objective.multi_view_weight_from_iter": 0,
        "model.objective.multi_view_interval": 1,
        "model.objective.multi_view_samples": 500,
        "default_hooks.growth.strategy.start": 1,
        "default_hooks.growth.strategy.interval": 4,
        "default_hooks.growth.strategy.success": 0.2,
        "default_hooks.growth.strategy.grad_threshold": 1e-5,
    }
    shared = {"train_dataloader.batch_size": 2, "train_dataloader.sampler.batch_size": 2}
    without_growth = {"default_hooks.growth.strategy.start": 1000}
    waits = 10

    @pytest.mark.slow
    def test_two_devices_train_and_resume(self, toytown_citygsx, tmp_path):
        super().test_two_devices_train_and_resume(toytown_citygsx, tmp_path)
        assert len(list(tmp_path.glob(f"iter_{STEPS}.shard?of2.pth"))) == 2


class TestMergedCheckpoints(TestCityGSX):
    """Two processes that write one file, through which both resume, in mixed precision."""

    shared = {**TestCityGSX.shared, "model_wrapper_cfg.checkpoint": "merged"}
    arguments = ("--amp",)
    trained = test_a_training_resumes_bit_for_bit = test_a_checkpoint_predicts = None
    test_tools_run_on_the_device = test_host_waits = None

    @pytest.mark.slow
    def test_two_devices_train_and_resume(self, toytown_citygsx, tmp_path):
        SceneJobs.test_two_devices_train_and_resume(self, toytown_citygsx, tmp_path)
        state = load_from_local(tmp_path / f"iter_{STEPS}.pth")["state_dict"]
        assert len(state["anchors.positions"]) > 500
