"""Puts the first scene into an empty model."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.loops import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from mmcity.engine.distributed import unwrap
from mmcity.registry import HOOKS
from mmcity.structures import SceneFrame


class FrameHook(Hook):
    """Base of hooks after which images are given in the frame of the model."""

    def before_train_epoch(self, runner) -> None:
        """Give the training images in the frame of the model."""
        follow_scene(runner.train_dataloader, runner.model)

    def before_val(self, runner) -> None:
        """Likewise those of the validation."""
        follow_scene(runner.val_dataloader, runner.model)

    def before_test(self, runner) -> None:
        """Likewise those of the test."""
        follow_scene(runner.test_dataloader, runner.model)


@HOOKS.register_module()
class SceneInitHook(FrameHook):
    """Initialise a scene model from the capture that the training dataset reads.

    Runs before checkpoints are loaded, so that a resumed or fine-tuned scene replaces the
    first guess. It also multiplies the learning rate of the optimiser groups marked
    ``times_extent`` by the scene's extent.

    The scene takes the frame of the dataset. Where a checkpoint then brings another one, the
    datasets follow the scene.

    Args:
        seed: Seed of random points. Defaults to 0.
    """

    priority = "VERY_HIGH"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def before_run(self, runner) -> None:
        """Initialise; does nothing when only testing."""
        if not isinstance(runner._train_loop, BaseLoop):
            return
        dataset = runner.train_dataloader.dataset
        missing = [
            name for name in ("all_cameras", "is_train", "points3D") if not hasattr(dataset, name)
        ]
        if missing:
            raise TypeError(
                "dataset: expected one of posed images to initialise a scene from, such as "
                f"ColmapDataset, got a {type(dataset).__name__} without {', '.join(missing)}"
            )
        model = unwrap(runner.model)
        take_frame(runner)
        points = dataset.points3D
        model.initialize(
            dataset.all_cameras[dataset.is_train],
            torch.as_tensor(points.xyz, dtype=torch.float32),
            torch.as_tensor(points.rgb, dtype=torch.float32) / 255,
            is_trained=dataset.is_train,
            generator=torch.Generator().manual_seed(self.seed),
        )
        extent = model.scene_extent
        for group in runner.optim_wrapper.optimizer.param_groups:
            if group.get("times_extent"):
                group["lr"] *= extent
                group["initial_lr"] = group["lr"]
        runner.logger.info(
            f"scene of {model.summary}, {int(dataset.is_train.sum())} training views, "
            f"extent {extent:.4g}"
        )

    def before_train(self, runner) -> None:
        """Of a shared scene keep the part of this process, unless a checkpoint brought it.

        Not before: the Runner lets all processes take the weights of the first one.
        """
        if hasattr(runner.model, "keep_own_shard"):
            runner.model.keep_own_shard()
        self.before_train_epoch(runner)


def take_frame(runner: Runner) -> None:
    """Let a model know the frame of the training images."""
    frame = getattr(runner.train_dataloader.dataset, "frame", None)
    unwrap(runner.model).placement.frame = frame or SceneFrame()


def follow_scene(loader: DataLoader, model: nn.Module) -> None:
    """Give the views of a loader in the frame that a model knows."""
    if hasattr(loader.dataset, "express_in"):
        loader.dataset.express_in(unwrap(model).placement.frame)
