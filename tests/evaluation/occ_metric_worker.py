"""Evaluates random occupancy in one process of a group; see test_occ_metric_distributed.py."""

import json
import sys
from pathlib import Path

import torch
from mmengine.dist import get_rank
from torch.utils.data import DataLoader, Dataset

from mmcity.datasets.occupancy_labels import OCC3D_NUSCENES_CLASSES
from mmcity.evaluation.metrics import OccMetric
from mmcity.structures import OccupancyDataSample


class RandomFrames(Dataset):
    """Seven frames, so that two processes cannot share them evenly."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        shape = (20, 20, 4)
        sample = OccupancyDataSample()
        sample.gt_occupancy = torch.randint(0, 18, shape, generator=generator)
        noise = torch.rand(shape, generator=generator) < 0.4
        wrong = torch.randint(0, 18, shape, generator=generator)
        sample.pred_occupancy = torch.where(noise, wrong, sample.gt_occupancy)
        sample.set_data({"mask_camera": torch.rand(shape, generator=generator) < 0.7})
        sample.set_data({"ray_origins": torch.tensor([[0.0, 0.0, 1.0]])})
        return sample


def main(out: str) -> None:
    """Evaluate twice; the second table must not remember the first."""
    if len(sys.argv) > 2:
        torch.distributed.init_process_group("gloo")
    from mmengine.dataset import DefaultSampler

    frames = RandomFrames()
    metric = OccMetric(volume_range=(-4, -4, -1, 4, 4, 0.6), ranges=(2, 4), ray_iou=True)
    metric.dataset_meta = {"classes": OCC3D_NUSCENES_CLASSES}
    tables = []
    for _ in range(2):
        loader = DataLoader(
            frames, sampler=DefaultSampler(frames, shuffle=False), batch_size=2,
            collate_fn=lambda batch: batch,
        )  # fmt: skip
        for batch in loader:
            metric.process({}, [sample.to_dict() for sample in batch])
        tables.append(metric.evaluate(len(frames)))
    if get_rank() == 0:
        Path(out).write_text(json.dumps(tables))


if __name__ == "__main__":
    main(sys.argv[1])
