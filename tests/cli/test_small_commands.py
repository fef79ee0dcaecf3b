"""Commands that look and convert, on a very small toy town."""

import json

import pytest
import torch

from mmcity.apis import localize_queries
from mmcity.cli.main import dispatch
from mmcity.datasets import ColmapDataset
from mmcity.structures import Gaussians, write_gaussians_ply
from mmcity.utils.cli import UserError
from tests.cli.conftest import REPO, call_tool


@pytest.fixture(scope="module")
def rough_scene(tmp_path_factory, toytown_citygsx):
    """One Gaussian per sparse point."""
    points = ColmapDataset(toytown_citygsx, split="train").points3D
    count = len(points)
    scene = Gaussians(
        means=torch.from_numpy(points.xyz).float(),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=torch.full((count, 3), 1.2),
        opacities=torch.full((count,), 0.9),
        sh0=((torch.from_numpy(points.rgb).float() / 255 - 0.5) / 0.2820948)[:, None],
    )
    path = tmp_path_factory.mktemp("scene") / "scene.ply"
    write_gaussians_ply(scene, path)
    return path


def test_viewer_lists_layers(rough_scene, toytown_citygsx, capsys):
    call_tool("tools/viewer.py", rough_scene, toytown_citygsx, "--check")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line and not line.startswith("11")][-3:] == [
        "gaussians", "cameras", "points",
    ]  # fmt: skip


def test_visualize_draws_a_scene(rough_scene, toytown_citygsx, tmp_path):
    call_tool(
        *("tools/visualize.py", rough_scene, "--cameras", toytown_citygsx, "--out", tmp_path),
        *("--frames", 2, "--format", "gif", "--long-side", 64),
    )
    files = {file.name for file in tmp_path.iterdir()}
    assert files == {"fly_through.gif", "view.png", "depth.png", "normals.png"}
    with pytest.raises(UserError, match="name a COLMAP folder by --cameras"):
        call_tool("tools/visualize.py", rough_scene, "--out", tmp_path)


def test_localize_writes_poses(rough_scene, toytown_citygsx, tmp_path):
    call_tool(
        *("tools/localize.py", toytown_citygsx, "--map", rough_scene, "--out", tmp_path),
        *("--limit", "1", "--starts", "1"),
    )
    content = json.loads((tmp_path / "results.json").read_text())
    assert len(content["queries"]) == 1
    (first,) = content["queries"]
    assert first["status"] in ("ok", "low_confidence", "failed")
    # Poses of one run are first poses of another; queries without one fail with a reason.
    for name, source in ((first["name"], "given"), ("other.png", "")):
        (tmp_path / "first.txt").write_text(f"{name} 1 0 0 0 0 0 0\n")
        report = localize_queries(
            toytown_citygsx, tmp_path / "again", map=rough_scene, pnp="pycolmap", pictures=False,
            poses=tmp_path / "first.txt", limit=1,
        )  # fmt: skip
        (again,) = json.loads((tmp_path / "again" / "results.json").read_text())["queries"]
        assert again["source"] == report.rows[0]["source"] == source
        assert ("no pose in" in again["reason"]) == (source == "")


def test_create_toytown(tmp_path, capsys):
    words = f"--out {tmp_path} --formats video --size tiny --image-size 48x36 --workers 1".split()
    call_tool("tools/dataset_converters/create_toytown.py", *words)
    assert (tmp_path / "video" / "train.txt").is_file()
    assert f"video: {tmp_path / 'video'} (" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        dispatch(["data", "toytown", "--out", str(tmp_path), "--image-size", "48"])
    assert "expected WIDTHxHEIGHT, got '48'" in capsys.readouterr().err


def test_print_config_and_collect_env(tmp_path, capsys):
    tools, saved = "tools/analysis_tools", tmp_path / "saved.py"
    config = REPO / "configs" / "gaussian_splatting" / "3dgs_colmap_cpu.py"
    words = [config, "--cfg-options", "data_root=/x/y", "--save", saved]
    call_tool(f"{tools}/print_config.py", *words)
    assert "/x/y" in capsys.readouterr().out and "/x/y" in saved.read_text()
    call_tool(f"{tools}/collect_env.py")
    assert "\nmmcity " in capsys.readouterr().out
