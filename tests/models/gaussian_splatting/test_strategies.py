"""Densification: what is edited, and that the optimiser follows."""

import math

import pytest
import torch

from mmcity.models.gaussian_splatting import SplatParameters
from mmcity.models.gaussian_splatting.strategies import DefaultStrategy, MCMCStrategy, surgery
from mmcity.structures.geometry import quat_to_rotmat


def make_scene(count=10, sh_degree=1, seed=0):
    """Random Gaussians and an Adam with one group per attribute that has stepped once."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    splats = SplatParameters(sh_degree)
    splats.assign(
        means=draw(count, 3),
        log_scales=draw(count, 3) * 0.1 - 3,
        quats=draw(count, 4),
        opacity_logits=draw(count),
        sh0=draw(count, 1, 3),
        shN=draw(count, 3, 3),
    )
    groups = [dict(params=[getattr(splats, n)], name=f"splats.{n}", lr=1e-3) for n in splats.NAMES]
    optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)
    step(splats, optimizer)
    return splats, optimizer


def step(splats, optimizer):
    optimizer.zero_grad()
    sum((getattr(splats, n) ** 2).sum() for n in splats.NAMES).backward()
    optimizer.step()


def check_in_step(splats, optimizer):
    """All attributes and moments have one length, and the optimiser can go on."""
    for name in splats.NAMES:
        parameter = getattr(splats, name)
        assert len(parameter) == len(splats)
        assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape
        assert optimizer.state[parameter]["exp_avg_sq"].shape == parameter.shape
    before = splats.means.detach().clone()
    step(splats, optimizer)
    assert not torch.equal(before, splats.means)


def test_keep_takes_moments_along():
    splats, optimizer = make_scene()
    means = splats.means.detach().clone()
    moments = optimizer.state[splats.means]["exp_avg"].clone()
    mask = torch.arange(10) % 3 == 0
    surgery.keep(splats, optimizer, mask)
    assert torch.equal(splats.means, means[mask])
    assert torch.equal(optimizer.state[splats.means]["exp_avg"], moments[mask])
    check_in_step(splats, optimizer)


def test_parameters_stay_the_same_objects():
    splats, optimizer = make_scene()
    before = {name: id(getattr(splats, name)) for name in splats.NAMES}
    surgery.duplicate(splats, optimizer, torch.tensor([1, 2]))
    surgery.keep(splats, optimizer, torch.arange(12) > 3)
    assert before == {name: id(getattr(splats, name)) for name in splats.NAMES}


def test_duplicate_appends_copies_with_empty_moments():
    splats, optimizer = make_scene()
    rows = torch.tensor([7, 2])
    surgery.duplicate(splats, optimizer, rows)
    assert len(splats) == 12
    for name in splats.NAMES:
        assert torch.equal(getattr(splats, name)[10:], getattr(splats, name)[rows])
        assert not optimizer.state[getattr(splats, name)]["exp_avg"][10:].any()
        assert optimizer.state[getattr(splats, name)]["exp_avg"][:10].any()
    check_in_step(splats, optimizer)


def test_split_draws_smaller_children_from_the_parent():
    splats, optimizer = make_scene()
    # Many copies of one long Gaussian, to look at the statistics of the children.
    surgery.keep(splats, optimizer, torch.arange(10) == 0)
    splats.log_scales.data[:] = torch.tensor([[0.0, -3.0, -3.0]])
    surgery.duplicate(splats, optimizer, torch.zeros(3999, dtype=torch.long))
    parent = splats.means[0].detach().clone()
    rotation = quat_to_rotmat(splats.quats[0].detach())
    generator = torch.Generator(parent.device).manual_seed(1)
    surgery.split(splats, optimizer, torch.arange(4000), generator)
    assert len(splats) == 8000
    assert torch.allclose(splats.scales[0], torch.tensor([1.0, 0.0498, 0.0498]) / 1.6, atol=1e-3)
    local = (splats.means.detach() - parent) @ rotation
    assert torch.allclose(local.std(0), torch.tensor([1.0, 0.0498, 0.0498]), rtol=0.05)
    check_in_step(splats, optimizer)


def test_reset_lowers_opacities_and_forgets_their_moments():
    splats, optimizer = make_scene()
    moments = optimizer.state[splats.means]["exp_avg"].clone()
    expected = splats.opacities.detach().clamp_max(0.01)
    surgery.reset_opacities(splats, optimizer, 0.01)
    assert torch.allclose(splats.opacities, expected, atol=1e-6)
    assert not optimizer.state[splats.opacity_logits]["exp_avg"].any()
    assert torch.equal(optimizer.state[splats.means]["exp_avg"], moments)


@pytest.mark.parametrize("copies", [2, 3, 17])
def test_relocated_copies_have_the_parents_weight(copies):
    # The published condition: at the centre, n copies block as much light as one did, and
    # the integral of the composite along a line through the centre is that of the parent.
    opacity, scale = 0.83, 0.4
    new_opacity, new_scale = surgery.relocation_values(
        torch.tensor([opacity]), torch.tensor([[scale] * 3]), torch.tensor([copies])
    )
    assert 1 - (1 - new_opacity.item()) ** copies == pytest.approx(opacity, abs=1e-5)
    x = torch.linspace(-8, 8, 20001, dtype=torch.float64)
    single = opacity * torch.exp(-0.5 * (x / scale) ** 2)
    each = new_opacity.double() * torch.exp(-0.5 * (x / new_scale[0, 0].double()) ** 2)
    several = 1 - (1 - each) ** copies
    assert torch.trapezoid(several, x).item() == pytest.approx(
        torch.trapezoid(single, x).item(), rel=1e-4
    )


def test_relocation_of_one_copy_changes_nothing():
    opacity, scale = torch.tensor([0.3]), torch.tensor([[0.1, 0.2, 0.3]])
    new_opacity, new_scale = surgery.relocation_values(opacity, scale, torch.tensor([1]))
    assert torch.allclose(new_opacity, opacity)
    assert torch.allclose(new_scale, scale)


def test_relocate_moves_the_dead_onto_their_sources():
    splats, optimizer = make_scene()
    dead, sources = torch.tensor([0, 1, 2]), torch.tensor([5, 5, 9])
    surgery.relocate(splats, optimizer, dead, sources, 0.005)
    assert torch.equal(splats.means[dead], splats.means[sources])
    assert torch.equal(splats.opacity_logits[0], splats.opacity_logits[5])
    moments = optimizer.state[splats.means]["exp_avg"]
    assert not moments[[0, 1, 2, 5, 9]].any()
    assert moments[3].any()
    check_in_step(splats, optimizer)


def test_sample_rows_follows_the_weights():
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0])
    rows = surgery.sample_rows(weights, 20000, torch.Generator(weights.device).manual_seed(0))
    share = torch.bincount(rows, minlength=4) / 20000
    assert share[0] == 0 and share[2] == 0
    assert share[3].item() == pytest.approx(0.75, abs=0.02)


def meta_with_gradient(splats, gradient, width=100, height=50, visible=None):
    """What a dense rasterization of one view leaves behind."""
    count = len(splats)
    means2d = torch.zeros(1, count, 2)
    means2d.grad = gradient.view(1, count, 2)
    radii = torch.ones(1, count, 2, dtype=torch.int32)
    if visible is not None:
        radii *= visible.view(1, count, 1)
    return dict(means2d=means2d, radii=radii, width=width, height=height, n_views=1)


def test_default_strategy_clones_small_and_splits_large():
    splats, optimizer = make_scene(count=4)
    splats.log_scales.data[:] = math.log(0.001)
    splats.log_scales.data[1] = math.log(0.5)
    splats.opacity_logits.data[:] = 2.0
    gradient = torch.zeros(4, 2)
    gradient[0, 0] = gradient[1, 1] = 1e-3  # 0.05 and 0.025 in units of half the image
    strategy = DefaultStrategy(refine_start=0, refine_every=1, grow_grad2d=0.02)
    report = strategy.step(
        splats, optimizer, 1, [meta_with_gradient(splats, gradient)], scene_extent=1.0, means_lr=0
    )
    assert report["cloned"] == 1 and report["split"] == 1
    assert len(splats) == 6
    check_in_step(splats, optimizer)


def test_default_strategy_averages_over_the_views_that_saw_a_gaussian():
    splats, optimizer = make_scene(count=2)
    strategy = DefaultStrategy(refine_start=100)
    gradient = torch.tensor([[0.02, 0.0], [0.02, 0.0]])
    for visible in ([1, 1], [1, 0]):
        seen = torch.tensor(visible)
        meta = meta_with_gradient(splats, gradient * seen[:, None], visible=seen)
        strategy.step(splats, optimizer, 1, [meta], scene_extent=1.0, means_lr=0)
    assert strategy.grad2d.tolist() == pytest.approx([2.0, 1.0])
    assert strategy.count.tolist() == [2, 1]


def test_default_strategy_reads_packed_rows():
    splats, optimizer = make_scene(count=3)
    means2d = torch.zeros(2, 2)
    means2d.grad = torch.tensor([[0.02, 0.0], [0.0, 0.04]])
    meta = dict(
        means2d=means2d, radii=torch.ones(2, 2), width=100, height=50, n_views=2,
        gaussian_ids=torch.tensor([2, 0]),
    )  # fmt: skip
    strategy = DefaultStrategy(refine_start=100)
    strategy.step(splats, optimizer, 1, [meta], scene_extent=1.0, means_lr=0)
    assert strategy.grad2d.tolist() == pytest.approx([2.0, 0.0, 2.0])


def test_default_strategy_keeps_the_cap_with_the_largest_gradients():
    splats, optimizer = make_scene(count=4)
    splats.log_scales.data[:] = -9.0
    splats.opacity_logits.data[:] = 2.0
    gradient = torch.tensor([[1.0, 0], [4.0, 0], [3.0, 0], [2.0, 0]])
    strategy = DefaultStrategy(refine_start=0, refine_every=1, max_gaussians=6)
    strategy.step(
        splats, optimizer, 1, [meta_with_gradient(splats, gradient)], scene_extent=1.0, means_lr=0
    )
    assert len(splats) == 6
    assert torch.equal(splats.means[4:], splats.means[[1, 2]])


def test_default_strategy_prunes_and_resets():
    splats, optimizer = make_scene(count=4)
    splats.opacity_logits.data[:] = torch.tensor([-9.0, 2.0, 2.0, -9.0])
    strategy = DefaultStrategy(refine_start=0, refine_every=2, reset_every=3)
    meta = [meta_with_gradient(splats, torch.zeros(4, 2))]
    assert strategy.step(splats, optimizer, 2, meta, scene_extent=1.0, means_lr=0)["pruned"] == 2
    report = strategy.step(splats, optimizer, 3, [], scene_extent=1.0, means_lr=0)
    assert report["reset"] == 2
    assert float(splats.opacities.max()) <= 0.01 + 1e-6


def test_default_strategy_state_survives_a_checkpoint():
    first, second = DefaultStrategy(), DefaultStrategy()
    first.grad2d, first.count = torch.rand(5), torch.rand(5)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.grad2d, first.grad2d)
    with pytest.raises(ValueError, match="another strategy"):
        MCMCStrategy().load_state_dict(first.state_dict())


def test_mcmc_revives_the_dead_and_grows_to_the_cap():
    splats, optimizer = make_scene(count=100)
    splats.opacity_logits.data[:30] = -8.0
    strategy = MCMCStrategy(max_gaussians=103, refine_start=0, refine_every=1, noise_lr=0)
    report = strategy.step(splats, optimizer, 1, [], scene_extent=1.0, means_lr=1e-4)
    assert report == {"relocated": 30, "added": 3}
    assert float(splats.opacities.min()) > 0.005
    assert len(splats) == 103
    check_in_step(splats, optimizer)


def test_mcmc_noise_moves_transparent_gaussians_only():
    splats, optimizer = make_scene(count=2)
    splats.opacity_logits.data[:] = torch.tensor([-6.0, 3.0])
    before = splats.means.detach().clone()
    MCMCStrategy(refine_start=100).step(splats, optimizer, 1, [], scene_extent=1.0, means_lr=1e-3)
    assert not torch.equal(splats.means[0], before[0])
    assert torch.equal(splats.means[1], before[1])


def test_mcmc_noise_is_the_same_in_any_unit_of_length():
    moved = []
    for unit in (1.0, 80.0):
        splats, optimizer = make_scene(count=50)
        splats.opacity_logits.data[:] = -5.0
        splats.means.data *= unit
        splats.log_scales.data += math.log(unit)
        before = splats.means.detach().clone()
        options = dict(scene_extent=unit, means_lr=1.6e-4 * unit)
        MCMCStrategy(refine_start=100).step(splats, optimizer, 1, [], **options)
        moved.append((splats.means.detach() - before) / unit)
    assert float(moved[0].norm(dim=1).min()) > 1e-6
    assert torch.allclose(*moved, rtol=1e-3, atol=1e-6)


def test_mcmc_noise_ends_with_refinement():
    splats, optimizer = make_scene(count=20)
    splats.opacity_logits.data[:] = torch.where(torch.arange(20) < 10, -5.0, 2.0)
    before = splats.means.detach().clone()
    strategy = MCMCStrategy(refine_start=0, refine_stop=10, refine_every=3, max_gaussians=20)
    for iteration in (10, 11, 12, 13):
        report = strategy.step(splats, optimizer, iteration, [], scene_extent=1.0, means_lr=1e-3)
        assert report.get("relocated", 0) == 0 and "added" not in report
    assert torch.equal(splats.means, before)


def make_scene_with_strays():
    """A hundred opaque ones, five dead, five far out and nearly transparent, one far and opaque."""
    splats, optimizer = make_scene(count=111)
    splats.opacity_logits.data[:100] = 2.0
    splats.opacity_logits.data[100:105] = -8.0
    splats.opacity_logits.data[105:110] = -3.0  # 0.047
    splats.opacity_logits.data[110] = 2.0
    splats.means.data[105:] += 1e5
    return splats, optimizer


def test_mcmc_brings_strays_back_when_refinement_ends():
    splats, optimizer = make_scene_with_strays()
    strategy = MCMCStrategy(refine_start=0, refine_stop=10, refine_every=3, max_gaussians=111)
    report = strategy.step(splats, optimizer, 10, [], scene_extent=1.0, means_lr=1e-3)
    assert report == {"relocated": 10}
    assert len(splats) == 111 and float(splats.opacities.detach().min()) > 0.1
    assert float(splats.means[:100].abs().max()) < 100 < float(splats.means[110].abs().min())
    check_in_step(splats, optimizer)


def test_default_strategy_removes_strays_when_refinement_ends():
    splats, optimizer = make_scene_with_strays()
    strategy = DefaultStrategy(refine_start=0, refine_stop=10, refine_every=3)
    report = strategy.step(splats, optimizer, 10, [], scene_extent=1.0, means_lr=1e-3)
    assert report == {"pruned": 10}
    assert float(splats.means[:100].abs().max()) < 100 < float(splats.means[100].abs().min())
    check_in_step(splats, optimizer)
    assert strategy.step(splats, optimizer, 11, [], scene_extent=1.0, means_lr=1e-3) == {}


def test_the_same_iteration_draws_the_same_numbers():
    results = []
    for _ in range(2):
        splats, optimizer = make_scene(count=20)
        splats.opacity_logits.data[:5] = -8.0
        strategy = MCMCStrategy(max_gaussians=30, refine_start=0, refine_every=1, seed=3)
        torch.rand(7)  # the global generator must not matter
        strategy.step(splats, optimizer, 1, [], scene_extent=1.0, means_lr=1e-3)
        results.append(splats.means.detach().clone())
    assert torch.equal(*results)
