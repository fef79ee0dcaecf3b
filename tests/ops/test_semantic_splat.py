"""semantic_splat: closed forms, gradients, points outside, edge cases."""

import math

import pytest
import torch

from mmcity_ops import quat_scale_to_covar_preci, semantic_splat

GRID = {"vol_range": [-2.0, -2, -1, 2, 2, 1], "voxel_size": 0.5}


def scene(n_points=50, n=12, channels=4, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(shape, generator=generator, dtype=dtype)

    extent = torch.tensor([4.4, 4.4, 2.2], dtype=dtype)  # some lie outside
    return {
        "points": extent * (rand(n_points, 3) - 0.5),
        "means": extent * (rand(n, 3) - 0.5),
        "quats": rand(n, 4) - 0.5,
        "scales": 0.1 + 0.3 * rand(n, 3),
        "opacities": rand(n),
        "semantics": rand(n, channels),
    }


def splat(args, **options):
    args = dict(args)
    shape = (args.pop("quats"), args.pop("scales"))
    outputs = semantic_splat(**args, precis=shape, **GRID, **options)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def test_one_gaussian_has_its_closed_form():
    points = torch.tensor([[0.3, 0.1, 0.1], [0.1, 0.1, 0.1], [1.6, 0.1, 0.1], [9.0, 0, 0]])
    shape = (torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0.2, 0.2, 0.2]]))
    args = (points, torch.tensor([[0.1, 0.1, 0.1]]), shape, torch.tensor([0.5]))
    logits = semantic_splat(*args, torch.tensor([[1.0, 3.0]]), **GRID)
    e = math.exp(-0.5)
    torch.testing.assert_close(logits[0], torch.tensor([0.5 * e, 1.5 * e]))
    assert logits[2:].abs().max() == 0  # 3 cells away (radius 2), and outside
    logits, occupied, density = semantic_splat(
        *args, torch.tensor([[1.0, 3.0]]), **GRID, probabilistic=True
    )
    torch.testing.assert_close(logits[:2], torch.tensor([[1.0, 3.0]] * 2))
    assert occupied.tolist() == pytest.approx([e, 1, 0, 0], abs=2e-7)
    assert density.tolist() == pytest.approx([e, 1, 0, 0])
    assert logits[2:].tolist() == [[1, 0], [1, 0]]  # uniform over all classes but the last


@pytest.mark.parametrize("probabilistic", [False, True])
def test_equals_the_reference_with_gradients(probabilistic, monkeypatch):
    def run():
        args = scene(700, 40, 19)
        leaves = {k: v.requires_grad_() for k, v in args.items() if k != "points"}
        outputs = splat({**args, **leaves}, probabilistic=probabilistic)
        cotangents = [torch.cos(torch.arange(x.numel())).reshape(x.shape).to(x) for x in outputs]
        return *outputs, *torch.autograd.grad(outputs, list(leaves.values()), cotangents)

    native = run()
    monkeypatch.setenv("MMCITY_OPS_BACKEND", "reference")
    for ours, theirs in zip(native, run()):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("probabilistic", [False, True])
def test_gradcheck(probabilistic):
    args = scene(20, 5, 3)
    points = args.pop("points")
    leaves = [v.requires_grad_() for v in args.values()]
    radii = torch.full((5,), 8, dtype=torch.int32)  # fixed, as the radius jumps with the scale

    def call(means, quats, scales, opacities, semantics):
        return semantic_splat(
            points,
            means,
            (quats, scales),
            opacities,
            semantics,
            radii=radii,
            probabilistic=probabilistic,
            **GRID,
        )

    assert torch.autograd.gradcheck(call, leaves)


def test_many_points_in_one_cell_all_get_gradients():
    points = torch.rand(100, 3, dtype=torch.float64) * 0.4
    args = {**scene(n=1), "points": points, "means": torch.zeros(1, 3, dtype=torch.float64)}
    args["semantics"].requires_grad_()
    splat(args)[0].sum().backward()
    (weights,) = splat({**args, "semantics": torch.ones(1, 1, dtype=torch.float64)})
    torch.testing.assert_close(args["semantics"].grad, weights.sum().expand(1, 4))


