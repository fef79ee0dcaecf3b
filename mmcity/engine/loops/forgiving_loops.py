"""Validation and test that go on where single samples cannot be read or predicted."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from mmengine.runner import TestLoop, ValLoop
from torch.utils.data import DataLoader

from mmcity.registry import LOOPS
from mmcity.utils.failures import ItemFailures


class SoundBatches:
    """Batches of a data loader without the samples that cannot be read, which are named.

    Where a batch of several samples fails, its samples come one by one.

    Args:
        loader: Gives batches of a data set in a fixed order.

    Attributes:
        failures: Samples that failed.
        name: Of the samples of the batch that was given last.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader, self.failures, self.name = loader, ItemFailures("samples"), ""

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["loader"], name)

    def __iter__(self) -> Iterator[Any]:
        batches, dataset = iter(self.loader), self.loader.dataset
        for rows in self.loader.batch_sampler:
            self.name, batch = self._name(rows), None
            if len(rows) > 1:
                with suppress(Exception):  # named below, sample by sample
                    batch = next(batches)
            else:
                batch = self._read(lambda: next(batches))
            if batch is not None:
                yield batch
                continue
            for row in rows if len(rows) > 1 else ():
                self.name = self._name([row])
                batch = self._read(lambda row=row: self.loader.collate_fn([dataset[row]]))
                if batch is not None:
                    yield batch
        self.failures.total = len(dataset)
        if len(self.failures.reasons) == len(dataset):
            self.failures.check()  # nothing is left to measure

    def _read(self, read: Any) -> Any:
        with self.failures.item(self.name):
            return read()
        return None

    def _name(self, rows: Sequence[int]) -> str:
        names = getattr(self.loader.dataset, "img_names", None)
        words = [f"sample {row}" if names is None else str(names[row]) for row in rows]
        return words[0] if len(words) == 1 else f"{words[0]} to {words[-1]}"


class _Forgiving:
    """Puts :class:`SoundBatches` in the place of the data loader while a loop runs.

    Attributes:
        failures (ItemFailures): Samples of the last run that failed.
    """

    def run(self) -> dict[str, float]:
        """Measure the samples that can be."""
        loader, self.dataloader = self.dataloader, SoundBatches(self.dataloader)
        self.failures = self.dataloader.failures
        try:
            return super().run()
        finally:
            self.dataloader = loader

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        """Predict and measure one batch."""
        with self.failures.item(self.dataloader.name):
            super().run_iter(idx, data_batch)


@LOOPS.register_module()
class ForgivingValLoop(_Forgiving, ValLoop):
    """mmengine's ``ValLoop``, in which a sample that fails ends nothing."""


@LOOPS.register_module()
class ForgivingTestLoop(_Forgiving, TestLoop):
    """mmengine's ``TestLoop``, in which a sample that fails ends nothing."""
