"""The training data stream starts anywhere as if it had run from the beginning."""

import random
from itertools import islice

import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from mmcity.engine.loops import BatchStream


class Count:
    """Ten samples; remembers which were loaded."""

    def __init__(self) -> None:
        self.loaded = []

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> int:
        self.loaded.append(index)
        return index


def infinite(data) -> DataLoader:
    return DataLoader(data, batch_size=3, sampler=InfiniteSampler(data, shuffle=True, seed=1))


def finite(data) -> DataLoader:
    return DataLoader(data, batch_size=3, sampler=DefaultSampler(data, shuffle=True, seed=1))


def custom_batches(data) -> DataLoader:
    sampler = DefaultSampler(data, shuffle=True, seed=1)
    return DataLoader(data, batch_sampler=BatchSampler(sampler, 4, drop_last=True))


def unbatched(data) -> DataLoader:
    return DataLoader(data, batch_size=None, sampler=DefaultSampler(data, shuffle=True, seed=1))


LOADERS = [infinite, finite, custom_batches, unbatched]


def take(stream, count: int) -> list:
    return [torch.as_tensor(batch).tolist() for batch in islice(stream, count)]


@pytest.mark.parametrize("make", LOADERS)
@pytest.mark.parametrize("skip", [0, 1, 4, 9, 25])
def test_skipping_equals_running(make, skip):
    whole = take(BatchStream(make(Count())), skip + 12)
    data = Count()
    assert take(BatchStream(make(data), skip=skip), 12) == whole[skip:]
    flat = [i for batch in whole[skip:] for i in (batch if isinstance(batch, list) else [batch])]
    assert data.loaded == flat  # nothing of the skipped part was read


def test_workers(skip=7):
    def make(data):
        sampler = InfiniteSampler(data, shuffle=True, seed=1)
        return DataLoader(data, batch_size=3, sampler=sampler, num_workers=1)

    whole = take(BatchStream(infinite(Count())), skip + 4)
    assert take(BatchStream(make(Count()), skip=skip), 4) == whole[skip:]


def test_epochs_of_a_finite_sampler_differ():
    first, second = (lambda b: (b[:4], b[4:]))(take(BatchStream(finite(Count())), 8))
    assert first != second
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(10))


def test_iterable_dataset_is_read_again():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(5))

    def make():
        return DataLoader(Stream(), batch_size=2)

    assert take(BatchStream(make(), skip=4), 3) == take(BatchStream(make()), 7)[4:]


def test_the_generators_stay_where_they_are():
    torch.manual_seed(3)
    random.seed(3)
    before = torch.get_rng_state(), random.getstate()
    take(BatchStream(finite(Count()), skip=2), 9)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
