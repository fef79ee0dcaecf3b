"""The commands around CityGS-X: depth scale, depth filter, converter, mesh."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image

from mmcity.models.citygsx import CityGSX
from mmcity.structures import Cameras, read_gaussians_ply

REPO = Path(__file__).resolve().parents[3]


def run(*arguments):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_fitted_scales_are_those_that_made_the_priors(tiny_town, tmp_path):
    out = tmp_path / "params.json"
    run("tools/fit_depth_scale.py", tiny_town, "--out", out, "--method", "ransac")
    fitted = json.loads(out.read_text())
    truth = json.loads((tiny_town / "gt" / "depth_priors.json").read_text())
    ratios = []
    for name, row in fitted.items():
        key = name if name in truth else f"{name}.jpg"
        ratios.append(row["scale"] / truth[key]["scale"])
    assert len(ratios) == 12
    assert abs(np.median(ratios) - 1) < 0.2


def test_depth_filter_writes_masks_and_resumes(tiny_town, tmp_path):
    scene = tmp_path / "scene"
    scene.mkdir()
    for part in ("train", "val", "sparse"):
        if part == "train":
            (scene / part).mkdir()
            for folder in ("rgbs", "depths"):
                (scene / part / folder).symlink_to(tiny_town / part / folder)
        else:
            (scene / part).symlink_to(tiny_town / part)
    options = ("--max-dis", "200", "--max-angle", "60", "--max-error", "4")
    first = run("tools/filter_depth.py", scene, "--out", "train/mask", *options)
    assert "9 masks written" in first
    masks = sorted((scene / "train/mask").glob("*.png"))
    values = np.stack([np.array(Image.open(path)) for path in masks])
    assert set(np.unique(values)) == {0, 255}
    assert 0.05 < (values > 0).mean() < 1
    masks[0].unlink()
    assert "1 masks written" in run("tools/filter_depth.py", scene, *options)


def tiny_model(n_offsets=3, feat_dim=8):
    torch.manual_seed(0)
    model = CityGSX(feat_dim, n_offsets, anchors=dict(default_voxel_size=0.2))
    K = torch.tensor([[40.0, 0, 16], [0, 40.0, 16], [0, 0, 1]])
    viewmats = torch.eye(4).repeat(4, 1, 1)
    viewmats[:, 0, 3], viewmats[:, 2, 3] = torch.linspace(-0.5, 0.5, 4), 3.0
    cameras = Cameras(K, viewmats, 32, 32)
    model.initialize(cameras, torch.rand(80, 3) - 0.5)
    model.anchors.features.data.normal_()
    return model, cameras


def test_converter_goes_to_the_originals_files_and_back(tmp_path):
    model, cameras = tiny_model()
    model.iteration.fill_(10**9)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "scene.pth")
    tool = "tools/model_converters/citygsx_to_mmcity.py"
    run(tool, "--reverse", tmp_path / "scene.pth", tmp_path / "folder")
    run(tool, tmp_path / "folder", tmp_path / "again.pth")
    state = torch.load(tmp_path / "again.pth", weights_only=True)["state_dict"]
    again, _ = tiny_model()
    report = again.load_state_dict(state, strict=False)
    assert not report.unexpected_keys
    assert all(key.startswith("views.") for key in report.missing_keys)
    expected, actual = model.eval().render(cameras), again.eval().render(cameras)
    torch.testing.assert_close(actual["rgb"], expected["rgb"], rtol=0, atol=1e-6)


def test_mesh_tool_fuses_and_scores(tiny_town, tmp_path):
    from .test_configs import make_config, train

    cfg = make_config("citygsx_toytown_cpu", tiny_town, tmp_path)
    train(cfg)
    cfg.dump(tmp_path / "config.py")
    text = run(
        *("tools/extract_mesh.py", tmp_path / "config.py", tmp_path / "iter_2.pth"),
        *("--voxel-size", "4", "--out", tmp_path / "mesh.ply", "--min-alpha", "0.0"),
        *("--truth", tiny_town / "gt" / "visible_points.ply", "--device", "cpu"),
    )
    assert "f1" in text
    mesh = trimesh.load(tmp_path / "mesh.ply")
    assert len(mesh.faces) > 0
    counts = []
    for level in (0, 5):
        out = tmp_path / f"level{level}.ply"
        options = (tmp_path / "config.py", tmp_path / "iter_2.pth", out, "--level", level)
        run("tools/bake_scene.py", *options)
        counts.append(len(read_gaussians_ply(out)))
    assert 0 < counts[0] < counts[1]


def test_baked_gaussians_stand_where_the_decoder_puts_them():
    model, cameras = tiny_model()
    baked = model.to_gaussians(min_opacity=0.0)
    rows = torch.arange(len(model.anchors))
    nearest = torch.cdist(model.anchors.positions, model.centers).argmin(1)
    out = model.decode(rows[:1], model.centers[nearest[:1]], None)
    torch.testing.assert_close(baked.means[: len(out.means)], out.means)
    assert len(baked) <= 3 * len(model.anchors)
