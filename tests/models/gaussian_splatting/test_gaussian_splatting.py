"""The model: rendering, losses, schedules, checkpoints of any size."""

import pytest
import torch

from mmcity.models.gaussian_splatting import (
    GaussianSplatting,
    SplatParameters,
    splats_from_points,
)
from mmcity.models.layers import TrainingViews
from mmcity.registry import MODELS
from mmcity.structures import SH_C0, read_gaussians_ply, write_gaussians_ply
from mmcity_ops import fused_ssim
from tests.models.gaussian_splatting.helpers import (
    SIZE,
    make_model,
    points_and_colors,
    ring_of_cameras,
    samples_of,
)


def test_first_scene_has_the_colours_and_spacing_of_the_points():
    points, colors = points_and_colors(50)
    values = splats_from_points(points, colors, sh_degree=2, opacity=0.2)
    assert torch.allclose(0.5 + SH_C0 * values["sh0"][:, 0], colors, atol=1e-6)
    distances = torch.cdist(points, points).topk(4, largest=False).values[:, 1:]
    expected = distances.square().mean(1).sqrt()
    assert torch.allclose(values["log_scales"].exp()[:, 0], expected, rtol=1e-4)
    assert torch.allclose(values["opacity_logits"].sigmoid(), torch.tensor(0.2))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points(count):
    points, colors = torch.zeros(count, 3), torch.zeros(count, 3)
    if count == 0:
        with pytest.raises(ValueError, match="points: expected some, got none"):
            splats_from_points(points, colors)
    else:
        assert torch.isfinite(splats_from_points(points, colors)["log_scales"]).all()


def test_points_that_are_not_finite_are_refused():
    points, colors = points_and_colors(5)
    points[3, 1] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        splats_from_points(points, colors)


def test_random_start_needs_no_points():
    model = GaussianSplatting(init=dict(source="random", count=200, spread=2.0))
    model.initialize(ring_of_cameras())
    assert len(model.splats) == 200
    assert float(model.splats.means.abs().max()) > model.scene_extent


def test_loss_is_l1_and_ssim_of_the_render():
    model = make_model()
    cameras = ring_of_cameras()
    target = torch.rand(2, 3, SIZE[1], SIZE[0])
    losses = model(target, samples_of(cameras[:2]), mode="loss")
    rgb = model.render(cameras[:2])["rgb"].permute(0, 3, 1, 2)
    assert torch.allclose(losses["loss_l1"], 0.8 * (rgb - target).abs().mean())
    ssim = fused_ssim(rgb.contiguous(), target, padding="valid")
    assert torch.allclose(losses["loss_ssim"], 0.2 * (1 - ssim))


def test_views_of_several_sizes_average_like_views_of_one():
    model = make_model()
    cameras = ring_of_cameras()
    small = cameras[1].resize(24, 20)
    pictures = [torch.rand(3, 40, 48), torch.rand(3, 20, 24)]
    samples = samples_of(cameras[:2])
    samples[1].camera = small
    both = model(pictures, samples, mode="loss")["loss_l1"]
    single = [model(p[None], [s], mode="loss")["loss_l1"] for p, s in zip(pictures, samples)]
    assert torch.allclose(both, (single[0] + single[1]) / 2)


def test_masked_pixels_send_no_gradient():
    model = make_model()
    samples = samples_of(ring_of_cameras()[:1])
    samples[0].gt_mask = torch.zeros(SIZE[1], SIZE[0], dtype=torch.bool)
    losses = model(torch.rand(1, 3, SIZE[1], SIZE[0]), samples, mode="loss")
    sum(losses.values()).backward()
    assert not model.splats.sh0.grad.any()


def test_sh_degree_grows_with_the_iteration():
    model = make_model(sh_degree=3, sh_degree_interval=10)
    degrees = []
    for iteration in (0, 9, 10, 25, 1000):
        model.iteration.fill_(iteration)
        degrees.append(model.active_sh_degree)
    assert degrees == [0, 0, 1, 2, 3]


def test_resolution_schedule_reduces_picture_and_camera_alike():
    model = make_model(resolution_schedule=[(0, 4), (10, 2), (20, 1)])
    cameras = ring_of_cameras()[:1]
    full = model.render(cameras)["rgb"].permute(0, 3, 1, 2).detach()
    target, camera, _ = model._reduce(full, cameras, None)
    assert target.shape[-2:] == (10, 12)
    assert camera.one_size() == (12, 10)
    # A render at the reduced camera looks like the reduced render.
    small = model.render(camera)["rgb"].permute(0, 3, 1, 2)
    assert (small - target).abs().mean() < 0.05
    model.iteration.fill_(20)
    assert model._reduce(full, cameras, None)[0].shape == full.shape


@pytest.mark.parametrize("kind", ["ConstantBackground", "LearnedBackground"])
def test_a_background_colour_shines_through(kind):
    color = (0.2, 0.4, 0.6)
    renderer = dict(type="SplatRenderer", background=dict(type=kind, color=color))
    cameras = ring_of_cameras()[:1]
    before_black = make_model().render(cameras)
    out = make_model(renderer=renderer).render(cameras)
    expected = before_black["rgb"] + (1 - out["alpha"]) * torch.tensor(color)
    assert torch.allclose(out["rgb"], expected, atol=1e-6)


def test_a_background_may_change_at_each_step_of_training():
    background = MODELS.build(dict(type="ConstantBackground", random_in_training=True))
    cameras = ring_of_cameras()[:2]
    first, second = background(cameras), background(cameras)
    assert first.shape == (2, 1, 1, 3) and not torch.equal(first, second)
    assert background.eval()(cameras).abs().max() == 0


