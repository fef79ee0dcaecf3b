"""An endless stream of batches that can start in the middle."""

from collections.abc import Iterator, Sequence
from itertools import islice

from mmengine.logging import print_log
from torch.utils.data import DataLoader, IterableDataset

from mmcity.engine.checkpointing import preserved_random_state


class _RemainingBatches:
    """The rest of an index stream whose beginning was dropped."""

    def __init__(self, batches: Iterator[Sequence[int]], length: int) -> None:
        self._batches = batches
        self._length = length

    def __iter__(self) -> Iterator[Sequence[int]]:
        return self._batches

    def __len__(self) -> int:
        return self._length


class BatchStream:
    """Batches of a data loader, without end.

    The first ``skip`` batches are dropped by moving the sampler only, no sample is loaded.
    A sampler that ends is started again with ``set_epoch`` of the next epoch. Starting the
    loader never moves the global random generators.

    Args:
        loader: The data loader.
        skip: Number of batches that an earlier run consumed. Defaults to 0.
    """

    def __init__(self, loader: DataLoader, skip: int = 0) -> None:
        self.loader = loader
        self.epoch = 0
        with preserved_random_state():
            self._batches = self._start(skip)

    def __iter__(self) -> Iterator:
        return self

    def __next__(self):
        try:
            return next(self._batches)
        except StopIteration:
            self._begin_epoch(self.epoch + 1)
            with preserved_random_state():
                self._batches = iter(self.loader)
            return next(self._batches)

    def _begin_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        for sampler in (
            self.loader.sampler,
            self.loader.batch_sampler,
            getattr(self.loader.batch_sampler, "sampler", None),
        ):
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
                return

    def _start(self, skip: int) -> Iterator:
        if skip == 0:
            return iter(self.loader)
        if isinstance(self.loader.dataset, IterableDataset):
            print_log(
                f"an iterable dataset has no sampler to move: loading {skip} batches again "
                "to get where the earlier run stopped",
                logger="current",
                level=30,
            )
            return self._skip_by_loading(skip)
        return iter(self._loader_of_rest(skip))

    def _skip_by_loading(self, skip: int) -> Iterator:
        batches = iter(self.loader)
        while skip > 0:
            dropped = sum(1 for _ in islice(batches, skip))
            skip -= dropped
            if skip > 0:
                self._begin_epoch(self.epoch + 1)
                batches = iter(self.loader)
        return batches

    def _loader_of_rest(self, skip: int) -> DataLoader:
        loader = self.loader
        is_batched = loader.batch_sampler is not None
        sampler = loader.batch_sampler if is_batched else loader.sampler
        indices = iter(sampler)
        while skip > 0:
            dropped = sum(1 for _ in islice(indices, skip))
            if dropped == 0:
                raise ValueError("training dataset: expected samples, got none")
            skip -= dropped
            if skip > 0:
                self._begin_epoch(self.epoch + 1)
                indices = iter(sampler)
        rest = _RemainingBatches(indices, len(sampler))
        workers = {}
        if loader.num_workers > 0:
            workers = {
                "prefetch_factor": loader.prefetch_factor,
                "persistent_workers": loader.persistent_workers,
                "multiprocessing_context": loader.multiprocessing_context,
            }
        return DataLoader(
            loader.dataset,
            **({"batch_sampler": rest} if is_batched else {"batch_size": None, "sampler": rest}),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            generator=loader.generator,
            **workers,
        )
