"""Whole batches move to a device, in the kinds that they came in."""

from collections import namedtuple

import torch

from mmcity.structures import Cameras, SequenceDataSample, VoxelGrid, to_device, to_host

Pair = namedtuple("Pair", ("first", "second"))


def test_everything_in_a_batch_moves():
    sample = SequenceDataSample(metainfo={"sequence": "a"})
    sample.cameras = Cameras(torch.eye(3)[None], torch.eye(4)[None], 8, 6)
    sample.gt_depths = torch.ones(1, 6, 8)
    sample.note = "kept"
    batch = {"inputs": [torch.zeros(2)], "data_samples": (sample,), "pair": Pair(torch.ones(1), 3)}
    moved = to_device(batch, "meta")
    assert moved["inputs"][0].is_meta and moved["pair"].first.is_meta and moved["pair"].second == 3
    out = moved["data_samples"][0]
    assert type(out) is SequenceDataSample and (out.sequence, out.note) == ("a", "kept")
    assert out.gt_depths.is_meta and out.cameras.viewmats.is_meta and out.cameras.Ks.is_meta
    assert out.cameras.one_size() == (8, 6)  # sizes stay where the host reads them
    assert not sample.gt_depths.is_meta


def test_what_is_there_is_not_copied():
    grid = VoxelGrid(torch.zeros(2, 2, 2, dtype=torch.long), origin=(0, 0, 0), voxel_size=1.0)
    tensor = torch.zeros(2)
    assert to_device(tensor, tensor.device) is tensor
    assert to_device(grid, tensor.device).labels is grid.labels
    if tensor.device.type == "cpu":
        assert to_host({"a": tensor})["a"] is tensor
