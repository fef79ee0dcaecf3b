"""Exports the latent planes of a VAE when its training ends."""

from dataclasses import dataclass
from pathlib import Path

from mmengine.hooks import Hook

from mmcity.engine.distributed import unwrap
from mmcity.engine.dynamiccity.rollout_export import export_splits
from mmcity.registry import HOOKS


@HOOKS.register_module()
@dataclass(eq=False)
class SaveRolloutHook(Hook):
    """Write the rollouts of whole splits after training: the data of the diffusion stage.

    The same as ``tools/export_rollouts.py``: shared out over the processes, one folder per
    split; what is up to date is kept, rollouts of other weights are made anew.

    Args:
        out_dir: Folder; a sub-folder per split. Defaults to ``<work_dir>/rollout``.
        splits: Data loaders of the config, out of ``train``, ``val``, ``test``.
            Defaults to ``("train", "test")``.
        layout_down: Reduction of the layout that is stored beside. Defaults to 4.
        dtype: Of the stored rollouts. Defaults to ``float16``.
        flips: See ``export_rollouts``; only the train split gets more than the clips as they
            are. Defaults to (0,).
    """

    priority = "VERY_LOW"

    out_dir: str | None = None
    splits: tuple[str, ...] = ("train", "test")
    layout_down: int = 4
    dtype: str = "float16"
    flips: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        unknown = set(self.splits) - {"train", "val", "test"}
        if unknown:
            raise ValueError(f"splits: expected some of train, val, test, got {sorted(unknown)}")

    def after_train(self, runner) -> None:
        """Export every split, without random augmentation."""
        model = unwrap(runner.model)
        root = self.out_dir or Path(runner.work_dir) / "rollout"
        indices = export_splits(
            model,
            runner.cfg,
            root,
            self.splits,
            self.layout_down,
            self.dtype,
            self.flips,
            replace=True,
        )
        for folder, index in indices.items():
            runner.logger.info(f"{folder}: {len(index['windows'])} rollouts")
