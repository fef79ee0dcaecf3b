"""Export of a trained scene: what no view shows stays behind, and the log says so."""

from types import SimpleNamespace

import torch

from mmcity.engine.hooks import SceneExportHook
from mmcity.structures import read_gaussians
from tests.structures.test_bounds import scene


def test_files_hold_what_views_show(tmp_path):
    means = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    means[40:43] += 1e5
    trained = scene(means, [0.5] * 40 + [0.02] * 3 + [0.002] * 4 + [0.3] * 3)
    lines = []
    runner = SimpleNamespace(
        model=SimpleNamespace(to_gaussians=lambda: trained),
        work_dir=str(tmp_path),
        logger=SimpleNamespace(info=lines.append),
    )
    SceneExportHook(formats=("ply", "splat")).after_train(runner)
    rows = [*range(40), *range(47, 50)]
    assert torch.allclose(read_gaussians(tmp_path / "scene.ply").means, means[rows])
    assert len(read_gaussians(tmp_path / "scene.splat")) == 43
    wanted = f"wrote 43 Gaussians to {tmp_path / 'scene.ply'} without 7 that no view would show"
    assert lines[0] == wanted
