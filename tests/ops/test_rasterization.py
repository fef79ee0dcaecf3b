"""The user entry: edge cases, statistics, compilation, autocast, other conventions."""

import pytest
import torch

import mmcity_ops as ops
from tests.devices import DEVICE
from tests.ops.scene import HEIGHT, WIDTH, leaves, random_scene

SIZE = dict(width=WIDTH, height=HEIGHT)


@pytest.fixture(params=["native", "reference"])
def backend(request, monkeypatch):
    monkeypatch.setenv("MMCITY_OPS_BACKEND", request.param)
    return request.param


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("case", ["no_gaussians", "behind", "transparent"])
def test_nothing_visible_gives_the_background_and_zero_gradients(backend, packed, case):
    scene = random_scene(0 if case == "no_gaussians" else 5)
    if case == "behind":
        scene["means"] = scene["means"] - torch.tensor([0.0, 0, 50.0], dtype=torch.float64)
    if case == "transparent":
        scene["opacities"] = scene["opacities"] * 0
    scene = leaves(scene)
    backgrounds = torch.rand(2, 3, dtype=torch.float64)
    renders, alphas, _ = ops.rasterization(
        **scene, **SIZE, sh_degree=1, packed=packed, backgrounds=backgrounds
    )
    torch.testing.assert_close(renders, backgrounds[:, None, None].expand_as(renders))
    assert not alphas.any()
    (renders.sum() + alphas.sum()).backward()
    for key, value in scene.items():
        if key != "Ks" and value.grad is not None:
            assert not value.grad.any(), key


def test_non_contiguous_inputs_change_nothing(backend):
    scene = random_scene(15)
    strided = {k: v.transpose(0, -1).contiguous().transpose(0, -1) for k, v in scene.items()}
    assert not strided["means"].is_contiguous()
    got = ops.rasterization(**strided, **SIZE, sh_degree=1)[0]
    torch.testing.assert_close(got, ops.rasterization(**scene, **SIZE, sh_degree=1)[0])


def test_order_of_gaussians_does_not_matter():
    scene = random_scene(40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    moved = {k: v[order] if k not in ("viewmats", "Ks") else v for k, v in scene.items()}
    got = ops.rasterization(**moved, **SIZE, sh_degree=1)[0]
    torch.testing.assert_close(got, ops.rasterization(**scene, **SIZE, sh_degree=1)[0])


def test_absgrad_bounds_the_gradient_and_stats_accumulate():
    states = []
    for packed in (False, True):
        scene = leaves(random_scene(20))
        renders, _, meta = ops.rasterization(
            **scene, **SIZE, sh_degree=1, packed=packed, absgrad=True
        )
        meta["means2d"].retain_grad()
        (renders * torch.linspace(-1, 1, WIDTH, dtype=torch.float64)[:, None]).sum().backward()
        means2d = meta["means2d"]
        assert (means2d.absgrad >= means2d.grad.abs() - 1e-12).all()
        assert (means2d.absgrad > means2d.grad.abs() + 1e-9).any()
        states.append(ops.accumulate_densify_stats({}, meta))
    dense, packed = states
    assert set(dense) == {"grad2d_norm", "absgrad_norm", "count", "max_radius"}
    assert dense["count"].max() == 2
    for key in dense:
        torch.testing.assert_close(dense[key], packed[key])


def test_masked_tiles_and_partitions():
    scene = random_scene(40)
    mask = torch.tensor([[True, False, True], [False, True, True]]).expand(2, 2, 3).clone()
    whole = ops.rasterization(**scene, **SIZE, sh_degree=1)[0]
    half = ops.rasterization(**scene, **SIZE, sh_degree=1, masks=mask)[0]
    assert not half[:, :16, 16:32].any()
    torch.testing.assert_close(half[:, :16, :16], whole[:, :16, :16])
    parts = [
        ops.rasterization(**scene, **SIZE, sh_degree=1, distributed=ops.TilePartition(part))
        for part in (mask, ~mask)
    ]
    torch.testing.assert_close(parts[0][0] + parts[1][0], whole)
    assert torch.equal(parts[0][2]["pixel_mask"], ~parts[1][2]["pixel_mask"])


def test_inria_semantics_differ_as_documented():
    scene = random_scene(30, cameras=1)
    scene["quats"] = torch.nn.functional.normalize(scene["quats"], dim=-1)
    scene["Ks"][:, 0, 2], scene["Ks"][:, 1, 2] = WIDTH / 2, HEIGHT / 2
    ours, other = leaves(scene), leaves(scene)
    weights = torch.linspace(-1, 1, WIDTH, dtype=torch.float64)[:, None]
    metas = []
    for s, semantics in ((ours, "default"), (other, "inria")):
        renders, _, meta = ops.rasterization(
            **s, **SIZE, sh_degree=1, packed=False, semantics=semantics, absgrad=True
        )
        meta["means2d"].retain_grad()
        (renders * weights).sum().backward()
        metas.append((renders, meta))
    # centred principal point, unit quaternions: only cut-offs beyond 3 sigma differ in the image
    assert (metas[0][0] - metas[1][0]).abs().max() < 0.03
    shown = (metas[0][1]["radii"] > 0).all(-1) & (metas[1][1]["radii"] > 0).all(-1)
    shift = (metas[0][1]["means2d"] - metas[1][1]["means2d"])[shown]
    torch.testing.assert_close(shift, torch.full_like(shift, 0.5))
    radii = metas[1][1]["radii"][shown]
    assert torch.equal(radii[:, 0], radii[:, 1])
    unit = torch.tensor([WIDTH / 2, HEIGHT / 2], dtype=torch.float64)
    grads = metas[0][1]["means2d"].grad[shown] * unit, metas[1][1]["means2d"].grad[shown]
    assert (grads[0] - grads[1]).norm() / grads[0].norm() < 0.1
    assert (ours["means"].grad - other["means"].grad).norm() / ours["means"].grad.norm() < 0.1
    assert metas[1][1]["means2d"].absgrad is not None


def test_autocast_keeps_float32():
    scene = random_scene(20, dtype=torch.float32)
    plain = ops.rasterization(**scene, **SIZE, sh_degree=1)[0]
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        cast = ops.rasterization(**scene, **SIZE, sh_degree=1)[0]
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)


def test_half_features_get_half_gradients():
    scene = random_scene(20, dtype=torch.float32)
    scene.pop("colors")
    features = torch.rand(20, 16).bfloat16().requires_grad_()
    renders, _, _ = ops.rasterization(**scene, colors=features, **SIZE)
    renders.sum().backward()
    assert renders.dtype == torch.float32 and features.grad.dtype == torch.bfloat16


@pytest.mark.slow
@pytest.mark.ci_slow
@pytest.mark.parametrize("packed", [False, True])
def test_a_loss_compiles_without_graph_break(packed):
    scene = random_scene(20, dtype=torch.float32)

    def loss(means, colors):
        renders, alphas, _ = ops.rasterization(
            means, scene["quats"], scene["scales"], scene["opacities"], colors,
            scene["viewmats"], scene["Ks"], WIDTH, HEIGHT, sh_degree=1, packed=packed,
            render_mode="RGB+ED",
        )  # fmt: skip
        return renders.square().mean() + alphas.mean()

    grads = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        means = scene["means"].clone().requires_grad_()
        colors = scene["colors"].clone().requires_grad_()
        function(means, colors).backward()
        grads.append((means.grad, colors.grad))
    for eager, compiled in zip(*grads):
        torch.testing.assert_close(eager, compiled)
