"""Growth at scale: linear time, budget, and the batch rule."""

import time

import pytest
import torch

from mmcity.engine.optim import scale_optimizer_for_batch
from mmcity.models.citygsx import AnchorGrowthStrategy, OctreeAnchors
from mmcity.models.citygsx.levels import LevelTable, VoxelGrid3


def plane_of_anchors(count):
    """Anchors on a plane, each seen often with large gradients."""
    torch.manual_seed(0)
    anchors = OctreeAnchors(feat_dim=8, n_offsets=5)
    positions = torch.rand(count, 3) * torch.tensor([200.0, 200.0, 1.0])
    table = LevelTable(3, 1, 400.0)
    anchors.set_octree(VoxelGrid3(torch.zeros(3), 2.0, 0), table)
    anchors.positions.data = positions
    anchors.levels.data = torch.randint(0, 3, (count,), dtype=torch.int32)
    anchors.offsets.data = torch.rand(count, 5, 3) * 6 - 3
    anchors.features.data = torch.randn(count, 8)
    anchors.log_scales.data = torch.zeros(count, 6)
    anchors.extra_levels.data = torch.zeros(count)
    anchors.opacity_sum.data = torch.ones(count)
    anchors.gradient_sum.data = torch.rand(count, 5) * 0.1
    anchors.gradient_count.data = torch.full((count, 5), 100.0)
    anchors.view_count.data = torch.full((count,), 50.0)
    optimizer = torch.optim.Adam([getattr(anchors, name) for name in anchors.PARAMETERS])
    return anchors, optimizer, torch.rand(60, 3) * 200


def test_growth_of_100k_anchors_takes_less_than_a_second():
    anchors, optimizer, centers = plane_of_anchors(100_000)
    strategy = AnchorGrowthStrategy(start=0)
    before, start = len(anchors), time.process_time()
    done = strategy.step(anchors, optimizer, 20_000, centers)
    elapsed = time.process_time() - start
    assert len(anchors) == before + done["added"] - done["removed"]
    assert done["added"] > 10_000
    assert elapsed < 1.0


@pytest.mark.parametrize("budget", ["max_anchors", "max_bytes"])
def test_budget_stops_growth_with_the_strongest_candidates(budget, caplog):
    free, optimizer, centers = plane_of_anchors(500)
    AnchorGrowthStrategy(start=0).step(free, optimizer, 20_000, centers)
    anchors, optimizer, centers = plane_of_anchors(500)
    floats = 3 + 15 + 8 + 6
    limit = 520 if budget == "max_anchors" else 520 * floats * 16
    strategy = AnchorGrowthStrategy(start=0, **{budget: limit})
    done = strategy.step(anchors, optimizer, 20_000, centers)
    assert done["added"] == 20 and done["refused"] == len(free) - 520
    assert len(anchors) == 520


def test_statistics_of_a_grown_anchor_start_at_zero_and_moments_too():
    anchors, optimizer, centers = plane_of_anchors(200)
    sum(getattr(anchors, n).square().sum() for n in anchors.PARAMETERS).backward()
    optimizer.step()
    AnchorGrowthStrategy(start=0).step(anchors, optimizer, 20_000, centers)
    assert len(anchors) > 200
    assert float(anchors.view_count[200:].abs().sum()) == 0
    for name in anchors.PARAMETERS:
        moments = optimizer.state[getattr(anchors, name)]["exp_avg"]
        assert moments.shape == getattr(anchors, name).shape
        assert float(moments[200:].abs().sum()) == 0


def test_four_steps_of_one_view_move_as_far_as_one_step_of_four():
    """With equal gradients Adam moves by its rate; the rule gives sqrt(B) of it per step."""

    def optimizer():
        parameter = torch.nn.Parameter(torch.zeros(1))
        adam = torch.optim.Adam([parameter], lr=0.01, eps=1e-15, betas=(0.9, 0.999))
        adam.param_groups[0]["initial_lr"] = 0.01
        return parameter, adam

    parameter, adam = optimizer()
    scale_optimizer_for_batch(adam, 4, "sqrt_grendel")
    group = adam.param_groups[0]
    assert group["lr"] == group["initial_lr"] == pytest.approx(0.02)
    assert group["betas"] == pytest.approx((0.9**4, 0.999**4))
    assert group["eps"] == pytest.approx(5e-16)
    parameter.grad = torch.ones(1)
    adam.step()
    assert parameter.item() == pytest.approx(-0.02, rel=1e-4)
    _, plain = optimizer()
    scale_optimizer_for_batch(plain, 4, "none")
    assert plain.param_groups[0]["lr"] == 0.01
    with pytest.raises(ValueError, match="batch_lr_rule"):
        scale_optimizer_for_batch(plain, 4, "square")
