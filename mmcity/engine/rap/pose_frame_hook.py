"""Sets the scene's bounds and the camera's field of view of a pose network."""

from mmengine.hooks import Hook

from mmcity.engine.distributed import unwrap
from mmcity.registry import HOOKS


@HOOKS.register_module()
class PoseFrameHook(Hook):
    """Fit what a pose network normalises by to the training cameras.

    These are the frame of ``RAPTrainer(normalize_poses=True)`` and the field of view of
    ``LocalizationPreprocessor(normalize_focal=True)``.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:
        """Measure, unless a checkpoint has brought them."""
        model = unwrap(runner.model)
        cameras = runner.train_dataloader.dataset.cameras
        model.fit_frame(cameras.centers)
        model.data_preprocessor.fit_focal(cameras)
