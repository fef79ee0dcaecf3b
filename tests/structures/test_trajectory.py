"""Trajectories: files of three formats, alignment, interpolation."""

import numpy as np
import pytest
import torch

from mmcity.structures import Sim3, Trajectory, TrajectoryFormatError
from mmcity.structures import geometry as geo


def make_trajectory(count=5):
    g = torch.Generator().manual_seed(0)
    rotation = geo.quat_to_rotmat(torch.randn(count, 4, generator=g, dtype=torch.float64))
    centers = torch.randn(count, 3, generator=g, dtype=torch.float64)
    times = 1305031102.175304 + 0.1 * torch.arange(count, dtype=torch.float64)
    return Trajectory(geo.se3_from_rt(rotation, centers), times)


def test_tum_round_trip_and_layout(tmp_path):
    path = make_trajectory()
    path.write_tum(tmp_path / "a.txt")
    rows = np.loadtxt(tmp_path / "a.txt")
    np.testing.assert_array_equal(rows[:, 0], path.timestamps)
    np.testing.assert_array_equal(rows[:, 1:4], path.poses[:, :3, 3])
    # The file has xyzw; its rotation takes camera axes to the world.
    x, y, z, w = rows[1, 4:]
    np.testing.assert_allclose(
        geo.quat_to_rotmat(np.array([w, x, y, z])), path.poses[1, :3, :3], atol=1e-12
    )
    back = Trajectory.read_tum(tmp_path / "a.txt")
    torch.testing.assert_close(back.poses, path.poses)


def test_tum_reads_comments_and_commas(tmp_path):
    (tmp_path / "a.txt").write_text("# time x y z\n0.5,1,2,3,0,0,0,1\n\n")
    path = Trajectory.read_tum(tmp_path / "a.txt")
    assert path.timestamps.tolist() == [0.5]
    assert path.centers.tolist() == [[1, 2, 3]]


def test_kitti_round_trip(tmp_path):
    path = make_trajectory()
    path.write_kitti(tmp_path / "a.txt", tmp_path / "times.txt")
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "a.txt")[0], path.poses[0, :3].flatten())
    back = Trajectory.read_kitti(tmp_path / "a.txt", tmp_path / "times.txt")
    torch.testing.assert_close(back.poses, path.poses, atol=0, rtol=0)
    torch.testing.assert_close(back.timestamps, path.timestamps, atol=0, rtol=0)


def test_7scenes_round_trip(tmp_path):
    path = Trajectory(make_trajectory().poses, [3, 10, 20, 100, 999999])
    path.write_7scenes(tmp_path)
    assert (tmp_path / "frame-000010.pose.txt").is_file()
    back = Trajectory.read_7scenes(tmp_path)
    torch.testing.assert_close(back.poses, path.poses, atol=0, rtol=0)
    assert back.timestamps.tolist() == [3, 10, 20, 100, 999999]
    with pytest.raises(ValueError, match="frame numbers"):
        make_trajectory().write_7scenes(tmp_path)


def test_alignment_undoes_a_similarity():
    path = make_trajectory()
    sim = Sim3(0.2, geo.quat_to_rotmat(torch.tensor([0.9, 0.1, 0.3, 0.2]).double()), torch.ones(3))
    moved = path.transform(sim)
    aligned = moved.transform(moved.alignment_to(path))
    torch.testing.assert_close(aligned.poses, path.poses)


def test_interpolation_passes_through_the_poses_and_halves_between():
    path = make_trajectory(3)
    torch.testing.assert_close(path.interpolate(path.timestamps).poses, path.poses)
    middle = path.interpolate([(path.timestamps[0] + path.timestamps[1]) / 2])
    torch.testing.assert_close(middle.centers[0], path.centers[:2].mean(0), atol=1e-6, rtol=0)
    angles = [geo.rotation_angle(path.poses[i, :3, :3], middle.poses[0, :3, :3]) for i in (0, 1)]
    torch.testing.assert_close(angles[0], angles[1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="expected times in"):
        path.interpolate([0.0])


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        ("read_tum", "1 2 3\n", "line 1"),
        ("read_tum", "1 2 3 4 0 0 0 0\n", "length 0"),
        ("read_tum", "0 0 0 0 0 0 0 1\n1 nan 0 0 0 0 0 1\n", "line 2"),
        ("read_kitti", "1 0 0 0 0 1 0 0 0 0 1 x\n", "line 1"),
        ("read_kitti", "2 0 0 0 0 1 0 0 0 0 1 0\n", "rotation"),
    ],
)
def test_broken_files_name_themselves(tmp_path, reader, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(TrajectoryFormatError, match=rf"a\.txt: .*{message}"):
        getattr(Trajectory, reader)(tmp_path / "a.txt")


def test_binary_rubbish_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(bytes(range(256)))
    with pytest.raises(TrajectoryFormatError):
        Trajectory.read_tum(tmp_path / "a.txt")
