"""``mmcity export``: every format in, every format out."""

import json

import numpy as np
import pytest
import tifffile
import torch
import trimesh

from mmcity.cli.main import dispatch, main
from mmcity.datasets.io.occupancy_files import read_occ3d_nuscenes_frame, read_occ3d_waymo_frame
from mmcity.structures import (
    WRITABLE_SUFFIXES,
    SplatInfo,
    read_gaussian_file,
    read_gaussians,
    write_gaussians,
)
from mmcity.structures.io.glb import read_accessor, read_glb_container
from mmcity.utils.cli import UserError
from mmcity.visualization.tiles3d import read_tileset
from tests.cli.conftest import call_tool
from tests.datasets.scenes import write_scene
from tests.structures.io.test_gaussian_formats import scene


@pytest.fixture
def export():
    return lambda *words: call_tool("tools/export.py", *words)


def test_gaussians_through_all_formats(tmp_path, export):
    before = scene(400, degree=1)
    before.write_ply(tmp_path / "a.ply")
    chain = ["a.ply", "b.spz", "c.glb", "d.splat", "e.ply"]
    for source, target in zip(chain, chain[1:]):
        export(tmp_path / source, tmp_path / target)
    after = read_gaussians(tmp_path / "e.ply")
    order = before.means[:, 0].argsort(), after.means[:, 0].argsort()
    assert torch.allclose(before.means[order[0]], after.means[order[1]], atol=1e-3)
    assert (tmp_path / "b.spz").stat().st_size < (tmp_path / "a.ply").stat().st_size / 4


def test_streamed_and_packed_folders_are_written_and_read(tmp_path, export, capsys):
    scene(400, degree=1).write_ply(tmp_path / "a.ply")
    for target in ("sog/meta.json", "streamed/lod-meta.json", "b.compressed.ply"):
        export(tmp_path / "a.ply", tmp_path / target)
        assert "400 Gaussians" in capsys.readouterr().out
    for source in ("sog", "streamed", "streamed/lod-meta.json", "b.compressed.ply"):
        export(tmp_path / source, tmp_path / "c.ply")
        assert "400 Gaussians" in capsys.readouterr().out
    export(tmp_path / "streamed", tmp_path / "c.ply", "--lod", 3)
    assert len(read_gaussians(tmp_path / "c.ply")) < 400


def test_strays_stay_behind(tmp_path, export, capsys):
    before = scene(400, degree=1)
    before.opacities = before.opacities.clamp_min(0.2)
    before.opacities[:7] = 0.003
    before.opacities[7:12] = 0.05
    before.means[7:12] += 1e6
    before.write_ply(tmp_path / "a.ply")
    for target in ("b.spz", "c.ply", "tiles"):
        export(tmp_path / "a.ply", tmp_path / target, "--sh-bits", 8)
        assert "5 strays left out" in capsys.readouterr().out
    rows = torch.cat([torch.arange(7), torch.arange(12, 400)])
    wanted = before[rows]
    for target in ("b.spz", "c.ply"):
        after = read_gaussians(tmp_path / target)
        assert (after.means - wanted.means).abs().max() <= 0.51 / 4096
        assert (after.shN - wanted.shN).abs().max() <= 0.51 / 128 + 1e-4
    leaves = read_tileset(tmp_path / "tiles")
    assert len(leaves.gather(leaves.leaves)) == 395


def test_tileset_and_back(tmp_path, export, capsys):
    before = scene(900, degree=0)
    before.write_ply(tmp_path / "a.ply")
    target = tmp_path / "tiles" / "tileset.json"
    export(tmp_path / "a.ply", target, "--max-per-cell", 200, "--georeference=8.54,47.38,410")
    assert "cells of the full scene" in capsys.readouterr().out
    assert "transform" in json.loads(target.read_text())["root"]
    assert len(read_tileset(target).leaves) > 3
    export(tmp_path / "tiles", tmp_path / "b.ply")
    after = read_gaussians(tmp_path / "b.ply")
    assert len(after) == 900
    # Row by row, since rounding changes the order: cells keep 1/4096 about their middle.
    gaps = (after.means[:, None] - before.means).abs().amax(-1)
    assert max(gaps.amin(0).max(), gaps.amin(1).max()) <= 2**-13 + 1e-5


