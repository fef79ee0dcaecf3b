"""Writes the scene in the formats that viewers read."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmcity.engine.distributed import unwrap
from mmcity.engine.scene_loading import info_of_scene
from mmcity.models.layers import SceneModel
from mmcity.registry import HOOKS
from mmcity.structures import drop_unseen, write_gaussians_ply, write_splat
from mmcity.structures.geometry import se3_inverse
from mmcity.structures.io.view_notes import write_view_notes
from mmcity.structures.upright import guess_up


@HOOKS.register_module()
class SceneExportHook(Hook):
    """Export the Gaussians after training, in whole files; those that no view shows stay behind.

    Notes beside a file say which way is up, and what plain Gaussians leave out of the scene.

    Args:
        formats: ``ply`` (standard 3DGS attributes) and/or ``splat`` (compact, for web
            viewers). Defaults to ``("ply",)``.
        interval: Also export every n iterations. Defaults to 0: only at the end.
        out_dir: Folder. Defaults to the work folder.
    """

    priority = "LOW"

    def __init__(
        self, formats: tuple[str, ...] = ("ply",), interval: int = 0, out_dir: str | None = None
    ) -> None:
        unknown = set(formats) - {"ply", "splat"}
        if unknown:
            raise ValueError(f"formats: expected some of 'ply' and 'splat', got {sorted(unknown)}")
        self.formats = tuple(formats)
        self.interval = interval
        self.out_dir = out_dir

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Export if it is time to."""
        if self.interval and (runner.iter + 1) % self.interval == 0:
            self._export(runner, f"scene_{runner.iter + 1}")

    def after_train(self, runner) -> None:
        """Export the final scene."""
        self._export(runner, "scene")

    def _export(self, runner, stem: str) -> None:
        whole = hasattr(runner.model, "to_gaussians")  # of a shared scene all processes give theirs
        gaussians = (runner.model if whole else unwrap(runner.model)).to_gaussians()
        if not is_main_process():
            return
        writers = dict(ply=write_gaussians_ply, splat=write_splat)
        seen = drop_unseen(gaussians)
        left_out = len(gaussians) - len(seen)
        without = f" without {left_out} that no view would show" if left_out else ""
        for suffix in self.formats:
            path = Path(self.out_dir or runner.work_dir) / f"{stem}.{suffix}"
            writers[suffix](seen, path, info=info_of_scene(unwrap(runner.model)))
            self._note(unwrap(runner.model), path)
            runner.logger.info(f"wrote {len(seen)} Gaussians to {path}{without}")

    def _note(self, model, path: Path) -> None:
        if not isinstance(model, SceneModel) or not len(model.views.viewmats):
            return
        holder = model if hasattr(model, "background") else model.renderer
        left_out = [] if model.exposure is None else ["colours per photograph (exposure)"]
        if type(holder.background).__name__ != "ConstantBackground":
            left_out.append("background")
        write_view_notes(path, guess_up(se3_inverse(model.views.viewmats)).tolist(), left_out)
