"""Training by iterations, resumable at any of them."""

import copy

import torch
from mmengine.runner import BaseLoop, IterBasedTrainLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch.utils.data import DataLoader

from mmcity.registry import LOOPS

from .resumable_stream import BatchStream


@LOOPS.register_module(name=["ResumableIterBasedTrainLoop", "IterBasedTrainLoop"])
class ResumableIterBasedTrainLoop(IterBasedTrainLoop):
    """Iteration-based training that continues the data order exactly after a resume.

    It calls the hooks at the same points as mmengine's loop. After a resume the sampler is
    moved to where the saved run stood, without loading a sample, and with the seed of the
    saved run.

    The numbers of a resumed run equal those of an uninterrupted one if random transforms
    run in the main process (``num_workers=0``) or draw from generators seeded per sample:
    the state of worker processes is not part of a checkpoint.

    Args:
        runner: The runner.
        dataloader: Training data loader or its config.
        max_iters: Number of iterations.
        max_epochs: Passes over the data, in place of ``max_iters``, which counts where both are
            given; an epoch has fewer iterations the more processes there are.
        val_begin: First iteration after which validation may run. Defaults to 1.
        val_interval: Iterations between validations. Defaults to 1000, with ``max_epochs`` to
            those of an epoch.
        dynamic_intervals: Pairs (iteration, interval); an interval holds from its
            iteration on. Defaults to None.
    """

    def __init__(
        self,
        runner,
        dataloader: DataLoader | dict,
        max_iters: int | None = None,
        val_begin: int = 1,
        val_interval: int | None = None,
        dynamic_intervals: list[tuple[int, int]] | None = None,
        max_epochs: int | None = None,
    ) -> None:
        name, length = ("max_epochs", max_epochs) if max_iters is None else ("max_iters", max_iters)
        if length is None or int(length) != length or length < 1:
            raise ValueError(f"{name}: expected a positive whole number, got {length}")
        self._loader_cfg = copy.deepcopy(dataloader) if isinstance(dataloader, dict) else None
        self._loader_seed = runner.seed
        BaseLoop.__init__(self, runner, dataloader)  # mmengine's own would start to load here
        self._max_iters = int(length) * (len(self.dataloader) if max_iters is None else 1)
        if val_interval is None:
            val_interval = 1000 if max_epochs is None else len(self.dataloader)
        self._max_epochs = 1  # hooks ask for it; the whole run counts as one epoch
        self._epoch = 0
        self._iter = 0
        self.val_begin = val_begin
        self.val_interval = val_interval
        self.stop_training = False  # EarlyStoppingHook sets it
        self.runner.visualizer.dataset_meta = getattr(self.dataloader.dataset, "metainfo", None)
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(
            val_interval, dynamic_intervals
        )

    def run(self) -> torch.nn.Module:
        """Train to the end and return the model."""
        self.runner.call_hook("before_train")
        if self._iter > 0:
            self._follow_resumed_seed()
        # Hooks of this point seed the sampler and restore the random state.
        self.runner.call_hook("before_train_epoch")
        if self._iter < self._max_iters:
            batches = BatchStream(self.dataloader, skip=self._iter)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches))
            self._decide_current_val_interval()
            if self._is_time_to_validate():
                self.runner.val_loop.run()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def _is_time_to_validate(self) -> bool:
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return False
        return self._iter % self.val_interval == 0 or self._iter == self._max_iters

    def _follow_resumed_seed(self) -> None:
        """Without a seed in the config, the sampler was built with another seed than the
        saved run had; build it again with the seed that the checkpoint brought."""
        if self._loader_cfg is None or self.runner.seed == self._loader_seed:
            return
        self._loader_seed = self.runner.seed
        diff_rank_seed = self.runner._randomness_cfg.get("diff_rank_seed", False)
        self.dataloader = self.runner.build_dataloader(
            self._loader_cfg, seed=self.runner.seed, diff_rank_seed=diff_rank_seed
        )
