"""Codebooks and palettes."""

import itertools

import numpy as np
import torch

from mmcity.structures import kmeans
from mmcity.structures.kmeans import codebook, nearest, palette


def squares(values, centres):
    return float(((values - centres[nearest(values, centres)]) ** 2).sum())


def test_few_values_are_kept_as_they_are():
    book = codebook(np.array([3.0, 1.0, 1.0, 2.0]), 5)
    assert book.tolist() == [1, 2, 3, 3, 3] and book.dtype == np.float32


def test_a_codebook_is_the_best_of_all(monkeypatch):
    """Against all ways to part twelve sorted numbers into three runs."""
    values = np.sort(np.random.default_rng(3).normal(size=12)) * 5
    monkeypatch.setattr(kmeans, "_MOST_BINS", 10_000)
    monkeypatch.setattr(np, "sqrt", np.asarray)  # weigh each number once
    found = squares(values, codebook(values, 3))
    parts = [np.split(values, cut) for cut in itertools.combinations(range(1, 12), 2)]
    best = min(sum(((p - p.mean()) ** 2).sum() for p in three) for three in parts)
    assert found <= best * 1.3  # bins may hold two numbers


def test_a_codebook_of_many_values_beats_equal_steps():
    values = np.random.default_rng(0).normal(size=20_000)
    steps = np.linspace(values.min(), values.max(), 256)
    assert squares(values, codebook(values)) < 0.5 * squares(values, steps)


def test_a_palette_of_all_rows_loses_nothing():
    rows = torch.rand(40, 9).repeat(3, 1)
    centres, labels = palette(rows, 64)
    assert torch.equal(centres[labels], rows) and len(centres) == 40


def test_two_levels_are_nearly_as_good_as_one():
    rows = torch.randn(6000, 9, generator=torch.Generator().manual_seed(0))
    centres, labels = palette(rows, 2048)
    assert centres.shape == (2048, 9) and labels.max() < 2048
    one = kmeans._lloyd(rows, torch.rand(6000), 2048, 5)
    error = ((rows - centres[labels]) ** 2).mean()
    assert error < 1.25 * ((rows - one[kmeans._nearest_rows(rows, one)]) ** 2).mean()
    again = palette(rows, 2048)
    assert torch.equal(again[0], centres) and torch.equal(again[1], labels)


def test_rows_that_are_seen_are_kept_better():
    gen = torch.Generator().manual_seed(0)
    rows = torch.randn(600, 9, generator=gen)
    weights = torch.where(torch.arange(600) < 100, 1e3, 1.0)
    centres, labels = palette(rows, 300, weights)
    errors = ((rows - centres[labels]) ** 2).mean(1)
    assert errors[:100].mean() < 0.7 * errors[100:].mean()
