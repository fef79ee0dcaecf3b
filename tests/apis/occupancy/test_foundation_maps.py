"""Maps of foundation models: resumable, in shards, sound."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mmcity.apis.occupancy.foundation_maps import ImageTask, generate_targets, make_provider
from mmcity.datasets.io.info_pickle import save_info_pickle
from mmcity.datasets.io.map_store import MapStore, MapStoreError
from mmcity.models.foundation import SEGMENTATION_WORDS, FeatUpMaskCLIP, paint_detections
from mmcity.utils.cli import UserError
from tests.cli.conftest import call_tool

K = np.array([[50.0, 0, 20], [0, 50, 10], [0, 0, 1]])


@pytest.fixture
def tasks(tmp_path):
    rng = np.random.default_rng(0)
    found = []
    for number in range(5):
        path = tmp_path / "images" / f"log__CAM__{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 40, 3), dtype=np.uint8)).save(path)
        found.append(ImageTask(str(path), K))
    return found


class Counter:
    """A provider that gives the mean brightness everywhere and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, image, task):
        self.calls += 1
        return np.full(image.shape[:2], image.mean(), dtype=np.float32)


def test_an_interrupted_run_goes_on(tasks, tmp_path):
    store = MapStore(tmp_path / "depth", "float16")
    counter = Counter()
    assert generate_targets(tasks[:2], lambda: counter, store) == 2
    assert generate_targets(tasks, lambda: counter, store) == 3
    assert counter.calls == 5
    assert store.check(task.name for task in tasks) == 5
    # Nothing is left to do: the model is not even built.
    assert generate_targets(tasks, lambda: pytest.fail("built"), store) == 0


def test_shards_share_the_work(tasks, tmp_path):
    store = MapStore(tmp_path / "depth", "float16")
    counts = [generate_targets(tasks, Counter, store, (part, 2)) for part in (0, 1)]
    assert counts == [3, 2]
    assert store.check(task.name for task in tasks) == 5


def test_check_names_what_is_wrong(tasks, tmp_path):
    store = MapStore(tmp_path / "depth", "float16", compress=True)
    generate_targets(tasks, Counter, store, size=(10, 20))
    names = [task.name for task in tasks]
    with np.load(store.path(names[0])) as data:
        assert data["data"].shape == (10, 20) and data["data"].dtype == np.float16
    store.path(names[1]).write_bytes(b"cut")
    with pytest.raises(MapStoreError, match="log__CAM__1"):
        store.check(names)
    store.path(names[1]).unlink()
    with pytest.raises(MapStoreError, match="expected 1 maps more"):
        store.check(names)
    with pytest.raises(MapStoreError, match="found others"):
        MapStore(tmp_path / "depth", "uint8")
    with pytest.raises(MapStoreError, match="expected finite numbers"):
        store.write("x", np.array([[np.nan]]))


def test_lidar_depth_keeps_the_returns(tmp_path):
    # A wall of returns 8 m ahead of a camera whose axes are the lidar's.
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.uniform(-4, 4, 4000), rng.uniform(-1, 2, 4000), np.full(4000, 8)])
    sweep = tmp_path / "sweep.bin"
    np.column_stack([points, np.zeros((4000, 2))]).astype("<f4").tofile(sweep)
    task = ImageTask("image.jpg", K, str(sweep), np.eye(4))
    depth = make_provider("depth", "lidar")(np.zeros((20, 40, 3), np.uint8), task)
    # The highest returns lie at y = -1 m: row 10 - 50 / 8.
    assert (depth[5:] == 8).all() and (depth[:2] == 200).all()


def test_tool_makes_and_checks_lidar_depth(tmp_path, capsys):
    folder = tmp_path / "samples" / "CAM_FRONT"
    folder.mkdir(parents=True)
    Image.new("RGB", (40, 20)).save(folder / "a__CAM_FRONT__1.jpg")
    lidar = tmp_path / "samples" / "LIDAR_TOP"
    lidar.mkdir()
    np.tile(np.array([[0, 0, 5, 0, 0]], dtype="<f4"), (3, 1)).tofile(lidar / "a.pcd.bin")
    image = {"img_path": "a__CAM_FRONT__1.jpg", "cam2img": K.tolist(),
             "lidar2cam": np.eye(4).tolist(), "cam2ego": np.eye(4).tolist()}  # fmt: skip
    info = {"token": "t", "images": {"CAM_FRONT": image},
            "lidar_points": {"lidar_path": "a.pcd.bin"}}  # fmt: skip
    save_info_pickle({"metainfo": {}, "data_list": [info]}, tmp_path / "infos.pkl")
    command = ["--kind", "depth", "--model", "lidar", "--infos", str(tmp_path / "infos.pkl"),
               "--root", str(tmp_path), "--out", str(tmp_path / "maps")]  # fmt: skip
    call_tool("tools/generate_targets.py", *command)
    call_tool("tools/generate_targets.py", *command, "--check")
    out = capsys.readouterr().out
    assert "1 maps written, 1 images in all" in out and "1 maps are sound" in out
    call_tool("tools/generate_targets.py", *command)
    assert "0 maps written" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"maps: expected outputs of size \[8, 9\] \(not null\)"):
        call_tool("tools/generate_targets.py", *command, "--size", "8x9")
    with pytest.raises(ValueError, match="expected a model of .*, got 'nothing'"):
        call_tool("tools/generate_targets.py", *command[:3], "nothing", *command[4:])
    for words in (("--shard", "1"), ("--size", "3x"), ("--options", "weights")):
        with pytest.raises(SystemExit):
            call_tool("tools/generate_targets.py", *command, *words)
        assert f"argument {words[0]}: expected" in capsys.readouterr().err


def test_featup_averages_over_patches():
    class Channels(nn.Module):
        def forward(self, x):
            return torch.cat([x, x[:, :1] * 0 + 7], dim=1)

    model = FeatUpMaskCLIP(Channels(), image_size=(32, 48), patch=16)
    images = torch.full((1, 3, 64, 96), 0.485)
    features = model(images)
    assert features.shape == (1, 4, 2, 3)
    torch.testing.assert_close(features[0, 0], torch.zeros(2, 3), atol=1e-6, rtol=0)
    assert (features[0, 3] == 7).all()


def test_later_detections_lie_above_and_odd_phrases_are_left_out():
    left, both = np.zeros((2, 4), bool), np.ones((2, 4), bool)
    left[:, :2] = True
    labels = paint_detections((2, 4), ["car", "car bus", "street sign"], [both, both, left])
    assert labels.tolist() == [[15, 15, 4, 4]] * 2
    assert len(SEGMENTATION_WORDS) == 17