def test_cells_are_packed_unless_that_is_refused(tmp_path, export):
    scene(400, degree=1).write_ply(tmp_path / "a.ply")
    sizes = {}
    for name, words in {"packed": [], "plain": ["--no-compress"]}.items():
        export(tmp_path / "a.ply", tmp_path / name / "tileset.json", *words)
        sizes[name] = sum(p.stat().st_size for p in (tmp_path / name).rglob("*.glb"))
    for name, words in {"c": ["--compress", "spz"], "d": ["--compress"], "e": []}.items():
        export(tmp_path / "a.ply", tmp_path / f"{name}.glb", *words)
        sizes[name] = (tmp_path / f"{name}.glb").stat().st_size
    assert sizes["packed"] < sizes["plain"] / 2
    assert sizes["c"] == sizes["d"] < sizes["e"] / 3


def test_a_page(tmp_path, export, capsys):
    scene(400, degree=1).write_ply(tmp_path / "castle.ply")
    (tmp_path / "castle.ply.view.json").write_text('{"up": [0, -1, 0], "left_out": []}')
    export(tmp_path / "castle.ply", tmp_path / "a.html")
    assert "a.html: 400 Gaussians" in capsys.readouterr().out
    text = (tmp_path / "a.html").read_text()
    assert "<title>castle.ply</title>" in text and '"up": [0.0, -1.0, 0.0]' in text


def test_mesh_points_and_occupancy_to_glb(tmp_path, export):
    trimesh.creation.box((1, 2, 3)).export(tmp_path / "box.ply")
    export(tmp_path / "box.ply", tmp_path / "box.glb")
    box = trimesh.load(tmp_path / "box.glb").to_geometry()
    assert np.allclose(box.extents, [1, 3, 2])  # z up becomes y up
    labels = np.zeros((2, 4, 4, 2), np.uint8)
    labels[1, 1, 2, 0] = 6
    np.savez(tmp_path / "clip.npz", voxels=labels, voxel_size=0.5)
    export(tmp_path / "clip.npz", tmp_path / "clip.obj", "--frame", 1)
    voxel = trimesh.load_mesh(tmp_path / "clip.obj")
    assert np.allclose(voxel.extents, 0.5)


def test_a_clip_to_voxels_and_to_occ3d(tmp_path, export, capsys):
    labels = np.random.default_rng(0).integers(0, 12, (2, 4, 5, 3)).astype(np.uint8)
    seen = labels > 3
    np.savez(tmp_path / "clip.npz", voxels=labels, voxel_size=0.5, mask_camera=seen)
    export(tmp_path / "clip.npz", tmp_path / "a.voxels.glb", "--frame", 1)
    document, binary = read_glb_container(tmp_path / "a.voxels.glb")
    stored = read_accessor(document, binary, 0).reshape(5, 3, 4)  # south, up, east
    np.testing.assert_array_equal(stored[::-1].transpose(2, 0, 1), labels[1])
    export(tmp_path / "clip.npz", tmp_path / "tiles" / "tileset.json")
    assert "index.json: 120 voxels" in capsys.readouterr().out
    export(tmp_path / "clip.npz", tmp_path / "occ3d")
    export(tmp_path / "clip.npz", tmp_path / "waymo", "--occ3d", "waymo")
    for number in range(2):
        frame = read_occ3d_nuscenes_frame(tmp_path / "occ3d" / f"{number:06d}" / "labels.npz")
        for got, want in zip(frame, (labels, np.ones_like(seen), seen)):
            np.testing.assert_array_equal(got, want[number])
        frame = read_occ3d_waymo_frame(tmp_path / "waymo" / f"{number:03d}_04.npz")
        np.testing.assert_array_equal(frame[0], labels[number])


def test_cameras_between_colmap_and_nerfstudio(tmp_path, export):
    write_scene(tmp_path / "scene")
    export(tmp_path / "scene", tmp_path / "ns" / "transforms.json")
    export(tmp_path / "ns", tmp_path / "model")
    assert (tmp_path / "model" / "images.bin").is_file()


def test_what_cannot_be_converted_is_said(tmp_path, export):
    (tmp_path / "t.txt").write_text("0 0 0 0 0 0 0 1\n1 1 0 0 0 0 0 1\n")
    with pytest.raises(UserError, match="trajectory"):
        export(tmp_path / "t.txt", tmp_path / "t.glb")
    with pytest.raises(UserError, match="--config"):
        export(tmp_path / "iter_1.pth", tmp_path / "t.glb")


def test_an_orthophoto_of_a_scene(tmp_path, capsys):
    scene(400, degree=1).write_ply(tmp_path / "a.ply")
    target, words = tmp_path / "o.tif", ["--pixel-size", "0.1", "--extent", "-1", "-2", "2", "3"]
    dispatch(["ortho", str(tmp_path / "a.ply"), str(target), *words])
    assert "o_dsm.tif: 30x50 px of 0.1, extent -1, -2, 2, 3" in capsys.readouterr().out
    assert tifffile.imread(target).shape == (50, 30, 4)


