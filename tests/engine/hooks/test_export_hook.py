"""Export of a trained scene: what no view shows stays behind, and the log says so."""

from types import SimpleNamespace

import pytest
import torch

from mmcity.engine.hooks import SceneExportHook
from mmcity.registry import MODELS
from mmcity.structures import Cameras, read_gaussians
from mmcity.structures.io.view_notes import read_view_notes
from mmcity.visualization.viewer import open_layers
from tests.structures.test_bounds import scene


def test_notes_say_which_way_is_up_and_what_is_left_out(tmp_path):
    """Of level cameras in a world with y down."""
    model = MODELS.build(
        dict(
            type="GaussianSplatting",
            renderer=dict(type="SplatRenderer", background=dict(type="LearnedBackground")),
            exposure=dict(type="AffineExposure"),
        )
    )
    views = torch.eye(4).repeat(3, 1, 1)
    views[1, :3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    K = torch.tensor([[30.0, 0, 12], [0, 30.0, 12], [0, 0, 1]])
    model.initialize(Cameras(K, views, 24, 24), torch.rand(20, 3), torch.rand(20, 3))
    logger = SimpleNamespace(info=lambda line: None)
    runner = SimpleNamespace(model=model, work_dir=str(tmp_path), logger=logger)
    SceneExportHook().after_train(runner)
    notes = read_view_notes(tmp_path / "scene.ply")
    assert notes.up == pytest.approx((0, -1, 0), abs=1e-6)
    assert notes.left_out == ("colours per photograph (exposure)", "background")
    (layer,) = open_layers(tmp_path)
    assert layer.notes == notes


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
