"""Shows a scene in the browser while it is trained."""

import time

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook

from mmcity.engine.distributed import unwrap
from mmcity.registry import HOOKS
from mmcity.utils.cli import UserError
from mmcity.visualization.viewer import Viewer


@HOOKS.register_module()
class ViewerHook(Hook):
    """Serves a live view of a scene model (one with ``to_gaussians``) from the first process.

    The panel shows iteration and losses, and can hold the training. Training slows down by
    the time that packing the Gaussians takes: choose ``interval`` accordingly.

    Args:
        interval: Iterations between updates. Defaults to 50.
        host: Address to listen at. Defaults to this machine only.
        port: Defaults to 8080; the next free one is taken.
        up: Axis of the world that points up. Defaults to ``+z``.
        budget: Gaussians to show, the most visible ones. Defaults to 200,000.
        keep_open: Seconds to keep serving after training. Defaults to 0.
    """

    priority = "LOW"

    def __init__(
        self,
        interval: int = 50,
        host: str = "127.0.0.1",
        port: int = 8080,
        up: str = "+z",
        budget: int = 200_000,
        keep_open: float = 0.0,
    ) -> None:
        if interval < 1:
            raise ValueError(f"interval: expected at least 1, got {interval}")
        self.interval = interval
        self.keep_open = keep_open
        self.options = dict(host=host, port=port, up=up, budget=budget, title="mmcity training")
        self.viewer: Viewer | None = None

    @master_only
    def before_train(self, runner) -> None:
        """Start serving, with the training cameras where the dataset has some."""
        if not hasattr(unwrap(runner.model), "to_gaussians"):
            raise UserError(
                f"ViewerHook: expected a scene model with to_gaussians(), got "
                f"{type(unwrap(runner.model)).__name__}; take the hook out of the config"
            )
        self.viewer = Viewer(**self.options)
        self.viewer.set_frame(unwrap(runner.model).placement.frame)
        self._hold = self.viewer.server.gui.add_checkbox("Hold training", False)
        cameras = getattr(runner.train_dataloader.dataset, "cameras", None)
        if cameras is not None and len(cameras):
            self.viewer.add_cameras("training cameras", cameras)
        self._show(runner)
        runner.logger.info(f"live view: {self.viewer.url}")

    @master_only
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Send the scene if it is time to; wait while the panel says so."""
        if self.viewer is None:
            return
        if (runner.iter + 1) % self.interval == 0:
            self._show(runner, outputs)
        while self._hold.value:
            time.sleep(0.1)

    @master_only
    def after_train(self, runner) -> None:
        """Send the final scene and stop serving."""
        if self.viewer is None:
            return
        self._show(runner)
        end = time.monotonic() + self.keep_open
        while time.monotonic() < end:
            time.sleep(min(0.2, self.keep_open))
        self.viewer.close()
        self.viewer = None

    @torch.no_grad()
    def _show(self, runner, outputs=None) -> None:
        gaussians = unwrap(runner.model).to_gaussians()
        self.viewer.update_gaussians("scene", gaussians)
        lines = [f"iteration {runner.iter + 1}, {len(gaussians):,} Gaussians"]
        for name, value in (outputs or {}).items():
            if "loss" in name:
                lines.append(f"- {name}: {float(value):.4g}")
        self.viewer.set_status("\n".join(lines))
