"""The live view of a training run, seen from the server's side."""

import pytest
import torch
from mmengine.hooks import Hook

from mmcity.engine.hooks import ViewerHook
from mmcity.registry import HOOKS
from mmcity.utils.cli import UserError
from tests.cli.conftest import REPO, call_tool

pytest.importorskip("viser", reason="viser is not installed (requirements/viewer.txt)")


@HOOKS.register_module(force=True)
class WatchViewer(Hook):
    """Notes what the viewer shows while it is open."""

    priority = "VERY_LOW"
    seen: list = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        hook = next(h for h in runner.hooks if isinstance(h, ViewerHook))
        (handle,) = hook.viewer._handles["scene"]
        colors = torch.from_numpy(handle.rgbs.astype("float32"))
        self.seen.append((hook.viewer._status.content, len(handle.centers), colors))


def test_training_is_shown_while_it_runs(tmp_path, toytown_citygsx):
    WatchViewer.seen.clear()
    config = tmp_path / "live.py"
    base = REPO / "configs" / "gaussian_splatting" / "3dgs_toytown_cpu.py"
    config.write_text(
        f"_base_ = [{str(base)!r}]\n"
        "experiment_name = 'test_viewer_hook'\n"
        "default_hooks = dict(watch=dict(type='WatchViewer'), growth=None, export=None,\n"
        "    viewer=dict(type='ViewerHook', interval=3, port=18070))\n"
    )
    options = ("--cfg-options", f"data_root={toytown_citygsx}", "train_cfg.max_iters=6")
    call_tool("tools/train.py", config, "--work-dir", tmp_path / "work", *options)
    texts = [text for text, _, _ in WatchViewer.seen]
    assert "iteration 3" in texts[3] and "iteration 6" in texts[5]
    assert "loss" in texts[5]
    assert WatchViewer.seen[0][1] > 1000
    changed = (WatchViewer.seen[0][2] - WatchViewer.seen[5][2]).abs().max()
    assert changed > 0


def test_a_model_that_is_no_scene_is_refused():
    class Runner:
        model = torch.nn.Linear(1, 1)

    with pytest.raises(UserError, match="to_gaussians"):
        ViewerHook().before_train(Runner())