@pytest.mark.parametrize("probabilistic", [False, True])
@pytest.mark.parametrize(("n_points", "n"), [(0, 3), (5, 0), (0, 0)])
def test_empty(n_points, n, probabilistic):
    outputs = splat(scene(n_points, n), probabilistic=probabilistic)
    assert outputs[0].shape == (n_points, 4)
    assert torch.isfinite(outputs[0]).all()


def test_nan_points_and_gaussians_count_as_outside():
    args = scene()
    args["points"][3, 1] = float("nan")
    args["means"][2, 0] = float("nan")
    (logits,) = splat(args)
    keep = torch.arange(12) != 2
    (clean,) = splat({k: (v if k == "points" else v[keep]) for k, v in args.items()})
    assert logits[3].abs().max() == 0
    assert torch.equal(logits, clean)


def test_precision_matrices_and_their_radii():
    args = scene()
    scales = torch.full((12, 3), 0.3, dtype=torch.float64)
    (by_scales,) = splat({**args, "scales": scales})
    precis = torch.eye(3, dtype=torch.float64).expand(12, 3, 3) / 0.3**2
    names = ("opacities", "semantics")
    logits = semantic_splat(
        args["points"], args["means"], precis, *(args[k] for k in names), **GRID
    )
    torch.testing.assert_close(logits, by_scales, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("probabilistic", [False, True])
@pytest.mark.parametrize("form", ["scales", "precision"])
def test_gaussians_without_extent_act_on_nothing(form, probabilistic):
    """They stopped the eigenvalues of precisions, and their gradients were NaN."""
    args = scene(dtype=torch.float32)
    args["scales"][3, 1] = args["scales"][7] = 0
    others = torch.tensor([i for i in range(12) if i not in (3, 7)])
    left = {k: v if k == "points" else v[others] for k, v in args.items()}
    expected = splat(left, probabilistic=probabilistic)

    leaf = args["scales"].requires_grad_()
    if form == "scales":
        outputs = splat(args, probabilistic=probabilistic)
    else:
        precis = quat_scale_to_covar_preci(args.pop("quats"), args.pop("scales"), False, True)[1]
        outputs = semantic_splat(**args, precis=precis, **GRID, probabilistic=probabilistic)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)

    for found, wanted in zip(outputs, expected):
        torch.testing.assert_close(found, wanted)
    if form == "scales":
        sum(output.sum() for output in outputs).backward()
        assert leaf.grad.isfinite().all() and leaf.grad[0].abs().sum() > 0


def test_bitwise_equal_for_any_number_of_threads(thread_counts):
    args = scene(5000, 200, 18, torch.float32)
    leaves = {k: v.requires_grad_() for k, v in args.items() if k != "points"}

    def run():
        outputs = splat({**args, **leaves}, probabilistic=True)
        return *outputs, *torch.autograd.grad(
            [x.square().sum() for x in outputs], list(leaves.values())
        )

    one, two = (thread_counts(n, run) for n in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two))


def test_errors():
    args = scene()
    with pytest.raises(ValueError, match=r"opacities: expected shape \[12\]"):
        splat({**args, "opacities": torch.zeros(3)})
    with pytest.raises(TypeError, match="radii: expected torch.int32"):
        splat(args, radii=torch.zeros(12, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="points: expected no gradient"):
        points = args["points"].requires_grad_()
        args["means"].requires_grad_()
        splat({**args, "points": points})[0].sum().backward()


def test_opcheck():
    args = scene(20, 5, 3)
    precis = torch.eye(3, dtype=torch.float64).expand(5, 3, 3) * 10
    leaves = [args["means"], precis, args["opacities"], args["semantics"]]
    leaves = [x.detach().clone().requires_grad_() for x in leaves]
    radii = torch.full((5,), 2, dtype=torch.int32)
    settings = (GRID["vol_range"], [0.5] * 3, [8, 8, 4], True)
    torch.library.opcheck(
        torch.ops.mmcity.semantic_splat_fwd, (args["points"], *leaves, radii, *settings)
    )