@pytest.mark.parametrize("kind", ["SphericalHarmonicsBackground", "EnvironmentMapBackground"])
def test_a_sky_learns_a_colour_that_depends_on_the_direction(kind):
    torch.manual_seed(0)
    sky = MODELS.build(dict(type=kind))
    directions = torch.nn.functional.normalize(torch.randn(4000, 3), dim=1)
    wanted = 0.5 + 0.3 * directions  # red to the east, green to the north, blue above
    optimizer = torch.optim.Adam(sky.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (sky.look(directions) - wanted).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3
    assert sky(ring_of_cameras()[:2]).shape == (2, SIZE[1], SIZE[0], 3)


def test_a_checkpoint_restores_a_scene_of_any_size():
    source = make_model(exposure=dict(type="AffineExposure"))
    source.exposure.table.data.normal_()
    source.iteration.fill_(500)
    target = GaussianSplatting(sh_degree=1, exposure=dict(type="AffineExposure"))
    identities = {name: id(value) for name, value in target.named_parameters()}
    target.load_state_dict(source.state_dict())
    assert len(target.splats) == len(source.splats)
    assert identities == {name: id(value) for name, value in target.named_parameters()}
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_a_checkpoint_of_another_model_is_refused_by_name():
    model = GaussianSplatting(sh_degree=1)
    with pytest.raises(ValueError, match="does not fit.*expected means"):
        model.load_state_dict({"backbone.weight": torch.zeros(3)})
    other = GaussianSplatting(sh_degree=2)
    other.splats.assign(**splats_from_points(*points_and_colors(), sh_degree=2))
    with pytest.raises(ValueError, match=r"'shN' has shape \(60, 8, 3\), expected \(60, 3, 3\)"):
        model.load_state_dict(other.state_dict())


def test_ply_and_back_renders_the_same_picture(tmp_path):
    model = make_model()
    write_gaussians_ply(model.splats.to_gaussians(), tmp_path / "scene.ply")
    other = make_model()
    other.splats.assign_gaussians(read_gaussians_ply(tmp_path / "scene.ply"))
    cameras = ring_of_cameras()[:1]
    assert torch.allclose(model.render(cameras)["rgb"], other.render(cameras)["rgb"], atol=1e-5)


def test_predict_sets_all_documented_fields():
    model = make_model().eval()
    picture = torch.rand(1, 3, SIZE[1], SIZE[0])
    sample = model(picture, samples_of(ring_of_cameras()[:1]), mode="predict")[0]
    assert sample.pred_image.shape == (3, SIZE[1], SIZE[0])
    assert torch.equal(sample.gt_image, picture[0])
    solid = sample.pred_alpha > 0.9
    # Cameras look at the origin from sqrt(10) away; the cloud's radius is about one.
    assert (sample.pred_depth[solid] - 10**0.5).abs().max() < 2
    assert sample.pred_covered[solid].all()
    assert torch.allclose(
        sample.pred_normal.norm(dim=0)[solid], torch.ones(int(solid.sum())), atol=1e-4
    )


def test_views_count_frames_that_hold_a_point():
    views = TrainingViews()
    views.initialize(ring_of_cameras())
    behind_all = torch.tensor([[0.0, 0.0, 500.0]])
    assert views.count_views(torch.zeros(1, 3)).item() == 6
    assert views.count_views(behind_all).item() == 0


def test_exposure_never_sees_a_test_photograph():
    trained = torch.tensor([True, False, True, False])
    exposure = MODELS.build(dict(type="AffineExposure", test_exposure="neighbours"))
    exposure.initialize(trained)
    exposure.table.data[0, 0, 3] = 0.1
    exposure.table.data[2, 0, 3] = 0.3
    exposure.eval()
    grey = torch.full((2, 2, 2, 3), 0.5)
    out = exposure(grey, torch.tensor([1, 3]))
    assert out[0, 0, 0].tolist() == pytest.approx([0.7, 0.5, 0.5])  # halfway between 0 and 2
    assert out[1, 0, 0].tolist() == pytest.approx([0.8, 0.5, 0.5])  # the last one trained
    exposure.test_exposure = "identity"
    assert torch.equal(exposure(grey, torch.tensor([1, 3])), grey)
    exposure.test_exposure = "mean"
    assert exposure(grey, torch.tensor([1, 3]))[0, 0, 0, 0].item() == pytest.approx(0.7)


@pytest.mark.parametrize("kind", ["AffineExposure", "BilateralGridExposure"])
def test_exposure_learns_a_gain_per_photograph(kind):
    torch.manual_seed(0)
    exposure = MODELS.build(dict(type=kind, regularization=0.0))
    exposure.initialize(torch.ones(2, dtype=torch.bool))
    scene = torch.rand(1, 16, 20, 3)
    photographs = torch.cat([scene * 0.7, scene * 1.2 - 0.1])
    optimizer = torch.optim.Adam(exposure.parameters(), lr=0.05)
    for _ in range(120):
        optimizer.zero_grad()
        out = exposure(scene.expand(2, -1, -1, -1), torch.tensor([0, 1]))
        loss = (out - photographs).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


def test_splats_refuse_attributes_of_different_lengths():
    splats = SplatParameters(0)
    values = splats_from_points(*points_and_colors(5), sh_degree=0)
    values["quats"] = values["quats"][:4]
    with pytest.raises(ValueError, match="'quats'"):
        splats.assign(**values)
