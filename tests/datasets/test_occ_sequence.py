"""Readers of occupancy clips on trees with known bytes."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcity.apis.occupancy.class_frequencies import count_class_frequencies
from mmcity.datasets import (
    CarlaSCOccSequence,
    HexPlaneRollout,
    Occ3DNuScenesOccSequence,
    Occ3DWaymoOccSequence,
    SemanticKITTIOccSequence,
)
from mmcity.datasets.io.info_pickle import InfoFileError, save_info_pickle
from mmcity.datasets.io.occupancy_files import OccupancyFormatError
from mmcity.datasets.occupancy_labels import CARLASC_TO_UNIFIED
from mmcity.datasets.transforms.occupancy import (
    FlipXYT,
    flip_planar_poses,
    planar_command,
    planar_trajectory,
)
from mmcity.engine.dynamiccity.rollout_export import export_rollouts
from mmcity.models.dynamiccity import HexPlaneVAE
from mmcity.models.dynamiccity.hexplane import to_rollout
from mmcity.utils.cli import UserError
from tests.cli.conftest import call_tool
from tests.conftest import real_data_dir

GRID = (8, 8, 4)


def write_carlasc(root, split, town, frames, seed=0, poses=True):
    rng = np.random.default_rng(seed)
    folder = root / split / town / "cartesian" / "evaluation"
    folder.mkdir(parents=True)
    params = {"grid_size": GRID, "min_bound": [-1.6, -1.6, -0.8], "max_bound": [1.6, 1.6, 0.8]}
    (folder / "params.json").write_text(json.dumps({**params, "num_channels": 10}))
    labels = rng.integers(0, 23, (frames, *GRID)).astype("<u4")
    counts = rng.integers(0, 3, (frames, *GRID)).astype("<f4")
    for i in range(frames):
        labels[i].tofile(folder / f"{i:06d}.label")
        counts[i].tofile(folder / f"{i:06d}.bin")
    if poses:
        rows = np.tile(np.eye(4)[:3].reshape(1, 12), (frames, 1))
        rows[:, 3] = np.arange(frames) * 0.5
        np.savetxt(folder.parent / "poses.txt", rows)
    return labels, counts


def test_carlasc_labels_masks_and_windows(tmp_path):
    # A parent folder that holds the word "label" must not confuse the reader.
    root = tmp_path / "label_store"
    write_carlasc(root, "Train", "Town02_Light", 5, seed=2)
    labels, counts = write_carlasc(root, "Train", "Town01_Heavy", 7, seed=1)
    dataset = CarlaSCOccSequence(str(root), "Train", sequence_length=3, skip=1)
    assert len(dataset) == (7 - 5 + 1) + (5 - 5 + 1)
    item = dataset[1]  # scenes in order of their names
    assert item["scene"] == "Town01_Heavy" and item["window"] == 1
    expected = np.asarray(CARLASC_TO_UNIFIED)[labels[1:6:2]]
    np.testing.assert_array_equal(item["voxels"], expected)
    np.testing.assert_array_equal(item["invalid"], counts[1:6:2] == 0)
    np.testing.assert_allclose(item["planar_poses"][:, 0], [0.5, 1.5, 2.5])


@given(length=st.integers(1, 5), skip=st.integers(0, 2), stride=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_number_of_windows(tmp_path_factory, length, skip, stride):
    root = tmp_path_factory.mktemp("carlasc")
    write_carlasc(root, "Test", "Town10", 14, poses=False)
    dataset = CarlaSCOccSequence(
        str(root), "Test", sequence_length=length, skip=skip, stride=stride
    )
    span = length * (skip + 1) - skip
    assert len(dataset) == len(range(0, 14 - span + 1, stride))
    assert all(len(dataset.get_data_info(i)["frames"]) == length for i in range(len(dataset)))


def test_broken_carlasc_files_name_themselves(tmp_path):
    write_carlasc(tmp_path, "Train", "Town01", 3)
    folder = tmp_path / "Train" / "Town01" / "cartesian" / "evaluation"
    data = (folder / "000001.label").read_bytes()
    (folder / "000001.label").write_bytes(data[:-4])
    dataset = CarlaSCOccSequence(str(tmp_path), "Train", sequence_length=1)
    with pytest.raises(OccupancyFormatError, match=r"000001\.label: expected 1024 bytes.*got 1020"):
        dataset[1]
    (folder / "params.json").write_text("{}")
    with pytest.raises(OccupancyFormatError, match=r"params\.json: expected keys"):
        CarlaSCOccSequence(str(tmp_path), "Train", sequence_length=1)
    with pytest.raises(FileNotFoundError, match="data_root"):
        CarlaSCOccSequence(str(tmp_path), "Valid", sequence_length=1)


def test_unknown_labels_are_refused(tmp_path):
    write_carlasc(tmp_path, "Train", "Town01", 1)
    path = tmp_path / "Train" / "Town01" / "cartesian" / "evaluation" / "000000.label"
    np.full(GRID, 99, dtype="<u4").tofile(path)
    dataset = CarlaSCOccSequence(str(tmp_path), "Train", sequence_length=1)
    with pytest.raises(ValueError, match=r"000000\.label: expected labels of 0\.\..*, got 99"):
        dataset[0]


def test_occ3d_waymo_and_nuscenes(tmp_path):
    grid = np.full((4, 4, 2), 23, dtype=np.uint8)  # 23 is free in released Waymo files
    grid[0, 0, 0], grid[1, 1, 1] = 1, 13
    state = np.zeros(grid.shape, dtype=np.uint8)
    state[0] = 1
    folder = tmp_path / "waymo" / "training" / "000"
    folder.mkdir(parents=True)
    for i in range(2):
        np.savez(
            folder / f"{i:03d}_04.npz",
            voxel_label=grid,
            origin_voxel_state=state,
            final_voxel_state=state,
            infov=state,
        )
    item = Occ3DWaymoOccSequence(str(tmp_path / "waymo"), "training", sequence_length=2)[0]
    assert item["voxels"][0, 0, 0, 0] == 10 and item["voxels"][1, 1, 1, 1] == 6
    assert (item["voxels"] > 0).sum() == 4
    np.testing.assert_array_equal(item["invalid"][0], state == 0)

    root = tmp_path / "nuscenes"
    tokens = ["ff01", "aa02"]  # not in the order of their names
    semantics = np.full((4, 4, 2), 17, dtype=np.uint8)
    for i, token in enumerate(tokens):
        frame = semantics.copy()
        frame[i, 0, 0] = 4
        (root / "gts" / "scene-0001" / token).mkdir(parents=True)
        np.savez(
            root / "gts" / "scene-0001" / token / "labels.npz",
            semantics=frame,
            mask_lidar=state,
            mask_camera=state,
        )
    (root / "order.json").write_text(json.dumps({"scene-0001": tokens}))
    item = Occ3DNuScenesOccSequence(str(root), "order.json", sequence_length=2)[0]
    assert item["voxels"][0, 0, 0, 0] == 10 and item["voxels"][1, 1, 0, 0] == 10
    # The info file says the same, whatever its order, and brings poses.
    turn = np.eye(4)
    turn[:2, :2], turn[:3, 3] = [[0, -1], [1, 0]], [7, 8, 9]
    rows = [
        {"token": "aa02", "scene_idx": "scene-0001", "timestamp": 2.5, "ego2global": turn},
        {"token": "ff01", "scene_idx": "scene-0001", "timestamp": 2.0, "ego2global": np.eye(4)},
    ]
    save_info_pickle({"metainfo": {}, "data_list": rows}, root / "nuscenes_infos_train.pkl")
    same = Occ3DNuScenesOccSequence(str(root), "nuscenes_infos_train.pkl", sequence_length=2)[0]
    np.testing.assert_array_equal(same["voxels"], item["voxels"])
    np.testing.assert_allclose(same["planar_poses"], [[0, 0, 0], [7, 8, np.pi / 2]])
    save_info_pickle({"metainfo": {}, "data_list": [{"token": "x"}]}, root / "old.pkl")
    with pytest.raises(InfoFileError, match="old.pkl: expected .'scene_idx'.*mmcity data update"):
        Occ3DNuScenesOccSequence(str(root), "old.pkl", sequence_length=2)
    (root / "gts" / "scene-0001" / "aa02" / "labels.npz").write_bytes(b"PK broken")
    with pytest.raises(OccupancyFormatError, match="expected a readable npz"):
        Occ3DNuScenesOccSequence(str(root), "order.json", sequence_length=2)[0]


def test_classes_are_counted_in_every_frame_once(tmp_path, capsys):
    labels, _ = write_carlasc(tmp_path, "Train", "Town01", 5, seed=1)
    config = tmp_path / "vae.py"
    dataset = dict(type="CarlaSCOccSequence", data_root=str(tmp_path), split="Train")
    dataset |= dict(sequence_length=3, data_length=1, crop=(4, 4, 4))
    config.write_text(f"model = dict()\ntrain_dataloader = dict(dataset={dataset!r})\n")
    unified = np.take(CARLASC_TO_UNIFIED, labels)
    counts = np.bincount(unified.ravel(), minlength=12).tolist()
    assert count_class_frequencies(config) == counts and sum(counts) == labels.size
    call_tool("tools/analysis_tools/class_frequencies.py", config)
    assert f"class_frequencies={counts}," in capsys.readouterr().out
    with pytest.raises(UserError, match="--split: expected a loader of .*, got val"):
        count_class_frequencies(config, split="val")


def test_flips_keep_conditions_consistent():
    rng = np.random.default_rng(0)
    yaw = np.cumsum(rng.uniform(0.01, 0.03, 8)) + 1.0
    step = np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    poses = np.concatenate([np.cumsum(step, axis=0), yaw[:, None]], axis=1)
    assert planar_command(poses) == 2
    for flip_type in (1, 2):
        flipped = flip_planar_poses(poses, flip_type)
        assert planar_command(flipped) == 3
        np.testing.assert_allclose(flip_planar_poses(flipped, flip_type), poses)
    np.testing.assert_allclose(flip_planar_poses(poses, 4), poses[::-1])
    local = planar_trajectory(poses, "ego")
    mirrored = planar_trajectory(flip_planar_poses(poses, 2), "ego")
    np.testing.assert_allclose(mirrored, local * [1, -1, -1], atol=1e-12)
    both = planar_trajectory(flip_planar_poses(poses, 3), "ego")
    np.testing.assert_allclose(both, local * [-1, -1, 1], atol=1e-12)


def test_flip_transform_moves_everything_together(tmp_path):
    write_carlasc(tmp_path, "Train", "Town01", 3)
    plain = CarlaSCOccSequence(str(tmp_path), "Train", sequence_length=3)[0]
    flipped = FlipXYT(prob=1.0)({key: value for key, value in plain.items()})
    kind = flipped["flip_type"]
    axes = [axis for bit, axis in ((1, 1), (2, 2), (4, 0)) if kind & bit]
    np.testing.assert_array_equal(np.flip(flipped["voxels"], axes), plain["voxels"])
    np.testing.assert_array_equal(np.flip(flipped["invalid"], axes), plain["invalid"])
    assert flipped["frames"] == plain["frames"][:: -1 if kind & 4 else 1]


def test_export_resumes_and_feeds_the_second_stage(tmp_path):
    write_carlasc(tmp_path, "Train", "Town01", 9)
    dataset = CarlaSCOccSequence(str(tmp_path), "Train", sequence_length=4)
    model = HexPlaneVAE(
        spatial_size=GRID,
        sequence_length=4,
        latent_channels=4,
        query_channels=4,
        conv_hidden_low_res=4,
        conv_hidden_high_res=4,
        transformer_depth=1,
    )
    out = tmp_path / "rollouts"
    export_rollouts(model, dataset, out)
    files = sorted((out / "Town01").glob("*.npz"))
    assert [f.name for f in files] == [f"{i:06d}.npz" for i in range(6)]
    before = {f: f.read_bytes() for f in files}
    files[2].unlink()
    export_rollouts(model, dataset, out)
    with np.load(files[2]) as again, np.load(files[1]) as other:
        assert again["rollout"].shape == (1, 4, 8, 8) and again["rollout"].dtype == np.float16
        assert not np.array_equal(again["rollout"], other["rollout"])
    assert {f: f.read_bytes() for f in files} == before

    # Those of other weights are refused, or made anew.
    torch.nn.init.normal_(next(model.parameters()))
    with pytest.raises(UserError, match="rollouts: expected outputs of weights"):
        export_rollouts(model, dataset, out)
    assert {f: f.read_bytes() for f in files} == before
    export_rollouts(model, dataset, out, replace=True)
    assert all(f.read_bytes() != before[f] for f in files)

    flipped = tmp_path / "flipped"
    export_rollouts(model, dataset, flipped, flips=(0, 7))
    both = HexPlaneRollout(str(flipped), conditions=("hexplane", "command", "trajectory"))
    scenes = [both.get_data_info(i)["scene"] for i in range(len(both))]
    assert scenes == ["Town01"] * 2 + ["Town01_flip7"] * 2
    # The last window of the scene is the first of the flipped one, the clip before it comes after.
    clip = np.flip(dataset.get_data_info(1)["voxels"], (0, 1, 2)).copy()
    expected = to_rollout(model.encode(torch.from_numpy(clip)[None])[0])[0].detach()
    entry = next(i for i in range(4) if both.get_data_info(i)["path"].endswith("p7/000001.npz"))
    found = both[entry]["inputs"]
    torch.testing.assert_close(found["rollout"], expected, atol=2e-3, rtol=2e-3)
    assert both.get_data_info(entry)["previous"].endswith("Town01_flip7/000005.npz")
    assert found["trajectory"][-1, 0] > 0  # still driving forwards
    assert both.get_cat_ids(entry) == [int(found["command"])]

    rollouts = HexPlaneRollout(
        str(out), conditions=("hexplane", "layout", "trajectory", "command"), txyz=model.txyz
    )
    assert [rollouts.get_data_info(i)["window"] for i in range(len(rollouts))] == [4, 5]
    item = rollouts[0]["inputs"]
    with np.load(files[0]) as first, np.load(files[4]) as fourth:
        np.testing.assert_array_equal(item["hexplane"].numpy(), first["rollout"][0])
        np.testing.assert_array_equal(item["rollout"].numpy(), fourth["rollout"][0])
    assert int(item["command"]) == 1
    np.testing.assert_allclose(item["trajectory"][:, 0], [0, 0.5, 1.0, 1.5], atol=1e-6)
    mean, std = rollouts.statistics
    assert mean.shape == (6, 4) and bool((std > 0).all())
    with pytest.raises(ValueError, match="txyz"):
        HexPlaneRollout(str(out), txyz=(1, 2, 2, 1))
    with pytest.raises(FileNotFoundError, match="export_rollouts"):
        HexPlaneRollout(str(tmp_path / "nowhere"))


@pytest.mark.real_data
def test_semantickitti_clips():
    root = real_data_dir("semantickitti_4d")
    dataset = SemanticKITTIOccSequence(str(root), sequence_length=8, scenes=["07"])
    assert len(dataset) == 3
    item = dataset[0]
    assert item["voxels"].shape == (8, 128, 128, 8)
    share = (item["voxels"] > 0).mean()
    assert 8 <= round(100 * share) <= 15  # per cent, from the description of the data
    travelled = np.linalg.norm(np.diff(item["planar_poses"][:, :2], axis=0), axis=1).sum()
    assert travelled < 1.2
    crop = SemanticKITTIOccSequence(str(root), sequence_length=8, scenes=["07"], crop=(64, 64, 8))[
        0
    ]
    np.testing.assert_array_equal(crop["voxels"], item["voxels"][:, 32:96, 32:96])
    anywhere = SemanticKITTIOccSequence(
        str(root), sequence_length=8, scenes=["07"], crop=(64, 64, 8), random_crop=True
    )
    np.random.seed(3)  # noqa: NPY002
    x, y = (np.random.rand(2) * 65).astype(int)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    np.testing.assert_array_equal(anywhere[0]["voxels"], item["voxels"][:, x : x + 64, y : y + 64])
    assert (x, y) != (32, 32)
    rare = SemanticKITTIOccSequence(
        str(root), sequence_length=8, scenes=["07"], crop=(16, 16, 8), random_crop=True,
        class_balance=1.0,
    )  # fmt: skip
    seen = [np.unique(rare[0]["voxels"]) for _ in range(40)]
    # Poles fill 0.2 % of the grid: crops placed blindly hold them half as often at most.
    classes = len(np.setdiff1d(np.unique(item["voxels"]), 0))
    assert np.mean([5 in labels for labels in seen]) > 1.5 / classes
    with pytest.raises(ValueError, match="expected random_crop"):
        SemanticKITTIOccSequence(str(root), crop=(16, 16, 8), class_balance=0.5)
    with pytest.raises(ValueError, match="expected scenes of split"):
        SemanticKITTIOccSequence(str(root), scenes=["99"])
