"""CameraSampler: epochs, exact resumption, ranks, batches without repeats."""

from itertools import islice

import pytest
from torch.utils.data import DataLoader

from mmcity.datasets import CameraSampler, samplers


def first(sampler, count):
    return list(islice(iter(sampler), count))


def test_each_epoch_holds_every_view_once_in_another_order():
    views = first(CameraSampler(range(10), seed=1), 30)
    epochs = [views[i : i + 10] for i in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert first(CameraSampler(range(4), shuffle=False, seed=0), 6) == [0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize("iteration", [0, 1, 7, 23])
def test_a_resumed_sampler_goes_on_where_it_would_have_been(iteration):
    whole = first(CameraSampler(range(10), batch_size=2, seed=5), 60)
    resumed = CameraSampler(range(10), batch_size=2, seed=5)
    resumed.advance(iteration)
    assert first(resumed, 60 - 2 * iteration) == whole[2 * iteration :]


def test_no_view_repeats_within_a_batch():
    sampler = CameraSampler(range(7), batch_size=3, seed=2)
    loader = DataLoader(range(7), batch_size=3, sampler=sampler)
    for batch in islice(iter(loader), 40):
        assert len(set(batch.tolist())) == 3


def test_ranks_share_out_the_views_or_see_the_same(monkeypatch):
    parts = []
    for rank in range(2):
        monkeypatch.setattr(samplers, "get_dist_info", lambda rank=rank: (rank, 2))
        parts.append(first(CameraSampler(range(8), batch_size=2, seed=3), 4))
    assert sorted(parts[0] + parts[1]) == list(range(8))
    assert not set(parts[0][:2]) & set(parts[1][:2])
    same = []
    for rank in range(2):
        monkeypatch.setattr(samplers, "get_dist_info", lambda rank=rank: (rank, 2))
        same.append(first(CameraSampler(range(8), batch_size=2, seed=3, shard=False), 12))
    assert same[0] == same[1]


def test_too_few_views_are_refused():
    with pytest.raises(ValueError, match="at least 4 views"):
        CameraSampler(range(3), batch_size=4, seed=0)
