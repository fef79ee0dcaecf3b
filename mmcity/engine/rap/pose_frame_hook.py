"""Sets the scene's bounds and the camera's field of view of a pose network."""

from mmengine.runner import Runner

from mmcity.engine.distributed import unwrap
from mmcity.engine.hooks.scene_hook import FrameHook, follow_scene, take_frame
from mmcity.registry import HOOKS


def settle_frame(runner: Runner) -> None:
    """Let a pose network that starts know the frame of its images; one that goes on has one."""
    if runner._resume:
        follow_scene(runner.train_dataloader, runner.model)
    else:
        take_frame(runner)


@HOOKS.register_module()
class PoseFrameHook(FrameHook):
    """Fit what a pose network normalises by to the training cameras.

    These are the frame of ``RAPTrainer(normalize_poses=True)`` and the field of view of
    ``LocalizationPreprocessor(normalize_focal=True)``. Poses are learnt in the frame of the data,
    which a resumed run and tests take from the checkpoint.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:
        """Measure, unless a checkpoint has brought them."""
        model = unwrap(runner.model)
        settle_frame(runner)
        cameras = runner.train_dataloader.dataset.cameras
        model.fit_frame(cameras.centers)
        model.data_preprocessor.fit_focal(cameras)
