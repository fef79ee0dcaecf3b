"""Cambridge Landmarks and 7-Scenes in their own layouts."""

import numpy as np
import pytest
from PIL import Image

from mmcity.datasets import CambridgeLandmarks, SevenScenes
from mmcity.structures.geometry import axis_angle_to_rotmat


def write_frame(image_path, pose_path, row):
    pose = np.eye(4)
    pose[:3, :3] = axis_angle_to_rotmat(np.array([0.1 * row, 0.2, -0.1]))
    pose[:3, 3] = [row, 2 * row, 1.5]
    for path in (image_path, pose_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48), (row, 0, 0)).save(image_path)
    np.savetxt(pose_path, pose)
    return pose


@pytest.fixture
def cambridge(tmp_path):
    for split, count in (("train", 6), ("test", 3)):
        for row in range(count):
            name = f"seq1_frame{row:05d}"
            folder = tmp_path / split
            write_frame(folder / "rgb" / f"{name}.jpg", folder / "poses" / f"{name}.txt", row)
    return tmp_path


def test_cambridge(cambridge):
    train = CambridgeLandmarks(cambridge, focal=50.0, train_skip=2, exclude_train=[1])
    assert train.img_names == [f"train/rgb/seq1_frame{r:05d}.jpg" for r in (0, 3, 5)]
    test = CambridgeLandmarks(cambridge, focal=50.0, split="test", resize=dict(factor=2))
    assert len(test) == 3
    np.testing.assert_allclose(test.cameras.centers[2], [2, 4, 1.5], atol=1e-5)
    np.testing.assert_allclose(test.cameras.Ks[0, :2, 2], [16, 12])
    assert float(test.cameras.Ks[0, 0, 0]) == 25
    assert test[0]["inputs"]["img"].shape == (3, 24, 32)


def test_where_a_scene_lies_does_not_depend_on_what_is_skipped(cambridge):
    """The training images far from the origin cluster at one end of their walk."""
    walk = [0.0, 900.0, 1.0, 950.0, 2.0, 990.0]
    for row, along in enumerate(walk):
        pose = np.eye(4)
        pose[:3, 3] = 452310.0 + along, 5411872.0, 213.0
        np.savetxt(cambridge / "train" / "poses" / f"seq1_frame{row:05d}.txt", pose)
    for row in range(3):
        np.savetxt(cambridge / "test" / "poses" / f"seq1_frame{row:05d}.txt", pose)
    options = dict(focal=50.0, selection_every=0)
    whole = CambridgeLandmarks(cambridge, **options)
    every_second = CambridgeLandmarks(cambridge, train_skip=2, test_skip=2, **options)
    assert len(every_second) == 3 and whole.offset[0] > 452310.0 + 500
    np.testing.assert_array_equal(every_second.offset, whole.offset)
    first = whole.cameras.centers[whole.img_names.index(every_second.img_names[1])]
    np.testing.assert_allclose(every_second.cameras.centers[1], first, atol=1e-6)


def test_missing_pose_is_named(cambridge):
    (cambridge / "train" / "poses" / "seq1_frame00002.txt").unlink()
    with pytest.raises(ValueError, match="6 images and 5 poses"):
        CambridgeLandmarks(cambridge)


def test_broken_pose_is_named(cambridge):
    (cambridge / "train" / "poses" / "seq1_frame00002.txt").write_text("1 2 3")
    with pytest.raises(ValueError, match=r"seq1_frame00002.txt: expected 16 numbers"):
        CambridgeLandmarks(cambridge)


def test_7scenes(tmp_path):
    for sequence in (1, 2):
        for row in range(4):
            stem = tmp_path / f"seq-{sequence:02d}" / f"frame-{row:06d}"
            write_frame(
                stem.with_name(stem.name + ".color.png"),
                stem.with_name(stem.name + ".pose.txt"),
                row + 10 * sequence,
            )
    (tmp_path / "TrainSplit.txt").write_text("sequence2\n")
    (tmp_path / "TestSplit.txt").write_text("sequence1\n")
    train = SevenScenes(tmp_path, train_skip=3)
    assert train.img_names == ["seq-02/frame-000000.color.png", "seq-02/frame-000003.color.png"]
    np.testing.assert_allclose(train.cameras.centers[1], [23, 46, 1.5], atol=1e-4)
    assert len(SevenScenes(tmp_path, split="test")) == 4
    (tmp_path / "TestSplit.txt").write_text("sequence9\n")
    with pytest.raises(FileNotFoundError, match="seq-09"):
        SevenScenes(tmp_path)
