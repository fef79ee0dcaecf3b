"""Occupancy in the layouts of Occ3D: what our readers read back."""

import numpy as np
import pytest
import torch

from mmcity.datasets.io import occ3d_writer
from mmcity.datasets.io.occ3d_writer import write_occ3d
from mmcity.datasets.io.occupancy_files import (
    occ3d_grid,
    read_occ3d_nuscenes_frame,
    read_occ3d_waymo_frame,
)
from mmcity.structures import VoxelGrid
from mmcity.visualization.viewer import open_layers


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 256, (3, 6, 5, 4)).astype(np.uint8)
    masks = {name: torch.from_numpy(rng.random(labels.shape) < 0.5) for name in ("lidar", "camera")}
    return occ3d_grid(labels, masks=masks)


@pytest.mark.parametrize(
    ("layout", "read", "names"),
    [
        ("nuscenes", read_occ3d_nuscenes_frame, [f"00000{n}/labels.npz" for n in range(3)]),
        ("waymo", read_occ3d_waymo_frame, [f"00{n}_04.npz" for n in range(3)]),
    ],
)
def test_frames_are_read_back_bit_for_bit(tmp_path, clip, layout, read, names):
    files = write_occ3d(clip, tmp_path, layout)

    assert [file.relative_to(tmp_path).as_posix() for file in files] == names
    for number, file in enumerate(files):
        labels, lidar, camera = read(file)
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, clip.labels[number].numpy())
        np.testing.assert_array_equal(lidar, clip.masks["lidar"][number].numpy())
        np.testing.assert_array_equal(camera, clip.masks["camera"][number].numpy())
        with np.load(file) as data:
            assert {array.dtype for array in data.values()} == {np.dtype(np.uint8)}


def test_what_lacks_is_said_once(tmp_path, clip, monkeypatch):
    said = []
    monkeypatch.setattr(occ3d_writer, "print_log", lambda text, *_: said.append(text))
    plain = VoxelGrid(clip.labels % 12, origin=clip.origin, voxel_size=clip.voxel_size)
    files = write_occ3d(plain, tmp_path)
    assert len(said) == 2
    assert "with 0 for free voxels, which is 17" in said[0]
    assert "without masks of lidar and camera, all is seen" in said[1]
    assert all(mask.all() for file in files for mask in read_occ3d_nuscenes_frame(file)[1:])


def test_labels_beyond_a_byte_are_refused(tmp_path, clip):
    clip.labels[0, 0, 0, 0] = 256
    with pytest.raises(ValueError, match="0 to 255, got 0 to 256"):
        write_occ3d(clip, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_viewer_opens_them(tmp_path, clip):
    write_occ3d(VoxelGrid(clip.labels % 18, origin=clip.origin, voxel_size=clip.voxel_size,
                          free_label=17), tmp_path / "occ")  # fmt: skip
    (layer,) = open_layers(tmp_path / "occ")
    assert torch.equal(layer.data[0].labels, clip.labels % 18)
