"""The localisation scene and the videos, read back."""

import json

import numpy as np
import pytest
from PIL import Image

from mmcity.datasets.io import read_colmap_model
from mmcity.structures import Trajectory
from mmcity.toytown import ToytownConfig
from mmcity.toytown.writers import write_colmap_loc, write_video

CONFIG = ToytownConfig(seed=3, blocks=(1, 2), traffic=0.5)


@pytest.fixture(scope="module")
def localisation(tmp_path_factory):
    return write_colmap_loc(
        tmp_path_factory.mktemp("loc") / "scene",
        CONFIG,
        image_size=(96, 72),
        num_mapping=10,
        num_queries=4,
        num_points=800,
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_video(
        tmp_path_factory.mktemp("video") / "videos",
        CONFIG,
        image_size=(80, 60),
        num_sequences=4,
        num_frames=3,
        with_flow=True,
        paths=("drive", "walk", "orbit", "glide"),
    )


def test_queries_are_listed_and_partly_unmapped(localisation):
    names = (localisation / "list_test.txt").read_text().split()
    assert names == [f"query_{k:04d}.jpg" for k in range(4)]
    unmapped = (localisation / "queries_unmapped.txt").read_text().split()
    assert unmapped == names[-1:]
    model = read_colmap_model(localisation)
    on_disk = sorted(p.name for p in (localisation / "images").iterdir())
    assert sorted(i.name for i in model.images.values()) == on_disk
    assert set(names) < set(on_disk)


def test_the_map_is_made_of_mapping_images_only(localisation):
    model = read_colmap_model(localisation)
    assert len(model.points3D) > 100
    assert model.reprojection_errors().max() < 1
    with_points = {i.name for i in model.images.values() if (i.point3D_ids >= 0).any()}
    assert all(name.startswith("map_") for name in with_points)
    assert len(with_points) >= 7


def test_the_unmapped_query_is_far_from_the_map(localisation):
    model = read_colmap_model(localisation)
    centers = {}
    for image in model.images.values():
        w, x, y, z = image.qvec
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        centers[image.name] = -rotation.T @ image.tvec
    walk = np.array([c for n, c in centers.items() if n.startswith("map_")])
    far = np.linalg.norm(walk - centers["query_0003.jpg"], axis=1).min()
    near = np.linalg.norm(walk - centers["query_0000.jpg"], axis=1).min()
    assert near < 12 < far


def test_video_layout_and_splits(videos):
    names = ["000_drive", "001_walk", "002_orbit", "003_glide"]
    split = [(videos / f"{s}.txt").read_text().split() for s in ("train", "val")]
    assert split == [names[:3], names[3:]]
    for name in names:
        for kind, count in (("rgb", 3), ("depth", 3), ("instance", 3), ("flow", 2)):
            assert len(list((videos / name / kind).iterdir())) == count


def test_depth_png_is_the_exact_depth_rounded(videos):
    exact = np.load(videos / "001_walk" / "depth" / "000001.npy")
    coded = np.asarray(Image.open(videos / "001_walk" / "depth_png" / "000001.png"))
    near = (exact > 0) & (exact < 255)
    assert coded.dtype == np.uint16
    assert np.abs(coded[near] / 256 - exact[near]).max() <= 0.5 / 256 + 1e-4
    assert (coded[~near] == 0).all()


@pytest.mark.parametrize("name", ["000_drive", "001_walk", "002_orbit", "003_glide"])
def test_poses_depth_and_flow_agree(videos, name):
    """Unproject frame 0 with the files, project into frame 1: that is the static flow."""
    folder = videos / name
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 4, 4)
    K = np.loadtxt(folder / "intrinsics.txt")
    depth = np.load(folder / "depth" / "000000.npy").astype(np.float64)
    flow = np.load(folder / "flow" / "000000.npy").astype(np.float64)
    instance = np.asarray(Image.open(folder / "instance" / "000000.png"))
    objects = json.loads((folder / "objects.json").read_text())
    pixels = np.stack(np.meshgrid(np.arange(80) + 0.5, np.arange(60) + 0.5), axis=-1)
    rays = np.concatenate([pixels, np.ones((60, 80, 1))], axis=-1) @ np.linalg.inv(K).T
    points = rays * depth[..., None] @ poses[0, :3, :3].T + poses[0, :3, 3]
    local = (points - poses[1, :3, 3]) @ poses[1, :3, :3]
    target = local[..., :2] / local[..., 2:] * [K[0, 0], K[1, 1]] + K[:2, 2]
    static = (depth > 0) & ~np.isin(instance, [o["id"] for o in objects[0]]) & (local[..., 2] > 0.3)
    error = np.abs((target - pixels - flow)[static]).max(-1)
    size = np.maximum(np.abs(flow[static]).max(-1), 1)
    assert static.sum() > 500
    assert (error < 0.02 + 2e-3 * size).all()  # float16
    track = Trajectory.read_tum(folder / "trajectory.txt")
    assert np.allclose(np.asarray(track.poses), poses, atol=1e-5)


def test_unknown_kind_of_path_is_named(tmp_path):
    with pytest.raises(ValueError, match="fly"):
        write_video(tmp_path / "videos", CONFIG, paths=("fly",))
    assert not (tmp_path / "videos").exists()


def test_same_seed_gives_the_same_bytes(localisation, tmp_path):
    again = write_colmap_loc(
        tmp_path / "again", CONFIG, image_size=(96, 72), num_mapping=10, num_queries=4,
        num_points=800,
    )  # fmt: skip
    sums = [json.loads((p / "toytown.json").read_text())["sha256"] for p in (localisation, again)]
    assert sums[0] == sums[1]
