"""Checkpoints that are safe to read, whole on disk, and resume exactly."""

import os.path as osp
from pathlib import Path

from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner.loops import BaseLoop

from mmcity.engine.checkpointing import (
    DeferredRemoval,
    check_is_checkpoint,
    check_is_resumable,
    check_matches_model,
    encode_checkpoint,
    gather_random_states,
    get_random_state,
    merge_shards,
    replace_rows,
    set_random_state,
)
from mmcity.engine.distributed import unwrap
from mmcity.engine.optim import merge_saved_groups
from mmcity.registry import HOOKS

#: Steps of the checkpoints that the last one replaced, in the message hub.
_OUTDATED = "outdated_ckpt_ids"


@HOOKS.register_module(name=["CityCheckpointHook", "CheckpointHook"])
class CityCheckpointHook(CheckpointHook):
    """mmengine's checkpoint hook with four more promises.

    - A checkpoint holds only tensors and plain containers, so that
      ``torch.load(weights_only=True)`` reads it.
    - It is written beside its target and moved into place, and outdated ones are removed
      only afterwards: a full disk or a killed run leaves the last good one.
    - It holds the random state of every rank. Validation does not move the generators, so
      that a resumed run continues as an uninterrupted one.
    - A checkpoint that does not fit the model is an error when testing or resuming.
      (``load_from`` in training stays lenient: it also takes a backbone.)

    Args:
        *args, **kwargs: See :class:`mmengine.hooks.CheckpointHook`; the storage backend
            (``backend_args``) defaults to the local atomic one.
    """

    priority = "VERY_LOW"

    def __init__(self, *args, **kwargs) -> None:
        if kwargs.get("backend_args") is None and kwargs.get("file_client_args") is None:
            kwargs["backend_args"] = {"backend": "atomic_local"}
        super().__init__(*args, **kwargs)
        self._gathered: list[dict] | None = None  # states of all ranks, ready to be saved
        self._scene: dict | None = None  # what a shared scene adds to a checkpoint
        self._resumed: list[dict] | None = None  # states to be restored
        self._before_val: dict | None = None  # state while validation runs

    # ---- saving

    def before_train(self, runner) -> None:
        """Choose the folder and make removals wait for the files that replace them."""
        super().before_train(runner)
        self.file_backend = DeferredRemoval(self.file_backend)
        # A run that was killed after it wrote the checkpoint may not have come to removing.
        for step in runner.message_hub.runtime_info.get(_OUTDATED, []):
            self._remove_step(step)
        if runner.message_hub.runtime_info.get("last_ckpt"):
            # On all processes: where it is set, all of them take part in saving the best one.
            self.last_ckpt = runner.message_hub.get_info("last_ckpt")
            if is_main_process():
                self._remove_outdated()

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        """Write a checkpoint, then the pointer to it, then remove what it replaces."""
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        if self.max_keep_ckpts > 0:
            self._rotate(runner, step)
        self._gathered = gather_random_states(self._before_val)  # all ranks take part
        if hasattr(runner.model, "save_scene"):
            # Each process writes, or hands over, its part; the index goes into the checkpoint.
            self._scene = runner.model.save_scene(
                self.last_ckpt, runner.optim_wrapper.optimizer if self.save_optimizer else None
            )
        try:
            runner.save_checkpoint(
                self.out_dir,
                filename,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
        finally:
            self._gathered = self._scene = None
        if is_main_process():
            self.file_backend.put_text(self.last_ckpt, osp.join(runner.work_dir, "last_checkpoint"))
            self._remove_outdated()

    def _rotate(self, runner, step: int) -> None:
        if step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                oldest = self.keep_ckpt_ids.popleft()
                self._remove_step(oldest)
                runner.message_hub.update_info(_OUTDATED, [oldest])
            self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))

    def _remove_step(self, step: int) -> None:
        name = self.filename_tmpl.format(step)
        self.file_backend.remove(self.file_backend.join_path(self.out_dir, name))

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        if is_main_process():
            self._remove_outdated()

    def _remove_outdated(self) -> None:
        best = [getattr(self, "best_ckpt_path", None)]
        best += getattr(self, "best_ckpt_path_dict", {}).values()
        self.file_backend.flush(keep={str(path) for path in (self.last_ckpt, *best) if path})

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Add the random states and leave only what ``weights_only=True`` can read."""
        if self._gathered is not None:
            checkpoint["random_states"] = self._gathered
        if "param_schedulers" in checkpoint:
            checkpoint["param_schedulers"] = _without_functions(checkpoint["param_schedulers"])
        if self._scene is not None:
            replace_rows(checkpoint, self._scene)
        for key in list(checkpoint):
            checkpoint[key] = encode_checkpoint(checkpoint[key], where=str(key))

    # ---- loading

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Refuse what does not fit, and keep the random states for the first iteration."""
        source = str(runner._load_from or "the checkpoint")
        if hasattr(runner.model, "load_scene_rows"):
            runner.model.load_scene_rows(checkpoint, source)
        else:
            merge_shards(checkpoint, Path(source).parent)
        is_training = isinstance(runner._train_loop, BaseLoop)
        state_dict = check_is_checkpoint(checkpoint, source)
        if runner._resume or not is_training:
            model = unwrap(runner.model)
            check_matches_model(model, state_dict, source)
        if runner._resume and is_training:
            check_is_resumable(checkpoint, source)
            if isinstance(runner.optim_wrapper, OptimWrapper | OptimWrapperDict):
                merge_saved_groups(checkpoint, runner.optim_wrapper)
            self._resumed = checkpoint.get("random_states")

    def before_train_epoch(self, runner) -> None:
        """Restore the random state of this rank, once, before the first batch is drawn."""
        states, self._resumed = self._resumed, None
        if states is None:
            return
        if len(states) != get_world_size() and getattr(runner.model, "shares_views", False):
            states = [states[0]] * get_world_size()  # these processes draw alike
        if len(states) != get_world_size():
            runner.logger.warning(
                f"the checkpoint was written by {len(states)} processes and is resumed by "
                f"{get_world_size()}: random numbers will differ from the uninterrupted run"
            )
            return
        set_random_state(states[get_rank()])

    # ---- validation between two iterations leaves the generators alone

    def before_val(self, runner) -> None:
        """Remember the random state."""
        self._before_val = get_random_state()

    def after_val(self, runner) -> None:
        """Restore the random state."""
        if self._before_val is not None:
            set_random_state(self._before_val)
            self._before_val = None


def _without_functions(states: list | dict) -> list | dict:
    """States of schedulers without the functions that some carry (``OneCycleLR``).

    A scheduler makes them anew from its config, and loading a state leaves alone what the
    state does not name.
    """
    if isinstance(states, dict):
        return {
            key: _without_functions(value) if isinstance(value, (list, dict)) else value
            for key, value in states.items()
            if not callable(value)
        }
    return [_without_functions(s) if isinstance(s, (list, dict)) else s for s in states]
