"""The reduced copy of a scene shows the same world."""

import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from mmcity.cli.main import dispatch
from mmcity.datasets import ColmapDataset
from mmcity.datasets.converters import reduce_scene
from mmcity.datasets.io import read_colmap_model, write_colmap_model
from mmcity.structures import SceneFrame, write_frame
from mmcity.utils.fileio import is_temporary, remove_leftovers
from tests.cli.conftest import call_tool
from tests.conftest import REPO
from tests.datasets.scenes import write_scene


def test_points_still_fall_on_their_features(tmp_path):
    model = write_scene(tmp_path / "src", names=["a/0.png", "a/1.png", "b/2.png"], points=30)
    (tmp_path / "src/list_test.txt").write_text("a/1.png\n")
    words = f"{tmp_path}/src {tmp_path}/dst --long-side 20 --max-points 12 --quality 90"
    dispatch(["data", "reduce-colmap", *words.split()])
    small = read_colmap_model(tmp_path / "dst")
    assert len(small.points3D) == 12 and len(small.images) == 3
    assert len(small.reprojection_errors()) == 36
    assert small.reprojection_errors().max() < 1e-6
    # Tracks and features refer to each other.
    for row, point_id in enumerate(small.points3D.ids):
        begin, end = small.points3D.track_offsets[row : row + 2]
        for image_id, index in small.points3D.tracks[begin:end]:
            assert small.images[image_id].point3D_ids[index] == point_id
    held = ColmapDataset(tmp_path / "dst", split="test")
    assert held.img_names == ["a/1.png"]
    assert held[0]["inputs"]["img"].shape == (3, 15, 20)
    assert len(model.images) == 3


def test_a_target_with_content_is_left_alone(tmp_path):
    write_scene(tmp_path / "src")
    (tmp_path / "dst").mkdir()
    (tmp_path / "dst/mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="empty folder"):
        call_tool("tools/dataset_converters/reduce_colmap.py", tmp_path / "src", tmp_path / "dst")
    assert [p.name for p in (tmp_path / "dst").iterdir()] == ["mine.txt"]


def test_numbers_out_of_range_are_refused(tmp_path):
    with pytest.raises(ValueError, match="quality: expected .* 1 to 95, got 480 and 96"):
        dispatch(["data", "reduce-colmap", "src", str(tmp_path), "--quality", "96"])


def test_the_carried_demo_scene_is_whole():
    root = REPO / "demo/data/caliterra_aerial"
    if not root.is_dir():
        pytest.skip("demo data do not travel with an installed package")
    train, test = (ColmapDataset(root, split=split) for split in ("train", "test"))
    assert (len(train), len(test), len(train.points3D)) == (50, 7, 15650)
    assert train.cameras.one_size() == (480, 361)
    # Points carry the colour of the pixels they fall on.
    pixels, _ = test.cameras[2].project(torch.from_numpy(test.points3D.xyz).float())
    x, y = pixels[0].floor().long().unbind(-1)
    inside = (x >= 0) & (x < 480) & (y >= 0) & (y < 361)
    seen = test[2]["inputs"]["img"][:, y[inside], x[inside]].float().mean(0)
    colors = torch.from_numpy(test.points3D.rgb)[inside].float().mean(1)
    assert np.corrcoef(seen, colors)[0, 1] > 0.6


def test_a_killed_run_leaves_nothing_in_the_way_of_the_next(tmp_path):
    write_scene(tmp_path / "src", names=["a/0.png", "a/1.png", "b/2.png"], points=30)
    code = (
        "import os, signal, sys; from mmcity.datasets.converters import reduce_colmap as r\n"
        "r._save_picture = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "r.reduce_scene(*sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "src", tmp_path / "dst"])
    assert done.returncode == -signal.SIGKILL
    (left,) = {path.name for path in tmp_path.iterdir()} - {"src"}
    assert is_temporary(left)

    remove_leftovers.cache_clear()
    assert reduce_scene(tmp_path / "src", tmp_path / "dst").pictures == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dst", "src"]


def test_the_copy_keeps_the_frame_of_the_scene(tmp_path):
    write_scene(tmp_path / "src")
    frame = SceneFrame(crs="EPSG:25832", origin=(452310.25, 5411872.75, 213.5))
    write_frame(tmp_path / "src" / "frame.json", frame)
    reduce_scene(tmp_path / "src", tmp_path / "dst", long_side=20)
    assert ColmapDataset(tmp_path / "dst", split="all").frame == frame


def test_a_picture_outside_of_the_scene_is_not_written_outside_of_the_target(tmp_path):
    model = write_scene(tmp_path / "src", names=["a.png", "b.png"])
    (tmp_path / "src/images/a.png").rename(tmp_path / "evil.png")
    model.images[10].name = "../../evil.png"
    write_colmap_model(model, tmp_path / "src/sparse/0")
    (tmp_path / "deep").mkdir()
    with pytest.raises(ValueError, match="leads out of it"):
        reduce_scene(tmp_path / "src", tmp_path / "deep" / "dst")
    assert list((tmp_path / "deep").iterdir()) == []
