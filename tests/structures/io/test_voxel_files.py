"""Files of voxel grids: what was written is read, by the viewer too."""

import numpy as np
import pytest
import torch

from mmcity.structures import VoxelGrid, read_voxel_grid, write_voxel_grid
from mmcity.visualization.viewer.occupancy_files import open_occupancy_file


def test_clips_come_back_in_their_place(tmp_path):
    labels = torch.randint(0, 12, (3, 4, 5, 6), generator=torch.Generator().manual_seed(0))
    grid = VoxelGrid(labels, origin=[-1.0, 2.0, 0.5], voxel_size=[0.4, 0.4, 0.375])
    poses = np.tile(np.eye(4), (3, 1, 1))
    write_voxel_grid(tmp_path / "clip.npz", grid, poses=poses)
    shown, _, moves = open_occupancy_file(tmp_path / "clip.npz")
    np.testing.assert_array_equal(moves, poses)
    for found in (read_voxel_grid(tmp_path / "clip.npz"), shown):
        assert torch.equal(found.labels, labels)
        torch.testing.assert_close(found.extent.double(), grid.extent.double())
    write_voxel_grid(tmp_path / "one.npz", grid[1])
    assert torch.equal(read_voxel_grid(tmp_path / "one.npz").labels, labels[1:2])


def test_other_files_and_grids_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", voxels=np.zeros((1, 2, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"other.npz: expected arrays .'origin', 'voxel_size'."):
        read_voxel_grid(tmp_path / "other.npz")
    labels = torch.zeros(2, 2, 2).long()
    grid = VoxelGrid(labels, origin=torch.zeros(3), voxel_size=1.0, free_label=17)
    with pytest.raises(ValueError, match="labels of which 0 is free"):
        write_voxel_grid(tmp_path / "grid.npz", grid)
