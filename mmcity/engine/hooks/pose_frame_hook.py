"""Tells a pose network where its scene lies."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmcity.registry import HOOKS

__all__ = ["PoseFrameHook"]


@HOOKS.register_module()
class PoseFrameHook(Hook):
    """Fit the frame of ``RAPTrainer(normalize_poses=True)`` to the training cameras."""

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:
        """Measure, unless a checkpoint has brought the frame."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.fit_frame(runner.train_dataloader.dataset.cameras.centers)
