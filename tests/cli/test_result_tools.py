"""Tools that make or judge results, each as a command on something small."""

import sys

import numpy as np
import pytest
import torch
import trimesh

from tests.apis.localization.test_report import run as run_of
from tests.devices import DEVICE
from tests.models.dynamiccity.test_sampling import build_model

from .conftest import REPO, call_tool


def test_score_of_a_mesh(tmp_path, capsys):
    """Half of the mesh's points lie on the truth, all of the truth is met."""
    truth = np.random.default_rng(0).uniform(0, 10, (400, 3))
    truth[:, 2] = 0
    trimesh.PointCloud(truth).export(tmp_path / "truth.ply")
    trimesh.PointCloud(np.concatenate([truth, truth + [0, 0, 5]])).export(tmp_path / "mesh.ply")
    files = (tmp_path / "mesh.ply", tmp_path / "truth.ply")
    call_tool("tools/analysis_tools/score_mesh.py", *files, "--threshold", 0.5)
    assert "precision 0.500, recall 1.000, f1 0.667" in capsys.readouterr().out


def test_table_of_localisation_runs(run_command, tmp_path):
    for scene, error in (("a", 0.1), ("b", 0.3)):
        report = run_of([error] * 3, [0.5] * 3, label="full")
        report.scene = scene
        report.write(tmp_path / scene)
    tool = REPO / "tools" / "localization_table.py"
    out = tmp_path / "table.md"
    run_command(sys.executable, tool, tmp_path / "a", tmp_path / "b", "--out", out)
    assert "| average of 2 " in out.read_text() and "0.2 m" in out.read_text()


def test_clips_are_generated_and_judged(tmp_path, capsys):
    from mmcity.registry import MODELS

    cfg = build_model(conditions=("command",))
    config, checkpoint = tmp_path / "generator.py", tmp_path / "generator.pth"
    config.write_text(f"default_scope = 'mmcity'\nmodel = {cfg!r}\n")
    torch.save({"state_dict": MODELS.build(cfg).state_dict(), "meta": {}}, checkpoint)
    clips = tmp_path / "clips"
    words = ("--out", clips, "-n", "2", "--command", "1", "--seed", "3", "--device", DEVICE)
    call_tool("tools/generate.py", config, checkpoint, *words)
    files = sorted(clips.glob("*.npz"))
    assert len(files) == 2
    for file in files:
        with np.load(file) as data:
            assert data["voxels"].shape == (4, 16, 16, 8)
    capsys.readouterr()
    call_tool("tools/analysis_tools/clip_consistency.py", clips, "--voxel-size", "0.4")
    assert len([line for line in capsys.readouterr().out.splitlines() if ": " in line]) >= 3
    with pytest.raises(FileNotFoundError, match=r"expected \.npz clips, got none"):
        call_tool("tools/analysis_tools/clip_consistency.py", tmp_path / "no_clips")
