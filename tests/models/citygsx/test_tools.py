"""The commands around CityGS-X: depth scale, depth filter, converter, mesh."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from mmcity.apis import convert_checkpoint
from mmcity.apis.scenes import SceneRenderer, extract_mesh
from mmcity.apis.streaming import generate_depth
from mmcity.cli.main import dispatch
from mmcity.datasets.depth_filter import filter_depth
from mmcity.engine.checkpointing import load_checkpoint_weights
from mmcity.engine.scene_loading import build_views
from mmcity.models.citygsx import CityGSX
from mmcity.structures import Cameras, SceneFrame, read_gaussians_ply
from mmcity.utils.cli import UserError
from tests.cli.conftest import call_tool
from tests.devices import DEVICE, need_devices

from .test_configs import make_config, train

REPO = Path(__file__).resolve().parents[3]


def run(*arguments):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_fitted_scales_are_those_that_made_the_priors(tiny_town, tmp_path):
    out = tmp_path / "params.json"
    words = [str(tiny_town), "--out", str(out), "--method", "ransac"]
    dispatch(["data", "fit-depth-scale", *words])
    fitted = json.loads(out.read_text())
    truth = json.loads((tiny_town / "gt" / "depth_priors.json").read_text())
    ratios = []
    for name, row in fitted.items():
        key = name if name in truth else f"{name}.jpg"
        ratios.append(row["scale"] / truth[key]["scale"])
    assert len(ratios) == 12
    assert abs(np.median(ratios) - 1) < 0.2


def test_depth_filter_writes_masks_and_resumes(tiny_town, tmp_path, capsys):
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
    dispatch(["data", "filter-depth", str(scene), *options])
    assert "1 masks written" in capsys.readouterr().out
    # Masks of other options are not taken for done.
    with pytest.raises(UserError, match=r"mask: expected outputs of max_error 2.0 \(not 4.0\)"):
        filter_depth(scene, max_error=2.0, max_dis=200.0, max_angle=60.0)


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


def test_converter_goes_to_the_originals_files_and_back(tmp_path, capsys):
    model, cameras = tiny_model()
    model.iteration.fill_(10**9)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "scene.pth")
    tool = "tools/model_converters/citygsx_to_mmcity.py"
    call_tool(tool, "--reverse", tmp_path / "scene.pth", tmp_path / "folder")
    dispatch(["convert-checkpoint", "citygsx", f"{tmp_path}/folder", f"{tmp_path}/again.pth"])
    assert "the config needs feat_dim=8, n_offsets=3" in capsys.readouterr().out
    state = torch.load(tmp_path / "again.pth", weights_only=True)["state_dict"]
    again, _ = tiny_model()
    report = again.load_state_dict(state, strict=False)
    assert not report.unexpected_keys
    assert all(key.startswith("views.") for key in report.missing_keys)
    expected, actual = model.eval().render(cameras), again.eval().render(cameras)
    torch.testing.assert_close(actual["rgb"], expected["rgb"], rtol=0, atol=1e-6)


def test_the_originals_files_keep_the_frame(tmp_path):
    model, _ = tiny_model()
    model.placement.frame = SceneFrame(crs="EPSG:25832", origin=(452310.25, 5411872.75, 213.5))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "scene.pth")
    folder = tmp_path / "folder"
    report = convert_checkpoint("citygsx", tmp_path / "scene.pth", folder, reverse=True)
    assert not any(key.startswith("placement") for key in report.unexpected)
    convert_checkpoint("citygsx", folder, tmp_path / "again.pth")
    again, _ = tiny_model()
    again.load_state_dict(load_checkpoint_weights(tmp_path / "again.pth"), strict=False)
    assert again.placement.frame == model.placement.frame


@pytest.fixture(scope="module")
def trained(tiny_town, tmp_path_factory):
    """Config and checkpoint of a scene that was trained for two iterations."""
    folder = tmp_path_factory.mktemp("trained")
    cfg = make_config("citygsx_toytown_cpu", tiny_town, folder)
    train(cfg)
    cfg.dump(folder / "config.py")
    return folder / "config.py", folder / "iter_2.pth"


def test_mesh_is_fused_and_scored(trained, tiny_town, tmp_path, capsys):
    call_tool(
        *("tools/extract_mesh.py", *trained, "--voxel-size", 4, "--min-alpha", 0.0),
        *("--out", tmp_path / "mesh.ply", "--device", DEVICE),
        *("--truth", tiny_town / "gt" / "visible_points.ply"),
    )
    assert "f1" in capsys.readouterr().out
    mesh = trimesh.load(tmp_path / "mesh.ply")
    assert len(mesh.faces) > 0
    counts = []
    for level in (0, 5):
        out = tmp_path / f"level{level}.ply"
        call_tool("tools/bake_scene.py", *trained, out, "--level", level)
        counts.append(len(read_gaussians_ply(out)))
    assert 0 < counts[0] < counts[1]


def test_depth_without_neighbours_that_agree_leaves_no_surface(trained, tmp_path):
    out = tmp_path / "mesh.ply"
    options = dict(voxel_size=4.0, min_alpha=0.0, min_triangles=1)
    whole = extract_mesh(*trained, out, **options)
    filtered = extract_mesh(
        *trained, out, use_depth_filter=True, max_angle=180.0, max_dis=1e3, **options
    )
    assert 0 < filtered.triangles < whole.triangles
    with pytest.raises(UserError, match="expected a surface"):
        extract_mesh(*trained, out, **{**options, "min_alpha": 1.1})


def test_voxels_follow_the_distance_of_the_cameras(trained, tmp_path):
    made = extract_mesh(*trained, tmp_path / "mesh.ply", min_alpha=0.0, min_triangles=1)
    renderer = SceneRenderer(*trained)
    cameras = build_views(renderer.cfg, "train", renderer.model).cameras
    views = [next(renderer.iterate(cameras[row])) for row in range(len(cameras))]
    depth = torch.cat([view["depth"][view["alpha"] > 0] for view in views])
    assert made.voxel_size == pytest.approx(float(depth.median()) / 150, rel=1e-6)
    given = dict(voxel_size=made.voxel_size, max_depth=3 * float(depth.median()))
    same = extract_mesh(*trained, tmp_path / "b.ply", min_alpha=0.0, min_triangles=1, **given)
    assert (same.vertices, same.triangles) == (made.vertices, made.triangles)


def test_renders_are_written_and_scored(trained, tmp_path, capsys):
    call_tool(
        *("tools/render_views.py", *trained, "--out", tmp_path / "out"),
        *("--splits", "test", "train"),
    )
    assert len(list((tmp_path / "out" / "train" / "renders").glob("*.png"))) == 9
    folder = tmp_path / "out" / "test"
    depth = np.array(Image.open(next((folder / "depths").glob("*.png"))))
    assert depth.dtype == np.uint16 and depth.shape == (72, 96)
    call_tool("tools/analysis_tools/score_renders.py", folder, "--downscale", 1.2)
    text = capsys.readouterr().out
    assert "PSNR (N), D1.2" in text and "80x60" in text
    results = json.loads((folder / "results.json").read_text())
    assert results["protocol"]["downscale"] == 1.2 and results["protocol"]["n_images"] == 3
    first = sorted((folder / "renders").glob("*.png"))[0]
    render, truth = (
        np.array(Image.open(folder / part / first.name).resize((80, 60), Image.BILINEAR)) / 255
        for part in ("renders", "gt")
    )
    expected = -10 * np.log10(np.mean((render - truth) ** 2))
    per_view = json.loads((folder / "per_view.json").read_text())
    assert abs(per_view[first.name]["psnr"] - expected) < 1e-3


def test_mesh_in_parts_has_the_area_of_the_whole(trained, tmp_path):
    sizes = []
    for name, region_size in (("whole", None), ("parts", 60.0)):
        out = tmp_path / f"{name}.obj"
        extract_mesh(
            *trained, out, voxel_size=4.0, min_alpha=0.0, min_triangles=1, region_size=region_size
        )
        sizes.append(trimesh.load(out, process=False).area)
    assert sizes[0] > 0 and abs(sizes[1] / sizes[0] - 1) < 0.01


def test_processes_share_out_views_and_regions(trained, tmp_path):
    need_devices(2)
    options = dict(voxel_size=4.0, min_alpha=0.0, min_triangles=1, region_size=60.0)
    alone = extract_mesh(*trained, tmp_path / "alone.ply", **options)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    text = run(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2),
        *("tools/extract_mesh.py", *trained, "--out", tmp_path / "shared.ply"),
        *("--scratch", tmp_path / "scratch", *words),
    )
    assert f"{alone.vertices} vertices, {alone.triangles} triangles" in text


def test_toytown_estimator_writes_priors_that_fit(tiny_town, tmp_path):
    for part in ("train/rgbs", "sparse", "gt"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).symlink_to(tiny_town / part)
    assert len(generate_depth(tmp_path, "toytown")) == 12
    assert generate_depth(tmp_path, "toytown") == []
    params = json.loads((tmp_path / "p.json").read_text()) if run(
        "tools/fit_depth_scale.py", tmp_path, "--out", tmp_path / "p.json"
    ) else {}  # fmt: skip
    name, row = sorted(params.items())[0]
    value = np.array(Image.open(tmp_path / "train" / "depths" / f"{name}.png")) / 65536
    depth = np.load(tiny_town / "gt" / "depths" / f"{name}.npy")
    ok = depth > 0
    ratio = (value * row["scale"] + row["offset"])[ok] * depth[ok]
    assert abs(np.median(ratio) - 1) < 0.05


STUB = """#!/usr/bin/env bash
echo "gpu=${CUDA_VISIBLE_DEVICES:-none} threads=$OMP_NUM_THREADS $*"
case "$*" in *sciart*) exit 3 ;; esac
"""


def test_scenes_train_side_by_side_and_failures_are_counted(tmp_path):
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(stub), "DEVICES": "4 7", "THREADS": "2"}
    command = ["bash", "tools/train_scenes.sh", "urbanscene3d", "/data/us3d", tmp_path / "out"]
    done = subprocess.run(
        [str(c) for c in command], cwd=REPO, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "failed (3): sciart" in done.stderr
    logs = {p.stem: p.read_text() for p in (tmp_path / "out").glob("*.log")}
    assert set(logs) == {"residence", "sciart", "campus"}
    assert "citygsx_campus.py" in logs["campus"] and "data_root=/data/us3d/campus" in logs["campus"]
    assert all("threads=2" in text for text in logs.values())
    places = {text.split()[0] for text in logs.values()}
    assert places == {"gpu=4", "gpu=7"}


def test_baked_gaussians_stand_where_the_decoder_puts_them():
    model, cameras = tiny_model()
    baked = model.to_gaussians(min_opacity=0.0)
    rows = torch.arange(len(model.anchors))
    nearest = torch.cdist(model.anchors.positions, model.centers).argmin(1)
    out = model.decode(rows[:1], model.centers[nearest[:1]], None)
    torch.testing.assert_close(baked.means[: len(out.means)], out.means)
    assert len(baked) <= 3 * len(model.anchors)
