"""A scene shared by 1, 2 or 4 processes is one scene."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scipy.spatial import cKDTree

from mmcity.engine.citygsx import RowDivision, ShardedScene
from mmcity.models.citygsx.shards import morton_keys, voxel_owner
from mmcity.structures.morton import interleave_bits
from tests.devices import need_devices

from . import sharded_worker as worker

WORKER = Path(worker.__file__)


def run(town, out, processes, *more):
    """Start the worker with so many processes and read what rank 0 wrote."""
    need_devices(processes)
    starter = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*starter, f"--nproc-per-node={processes}", WORKER, town, out, *more]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out, weights_only=True)


@pytest.fixture(scope="module")
def one(tiny_town, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "out.pt"
    return run(tiny_town, out, 1)


@pytest.fixture(scope="module")
def shared(tiny_town, tmp_path_factory):
    """What so many processes write; each number of them is started once."""
    folder = tmp_path_factory.mktemp("shared")

    @functools.cache
    def results(processes):
        return run(tiny_town, folder / f"{processes}.pt", processes)

    return results


def test_one_process_computes_what_the_plain_model_does(tiny_town):
    cfg, dataset, model = worker.make(tiny_town)
    model.train()
    data = model.data_preprocessor(worker.batch_of(dataset, [0, 3]), True)
    plain = model.loss(data["inputs"], data["data_samples"])
    sum(plain.values()).backward()
    expected = model.anchors.features.grad.clone()
    model.zero_grad()
    own, shown = ShardedScene(model).loss(data["inputs"], data["data_samples"])
    own.backward()
    for name, value in plain.items():
        torch.testing.assert_close(shown[name], value.detach(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(model.anchors.features.grad, expected, rtol=1e-5, atol=1e-9)


def test_a_loss_that_is_not_finite_names_its_picture_and_term(tiny_town):
    """On one process and in a shared scene; formerly it counted as 0."""
    _, dataset, model = worker.make(tiny_town)
    data = model.data_preprocessor(worker.batch_of(dataset, [0, 3]), True)
    data["inputs"][1][:, 10, 10] = float("nan")
    name = data["data_samples"][1].img_name
    for scene in (model, ShardedScene(model)):
        with pytest.raises(FloatingPointError, match=f"{name}: loss_l1: expected a finite loss"):
            scene.loss(data["inputs"], data["data_samples"])


def matched(ours, theirs):
    """Tables of both, rows matched by position and level, the first two tables.

    Trained positions differ in the last bits, so that sorting would not match them; voxels of
    one level are far apart, those of different levels may coincide.
    """

    def places(tables):
        return torch.cat([tables[0], 100 * tables[1]], 1).numpy()

    distance, rows = cKDTree(places(ours)).query(places(theirs))
    assert len(ours[0]) == len(theirs[0])
    assert len(set(rows.tolist())) == len(rows) and distance.max() < 1e-2
    return [table[rows] for table in ours], theirs


def relative(actual, expected):
    """Largest difference over the largest value."""
    return float((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


# Sums of some thousand terms in another order differ by about sqrt(n) rounding errors, 1e-5 and
# 1e-14 of their size. The second step sees scenes that differ by that much, and a little more
# where Adam has divided gradients that nearly cancel by their own size. In float32 a point may
# then lie on the other side of a kink (the border of a sampled texel, an opacity of 1/255), by
# which one pixel's part of a gradient changes: 1e-3 of the largest entry. In float64 no point
# comes that close, so that nothing but the scheme itself could exceed the tolerance.
TOLERANCES = {"torch.float32": (1e-5, 1e-3), "torch.float64": (1e-12, 1e-10)}


def assert_same_step(one, many, step, tolerance):
    """Losses and gradients of a training step by one and by many processes."""
    for name, value in one[f"losses{step}"].items():
        assert many[f"losses{step}"][name] == pytest.approx(value, rel=tolerance), name
    both = matched(many[f"gradients{step}"], one[f"gradients{step}"])
    for ours, theirs in list(zip(*both))[2:]:
        assert relative(ours, theirs) < tolerance
    for name, theirs in one[f"mlp_gradients{step}"].items():
        assert relative(many[f"mlp_gradients{step}"][name], theirs) < tolerance, name


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("processes", [2, 4])
def test_world_size_changes_nothing_but_the_order_of_sums(processes, dtype, one, shared):
    one, many = one[dtype], shared(processes)[dtype]
    assert many["world_size"] == processes
    for step, tolerance in enumerate(TOLERANCES[dtype]):
        assert_same_step(one, many, step, tolerance)
    # Growth: the same voxels and levels, refused and chosen alike, with their features.
    assert many["done"] == one["done"] and one["done"]["added"] == 500
    assert one["done"]["refused"] > 0
    positions, levels, features, scales, seen, moments = zip(
        *matched(many["anchors"], one["anchors"])
    )
    assert torch.equal(*levels) and torch.equal(*seen)
    close = dict(rtol=0, atol=tolerance)
    torch.testing.assert_close(*positions, **close)  # metres, in a town of 200
    torch.testing.assert_close(*features, **close)
    torch.testing.assert_close(*scales, **close)
    assert relative(*moments) < tolerance
    torch.testing.assert_close(many["image"], one["image"], **close)
    torch.testing.assert_close(many["depth"], one["depth"], rtol=tolerance, atol=tolerance)
    counts = many["counts"]
    assert int(counts.sum()) == int(one["counts"].sum())
    assert int(counts.max()) < 1.2 * int(counts.min())


def test_processes_without_rows_take_part_in_every_exchange(tiny_town, tmp_path):
    """Three processes share a picture of two rows of tiles; one that waits for ever times out."""
    one, three = (run(tiny_town, tmp_path / f"{n}.pt", n, "few") for n in (1, 3))
    one, three = one["torch.float64"], three["torch.float64"]
    assert three["world_size"] == 3 and three["least_rows"] == 0
    for step, tolerance in enumerate(TOLERANCES["torch.float64"]):
        assert_same_step(one, three, step, tolerance)


def test_morton_keys_interleave_bits_and_keep_neighbours_together():
    values = torch.tensor([0, 1, 5, (1 << 21) - 1])
    expected = [0, 1, 0b1000001, sum(1 << (3 * bit) for bit in range(21))]
    assert interleave_bits(values).tolist() == expected
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [2, 0, 0]])
    keys = morton_keys(corners, torch.zeros(3), 1.0)
    assert (keys - keys[0]).tolist() == [0, 1, 2, 4, 7, 8]


def test_owners_of_voxels_are_spread_evenly_and_depend_on_the_level():
    keys = torch.arange(40_000)
    counts = torch.bincount(voxel_owner(keys, 2, 8), minlength=8)
    assert counts.min() > 4700 and counts.max() < 5300
    assert (voxel_owner(keys, 2, 8) != voxel_owner(keys, 3, 8)).float().mean() > 0.8


class FakeCamera:
    def __init__(self, width, height):
        self.size = width, height

    def one_size(self):
        return self.size


def test_rows_that_cost_more_are_shared_out_in_smaller_parts():
    division = RowDivision(2)
    cameras = [FakeCamera(64, 160)]
    division.divide([5], cameras)
    assert division.tiles == [[(0, 0, 5)], [(0, 5, 10)]]
    work = torch.ones(10)
    work[:4] = 20
    division.note(0, work)
    division.share(lambda total: total)
    division.divide([5], cameras)
    assert division.tiles == [[(0, 0, 2)], [(0, 2, 10)]]
    assert division.pixels([150]) == [[(0, 0, 32)], [(0, 32, 150)]]


def test_costs_of_rows_fade_and_cuts_near_an_edge_move_onto_it():
    cameras = [FakeCamera(64, 160)] * 2
    first, second = torch.ones(10), torch.ones(10)
    second[:1] = 11
    costs = []
    for decay in (0.0, 0.75):
        division = RowDivision(2, decay=decay)
        for work in (first, second):
            division.divide([5], cameras[:1])
            division.note(0, work)
            division.share(lambda total: total)
        costs.append(division.costs[5])
    torch.testing.assert_close(costs[0], second + 0.2)
    torch.testing.assert_close(costs[1], 0.75 * (first + 0.1) + 0.25 * (second + 0.2))
    # A third of both pictures' cost is reached in the last row of the first one.
    for border, last in ((1.0, 10), (0.0, 9)):
        division = RowDivision(3, border=border)
        division.costs = {1: torch.tensor([1.0] * 9 + [7.0]), 2: torch.ones(10)}
        division.divide([1, 2], cameras)
        assert division.tiles[0] == [(0, 0, last)]
        assert division.tiles[2] == [(1, 3, 10)]


def test_whole_views_are_shared_out_one_each():
    division = RowDivision(2, "views")
    division.divide([1, 2], [FakeCamera(64, 160), FakeCamera(64, 100)])
    assert division.tiles == [[(0, 0, 10)], [(1, 0, 7)]]
