"""Reads a scene by several processes, once per kind of storage.

    torchrun --nproc-per-node=M storage_worker.py SCENE OUT

Every process writes what it got, and what it read itself, to OUT/RANK.pt.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from mmcity.datasets import ColmapDataset
from mmcity.datasets.posed_images import STORAGES
from mmcity.engine.distributed import init_cpu_process_group

#: Views asked for, all processes alike; some twice.
ROWS = (0, 3, 1, 3, 5, 2, 0, 4)


class CountingDataset(ColmapDataset):
    """Notes which pictures this process reads from the disk."""

    read_rows: list[int]

    def _read(self, row):
        if self.cache.get(row) is None:
            self.read_rows.append(row)
        return super()._read(row)


def main(scene, out):
    init_cpu_process_group("pytorch")
    results = {}
    for storage in STORAGES:
        for preload in (False, True):
            CountingDataset.read_rows = read_rows = []
            dataset = CountingDataset(scene, split="all", storage=storage, preload=preload)
            read_before = sorted(read_rows)
            items = [dataset[row] for row in ROWS]
            results[storage, preload] = dict(
                images=torch.stack([item["inputs"]["img"] for item in items]),
                viewmats=torch.cat([item["data_samples"].camera.viewmats for item in items]),
                names=[item["data_samples"].img_name for item in items],
                preloaded=read_before,
                read=sorted(read_rows),
                cached_bytes=dataset.cache.bytes,
            )
    torch.save(results, Path(out) / f"{dist.get_rank()}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
