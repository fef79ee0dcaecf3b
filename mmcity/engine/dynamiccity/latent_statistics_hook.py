"""Gives a diffusion model the statistics of the rollouts that it trains on."""

from mmengine.hooks import Hook

from mmcity.engine.distributed import unwrap
from mmcity.registry import HOOKS


@HOOKS.register_module()
class LatentStatisticsHook(Hook):
    """Set mean and deviation of the latents, per plane and channel, before training.

    For ``HexPlaneDiffusion(normalize="plane_channel")`` on a ``HexPlaneRollout`` data set,
    whose export holds the statistics; they are part of the model's checkpoints.
    """

    def before_train(self, runner) -> None:
        """Copy the statistics of the training set."""
        dataloader = runner.train_dataloader
        model = unwrap(runner.model)
        dataset = dataloader.dataset
        while not hasattr(dataset, "statistics") and hasattr(dataset, "dataset"):
            dataset = dataset.dataset
        mean, std = dataset.statistics
        model.set_statistics(mean, std)
        runner.logger.info(f"latent deviations {float(std.min()):.3g} to {float(std.max()):.3g}")