# ------------------------------------------------------------------ what files say


@pytest.fixture
def tagged(tmp_path):
    before = scene(40, degree=2)
    before.sh0 = before.sh0.clamp(-1.5, 1.5)
    before.opacities = before.opacities.clamp(0.1, 0.9)
    write_gaussians(before, tmp_path / "a.ply", info=SplatInfo(model="antialiased"))
    return before


def test_facts_of_a_file(tmp_path, export, capsys, tagged):
    export(tmp_path / "a.ply", tmp_path / "a.spz", "--up", "-y")
    capsys.readouterr()
    export(tmp_path / "a.spz", "--info", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["count"], facts["sh_degree"]) == ("spz 4", 40, 2)
    assert (facts["axes"], facts["model"], facts["is_finite"]) == ("RDF", "antialiased", True)
    assert facts["size"] == (tmp_path / "a.spz").stat().st_size
    assert np.allclose(facts["box"][0], tagged.means.amin(0), atol=1e-3)
    export(tmp_path / "a.spz", "--info")
    told = capsys.readouterr().out
    assert "spz 4" in told and "40, SH degree 2" in told and "antialiased" in told
    tagged.means[3] = float("nan")
    write_gaussians(tagged, tmp_path / "b.ply")
    export(tmp_path / "b.ply", "--info", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (facts["count"], facts["is_finite"], facts["generator"][:7]) == (39, False, "mmcity ")


def test_losses_are_told_once_on_stderr(tmp_path, export, capsys, tagged):
    export(tmp_path / "a.ply", tmp_path / "b.splat")
    told = capsys.readouterr()
    assert told.err == "lost: SH cut from degree 2 to 0; antialiased tag dropped\n"
    export(tmp_path / "a.ply", tmp_path / "c.ply", "--sh", 1)
    assert capsys.readouterr().err == "lost: SH cut from degree 2 to 1\n"
    assert read_gaussians(tmp_path / "c.ply").sh_degree == 1
    export(tmp_path / "c.ply", tmp_path / "d.ply")
    assert not capsys.readouterr().err


def test_axes_and_renderer_of_a_target(tmp_path, export, tagged):
    export(tmp_path / "a.ply", tmp_path / "b.spz", "--assume-axes", "RDF", "--to-axes", "RUB")
    after, info = read_gaussian_file(tmp_path / "b.spz")
    assert info.axes == "RUB" and info.model == "antialiased"
    assert (after.means - tagged.means * torch.tensor([1.0, -1, -1])).abs().max() < 1 / 4096
    # Another format takes over which axis points up, and the scene comes back by name.
    export(tmp_path / "b.spz", tmp_path / "c.glb", "--no-antialiased")
    assert read_gaussian_file(tmp_path / "c.glb")[1].axes == "RUB"
    assert read_gaussian_file(tmp_path / "c.glb")[1].model == "default"
    export(tmp_path / "c.glb", tmp_path / "d.ply", "--to-axes", "RDF", "--antialiased")
    after, info = read_gaussian_file(tmp_path / "d.ply")
    assert (after.means - tagged.means).abs().max() < 1e-3 and info.model == "antialiased"
    with pytest.raises(ValueError, match=r"a\.ply does not say its axes"):
        export(tmp_path / "a.ply", tmp_path / "e.ply", "--to-axes", "RUB")


def test_older_versions_of_spz(tmp_path, export, tagged):
    export(tmp_path / "a.ply", tmp_path / "b.spz", "--spz-version", 3)
    assert read_gaussian_file(tmp_path / "b.spz")[1].format == "spz 3"
    with pytest.raises(UserError, match="--spz-version: expected a target .spz"):
        export(tmp_path / "a.ply", tmp_path / "b.glb", "--spz-version", 3)


@pytest.mark.parametrize("suffix", WRITABLE_SUFFIXES)
def test_every_format_is_a_source_and_a_target(tmp_path, export, tagged, suffix):
    if suffix.startswith(".usd"):
        pytest.importorskip("pxr", reason="usd-core is not installed")
    export(tmp_path / "a.ply", tmp_path / f"b{suffix}")
    export(tmp_path / f"b{suffix}", tmp_path / "c.ply")
    after = read_gaussians(tmp_path / "c.ply")
    nearest = torch.cdist(after.means, tagged.means).min(1).values
    assert len(after) == 40 and nearest.max() < 0.1


def test_refused_input_ends_with_status_2_and_one_line(tmp_path, capsys, monkeypatch):
    for words in (["a.ply", "b.spz"], ["a.ply"], ["a.ply", "--info"]):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as ended:
            main(["export", *words])
        assert ended.value.code == 2
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 1 and told[0].startswith("error: ")
