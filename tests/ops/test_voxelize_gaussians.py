"""gaussians_to_voxels: closed forms, gradients, batches, edge cases."""

import math

import pytest
import torch

from mmcity_ops import gaussians_to_voxels

GRID = {"vol_range": [-2.0, -1.5, -1.0, 2.0, 1.5, 1.0], "voxel_size": 0.25}


def scene(n=12, channels=3, dtype=torch.float64, seed=0, batch=()):
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*batch, *shape, generator=generator, dtype=dtype)

    return {
        "means": 4 * rand(n, 3) - 2,
        "opacities": rand(n),
        "features": rand(n, channels),
        "quats": rand(n, 4) - 0.5,
        "scales": 0.1 + 0.5 * rand(n, 3),
    }


def test_one_gaussian_has_its_closed_form():
    density, features = gaussians_to_voxels(
        torch.tensor([[0.125, 0.125, 0.125]]),  # the centre of voxel 8, 6, 4
        torch.tensor([0.8]),
        torch.tensor([[2.0, 3.0]]),
        covars=0.25 * torch.eye(3)[None],
        **GRID,
    )
    assert density.shape == (16, 12, 8, 1)
    assert density[8, 6, 4, 0].item() == pytest.approx(0.8)
    assert density[10, 6, 4, 0].item() == pytest.approx(0.8 * math.exp(-0.5 * 0.5**2 / 0.25))
    assert features[10, 6, 4].tolist() == pytest.approx([2, 3])  # normalized
    assert density[0, 6, 4, 0].item() == 0  # 2.0 m away, the box ends at 1.5 m


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("channels", [1, 17, 40])
def test_equals_the_reference_with_gradients(channels, normalize, monkeypatch):
    def run():
        leaves = {k: v.requires_grad_() for k, v in scene(40, channels).items()}
        outputs = gaussians_to_voxels(**leaves, **GRID, normalize=normalize)
        cotangents = [torch.cos(torch.arange(x.numel())).reshape(x.shape).to(x) for x in outputs]
        return *outputs, *torch.autograd.grad(outputs, list(leaves.values()), cotangents)

    native = run()
    monkeypatch.setenv("MMCITY_OPS_BACKEND", "reference")
    for ours, theirs in zip(native, run()):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_gradcheck():
    leaves = [v.requires_grad_() for v in scene(4, 2).values()]
    grid = {"vol_range": [-2.0, -2, -1, 2, 2, 1], "voxel_size": 0.8}

    def call(means, opacities, features, quats, scales):
        return gaussians_to_voxels(
            means, opacities, features, quats=quats, scales=scales, extent=50.0, **grid
        )

    assert torch.autograd.gradcheck(call, leaves)


def test_batch_equals_samples_one_by_one():
    whole = scene(9, batch=(2, 3))
    density, features = gaussians_to_voxels(**whole, **GRID)
    assert density.shape == (2, 3, 16, 12, 8, 1)
    one = gaussians_to_voxels(**{k: v[1, 2] for k, v in whole.items()}, **GRID)
    assert torch.equal(density[1, 2], one[0])
    assert torch.equal(features[1, 2], one[1])


def test_nothing_to_draw_gives_zeros_and_zero_gradients():
    empty, features = gaussians_to_voxels(**scene(0), **GRID)
    assert empty.abs().max() == 0
    assert features.abs().max() == 0
    away = {k: v.requires_grad_() for k, v in scene(5).items()}
    density, _ = gaussians_to_voxels(**{**away, "means": away["means"] + 100}, **GRID)
    assert density.abs().max() == 0
    density.sum().backward()
    assert all(v.grad is None or v.grad.abs().max() == 0 for v in away.values())


def test_nan_gaussians_are_skipped():
    clean = scene(6)
    bad = {k: torch.cat([v, v[:1]]) for k, v in clean.items()}
    bad["means"][-1, 1] = float("nan")
    for ours, theirs in zip(
        gaussians_to_voxels(**bad, **GRID), gaussians_to_voxels(**clean, **GRID)
    ):
        assert torch.equal(ours, theirs)


def test_one_voxel_odd_sizes_and_non_contiguous_inputs():
    args = scene(7, 5)
    density, _ = gaussians_to_voxels(**args, vol_range=[-2, -2, -2, 2, 2, 2], voxel_size=4.0)
    assert density.shape == (1, 1, 1, 1)
    moved = {k: (v.T.contiguous().T if v.dim() == 2 else v) for k, v in args.items()}
    grid = {"vol_range": [-2, -2, -2, 2, 2, 2], "voxel_size": [0.3, 0.5, 0.11]}
    assert torch.equal(
        gaussians_to_voxels(**args, **grid)[1], gaussians_to_voxels(**moved, **grid)[1]
    )


def test_bitwise_equal_for_any_number_of_threads(thread_counts):
    leaves = {k: v.requires_grad_() for k, v in scene(300, 20, torch.float32).items()}

    def run():
        outputs = gaussians_to_voxels(**leaves, **GRID)
        return *outputs, *torch.autograd.grad(
            [x.square().sum() for x in outputs], list(leaves.values())
        )

    one, two = (thread_counts(n, run) for n in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two))


def test_errors():
    args = scene(4)
    with pytest.raises(ValueError, match="expected covars, or quats and scales"):
        gaussians_to_voxels(**args, covars=torch.eye(3).expand(4, 3, 3), **GRID)
    with pytest.raises(ValueError, match=r"features: expected shape \[4, C\]"):
        gaussians_to_voxels(**{**args, "features": torch.zeros(3, 2)}, **GRID)
    with pytest.raises(ValueError, match="vol_range: expected 6 numbers"):
        gaussians_to_voxels(**args, vol_range=[0, 1], voxel_size=1)
    with pytest.raises(ValueError, match="grid_shape: expected three sizes of at least 1"):
        gaussians_to_voxels(**args, vol_range=[0, 0, 0, 1, 1, 1], voxel_size=2)
    with pytest.raises(TypeError, match="opacities: expected torch.float64"):
        gaussians_to_voxels(**{**args, "opacities": args["opacities"].float()}, **GRID)


def test_opcheck_and_double_backward():
    args = scene(6, 2)
    covars = torch.eye(3, dtype=torch.float64).expand(1, 6, 3, 3) * 0.2
    inputs = (args["means"][None], covars, args["opacities"][None], args["features"][None])
    leaves = tuple(x.detach().clone().requires_grad_() for x in inputs)
    settings = (GRID["vol_range"], [0.25] * 3, [16, 12, 8], 3.0, 1e-6, True)
    torch.library.opcheck(torch.ops.mmcity.gaussians_to_voxels_fwd, (*leaves, *settings))
    outputs = torch.ops.mmcity.gaussians_to_voxels_fwd(*leaves, *settings)
    (grad,) = torch.autograd.grad(outputs[0].sum(), leaves[0], create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        grad.sum().backward()
