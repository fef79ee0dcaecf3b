"""Miniature data sets, opened by other people's readers and by the data sets of configs."""

import numpy as np
import pytest

from mmcity.cli.main import dispatch
from mmcity.cli.verbs.data.miniature import LAYOUTS as OFFERED
from mmcity.datasets import CambridgeLandmarks, CityGSXDataset, ColmapDataset, SevenScenes
from mmcity.datasets.occ_sequence import (
    CarlaSCOccSequence,
    Occ3DNuScenesOccSequence,
    Occ3DWaymoOccSequence,
)
from mmcity.datasets.sequences.eval_layouts import EVAL_LAYOUTS
from mmcity.datasets.sequences.frames import read_depth
from mmcity.datasets.sequences.sequence_dataset import list_sequences
from mmcity.datasets.sequences.train_layouts import TRAIN_LAYOUTS
from mmcity.miniature import LAYOUTS, write_miniature
from mmcity.miniature.room import Room, RoomVideo, flight, pinhole
from mmcity.structures.geometry import se3_inverse
from mmcity.utils.picture_files import read_image


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folder of a layout, written once."""
    folders = {}

    def write(layout: str):
        if layout not in folders:
            folders[layout] = write_miniature(layout, tmp_path_factory.mktemp("mini") / layout)
        return folders[layout]

    return write


def distances_to_walls(points: np.ndarray, room: Room) -> np.ndarray:
    """Of points ``(..., 3)`` to the nearest wall."""
    gaps = np.stack([points - room.low, room.high - points])
    return np.abs(gaps).min(axis=(0, -1))


def test_the_command_offers_every_layout():
    assert set(OFFERED) == set(LAYOUTS)


def test_folders_that_hold_files_are_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="remove it or choose another"):
        write_miniature("colmap", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_command_writes_a_layout(tmp_path, capsys):
    dispatch(["data", "miniature", "matrixcity", str(tmp_path / "city")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "city")
    assert (tmp_path / "city/train/block_all/depth/0000.png").is_file()


def test_depth_leads_to_the_walls():
    room = Room((-2, -2, 0), (2, 2, 3))
    video = RoomVideo(room, pinhole(50, (64, 48)), (64, 48), flight(1, 2, 0.3, 1.5))
    y, x = np.mgrid[:48, :64] + 0.5
    rays = np.stack([(x - 32) / 50, (y - 24) / 50, np.ones_like(x)], -1)
    points = rays * video.depth(1)[..., None] @ video.poses[1, :3, :3].T + video.poses[1, :3, 3]
    assert distances_to_walls(points, room).max() < 1e-5
    np.testing.assert_array_equal(room.colors(video.points_seen(1)), video.color(1))


@pytest.mark.parametrize("layout", ["citygsx", "matrixcity", "colmap", "7scenes_sfm"])
def test_pycolmap_opens_scenes(layout, written):
    pycolmap = pytest.importorskip("pycolmap")
    folder = written(layout)
    sparse = "train/block_all/sparse/0" if layout == "matrixcity" else "sparse/0"
    model = pycolmap.Reconstruction(str(folder / sparse))
    pictures = {"citygsx": "train/rgbs", "matrixcity": "train/block_all/images"}
    assert len(model.images) in (24, 64)
    for image in model.images.values():
        assert (folder / pictures.get(layout, "images") / image.name).is_file()
        assert image.name.count("/") == (layout == "7scenes_sfm")
    assert bool(model.points3D) == (layout != "7scenes_sfm")
    if model.points3D:
        assert model.compute_mean_reprojection_error() <= 0.5 + 1e-9
        point = next(iter(model.points3D.values()))
        for element in point.track.elements:
            image = model.images[element.image_id]
            seen = image.points2D[element.point2D_idx].xy
            np.testing.assert_allclose(image.project_point(point.xyz), seen, atol=1e-6)


def test_city_scenes_train_with_priors_and_neighbours(written):
    scene = CityGSXDataset(
        str(written("citygsx")), split="train", split_by="val_folder", image_dir="train/rgbs",
        depth_dir="train/depths", fit_depth="median", resize=dict(factor=4),
    )  # fmt: skip
    assert len(scene) == 22
    sample = scene[0]["data_samples"]
    camera, inverse = sample.camera, sample.gt_inverse_depth.numpy()
    y, x = np.mgrid[: inverse.shape[0], : inverse.shape[1]] + 0.5
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(camera.Ks[0].numpy()).T
    pose = np.asarray(se3_inverse(camera.viewmats[0].numpy()))
    points = rays / inverse[..., None] @ pose[:3, :3].T + pose[:3, 3]
    assert np.abs(points[..., 2]).max() < 0.03  # the floor, by priors whose scale is fitted
    assert "neighbour_image" in sample


def test_photographs_show_the_walls_from_their_poses(written):
    scenes = {
        "cambridge": CambridgeLandmarks(str(written("cambridge")), split="train"),
        "7scenes": SevenScenes(str(written("7scenes")), split="train"),
        "colmap": ColmapDataset(str(written("colmap")), split="train", split_by="auto"),
    }
    rooms = {"cambridge": Room((-20, -20, -2), (20, 20, 12))}
    for layout, scene in scenes.items():
        room = rooms.get(layout, Room((-4, -4, -1.5), (4, 4, 2)))
        assert len(scene) == 60
        photo = scene.images[5]
        K = np.asarray(photo.camera.K)
        size = (photo.camera.width, photo.camera.height)
        video = RoomVideo(room, K, size, np.asarray(se3_inverse(photo.viewmat))[None], coarse=4)
        difference = np.abs(read_image(photo.path).astype(int) - video.color(0)).mean()
        assert difference < 3, (layout, difference)


def test_nuscenes_devkit_opens_the_drives(written):
    nuscenes = pytest.importorskip("nuscenes.nuscenes")
    folder = written("nuscenes")
    found = nuscenes.NuScenes("v1.0-trainval", str(folder), verbose=False)
    assert [scene["name"] for scene in found.scene] == ["scene-0061", "scene-0103"]
    sample = found.sample[0]
    path, boxes, K = found.get_sample_data(sample["data"]["CAM_FRONT"])
    assert read_image(path).shape == (900, 1600, 3)
    assert boxes[0].name == "vehicle.car" and boxes[0].center[2] > 0 and K[0, 0] == 1266
    scan = np.fromfile(found.get_sample_data_path(sample["data"]["LIDAR_TOP"]), "<f4")
    assert scan.reshape(-1, 5).shape[0] == 32 * 90
    assert (folder / "gts/scene-0061" / sample["token"] / "labels.npz").is_file()


def test_info_files_of_the_drives_can_be_made(written):
    pytest.importorskip("nuscenes.nuscenes")
    from mmcity.datasets.converters.nuscenes import convert_nuscenes

    counts = convert_nuscenes(written("nuscenes"), check_files=True)
    assert sorted(counts.values()) == [(1, 2), (1, 4)]


@pytest.mark.parametrize(
    ("layout", "kind", "split", "free", "clips"),
    [
        ("carlasc", CarlaSCOccSequence, "Train", 0, 17),
        ("occ3d_waymo", Occ3DWaymoOccSequence, "training", 0, 2),
        ("occ3d_nuscenes", Occ3DNuScenesOccSequence, "gts", 0, 1),
    ],
)
def test_clips_of_occupancy(layout, kind, split, free, clips, written):
    order = {"order_file": "nuscenes_infos_train.pkl"} if layout == "occ3d_nuscenes" else {}
    data = kind(str(written(layout)), split=split, sequence_length=16, **order)
    assert len(data) == clips
    info = data.get_data_info(0)
    # building, person, road, sidewalk, vegetation, vehicle of the unified classes
    assert {free, 1, 4, 6, 8, 9, 10} == set(np.unique(info["voxels"]))
    assert 0 < info["invalid"].mean() < 1


@pytest.mark.parametrize(
    ("purpose", "layout"),
    [("eval", name) for name in EVAL_LAYOUTS] + [("train", name) for name in TRAIN_LAYOUTS],
)
def test_depth_of_videos_leads_to_the_walls(purpose, layout, written):
    folder = written("streaming_evaluation" if purpose == "eval" else "streaming_training")
    for sequence in list_sequences(layout, folder, purpose):
        frame = sequence.frames[-1]
        if frame.depth is None or frame.cam_to_world is None or frame.K is None:
            assert layout in ("bonn", "kitti", "nyu_v2", "nyu-v2", "scannet", "tum", "co3d")
            continue
        depth = read_depth(frame, sequence.depth_format)
        y, x = np.mgrid[: depth.shape[0], : depth.shape[1]] + 0.5
        rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(frame.K).T
        pose = frame.cam_to_world
        points = (rays * depth[..., None] @ pose[:3, :3].T + pose[:3, 3])[depth > 0]
        room = (
            Room((-4, -4, -1.5), (4, 4, 2))
            if layout == "7scenes"
            else Room((-3, -3, -1.5), (3, 3, 1.5))
        )
        assert (depth > 0).mean() > 0.9
        assert np.quantile(distances_to_walls(points, room), 0.9) < 0.02
