"""knn_mean_dist2 against all pairs, with duplicates, few points and bad points."""

import pytest
import torch

from mmcity_ops import knn_mean_dist2
from mmcity_ops.reference.knn import knn_mean_dist2 as all_pairs


@pytest.mark.parametrize("n", [2, 3, 4, 17, 33, 1000])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_equals_all_pairs(n, k):
    generator = torch.Generator().manual_seed(n)
    points = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(knn_mean_dist2(points, k), all_pairs(points, k), rtol=1e-12, atol=0)


def test_clusters_far_apart_and_a_line():
    generator = torch.Generator().manual_seed(0)
    cluster = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    line = torch.zeros(300, 3, dtype=torch.float64)
    line[:, 1] = torch.rand(300, generator=generator, dtype=torch.float64) * 1e4
    points = torch.cat([cluster, 1e-3 * cluster[:200] + 1e6, line])
    torch.testing.assert_close(knn_mean_dist2(points), all_pairs(points, 3), rtol=1e-9, atol=0)


def test_duplicates_count_at_distance_zero():
    points = torch.tensor([[0.0, 0, 0]] * 4 + [[1.0, 0, 0]])
    assert knn_mean_dist2(points).tolist() == [0, 0, 0, 0, 1]


def test_few_points():
    assert knn_mean_dist2(torch.zeros(0, 3)).shape == (0,)
    assert knn_mean_dist2(torch.zeros(1, 3)).tolist() == [0]
    assert knn_mean_dist2(torch.tensor([[0.0, 0, 0], [0, 2, 0]])).tolist() == [4, 4]


def test_non_finite_points_are_nobodys_neighbour():
    points = torch.tensor([[0.0, 0, 0], [float("nan"), 0, 0], [0, 0, 3], [float("inf"), 0, 0]])
    distances = knn_mean_dist2(points)
    assert distances.isnan().tolist() == [False, True, False, True]
    assert distances[0] == distances[2] == 9


def test_non_contiguous_input_and_threads(thread_counts):
    points = torch.randn(3, 70000).T
    one, two = (thread_counts(n, lambda: knn_mean_dist2(points)) for n in (1, 2))
    assert torch.equal(one, two)
    assert torch.equal(one, knn_mean_dist2(points.contiguous()))


def test_errors():
    with pytest.raises(ValueError, match=r"points: expected shape \[N, 3\], got \[4, 2\]"):
        knn_mean_dist2(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="k: expected at least 1"):
        knn_mean_dist2(torch.zeros(4, 3), k=0)
    with pytest.raises(TypeError, match="points"):
        knn_mean_dist2(torch.zeros(4, 3, dtype=torch.int32))


def test_opcheck():
    torch.library.opcheck(torch.ops.mmcity.knn_mean_dist2, (torch.randn(50, 3), 3))
