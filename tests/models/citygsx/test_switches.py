"""Switches of the original, set both ways."""

import pytest
import torch

from mmcity.models.citygsx import AnchorDecoder, CityGSX, CityGSXObjective, OctreeAnchors
from mmcity.structures import Cameras, SceneDataSample

SIZE = 24


def objective(**options):
    """All losses from iteration 11 on."""
    starts = ("single_view_weight_from_iter", "dpt_loss_from_iter", "multi_view_weight_from_iter")
    return CityGSXObjective(**{**dict.fromkeys(starts, 10), **options})


def losses(of):
    """Values of the terms of :func:`plane_view` by name."""
    terms = of.terms(20, **plane_view())
    return {name: term.value() for name, term in terms.items()}


def plane_view(**changes):
    """Maps of a slanted plane seen by two cameras, with a texture."""
    K = torch.tensor([[30.0, 0, SIZE / 2], [0, 30.0, SIZE / 2], [0, 0, 1]])
    steps = (torch.arange(SIZE) + 0.5 - SIZE / 2) / 30
    rays = torch.stack(
        [*torch.meshgrid(steps, steps, indexing="xy"), torch.ones(SIZE, SIZE)]
    )  # (3, H, W)
    normal = torch.tensor([0.2, 0.1, -1.0])
    normal = normal / normal.norm()
    distance = 4.0
    depth = -distance / (normal[:, None, None] * rays).sum(0)
    other = torch.eye(4)
    other[0, 3] = -0.3
    grey = torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    geometry = dict(
        depth=depth.clone().requires_grad_(),
        normals=normal[:, None, None].expand(3, SIZE, SIZE).clone().requires_grad_(),
        distances=torch.full((SIZE, SIZE), distance).requires_grad_(),
        alpha=torch.ones(SIZE, SIZE),
        usable=torch.ones(SIZE, SIZE, dtype=torch.bool),
        K=K,
        viewmat=torch.eye(4),
        grey=grey,
    )
    # The second view's depth is wrong in its right half, as behind something.
    second = depth.clone()
    second[:, SIZE // 2 :] *= 0.5
    neighbour = dict(depth=second, K=K, viewmat=other, grey=grey)
    view = dict(
        image=torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)),
        target=grey.expand(3, SIZE, SIZE),
        scales=torch.rand(7, 3, generator=torch.Generator().manual_seed(2)),
        geometry=geometry,
        prior=1 / depth + 0.01,
        neighbour=neighbour,
        generator=torch.Generator().manual_seed(3),
    )
    return {**view, **changes}


@pytest.mark.parametrize(
    ("switch", "names"),
    [
        ("use_single_view_loss", {"loss_normal"}),
        ("use_dpt_loss", {"loss_depth"}),
        ("use_multi_view_loss", {"loss_multi_view", "loss_reprojection"}),
    ],
)
def test_each_geometry_loss_can_be_left_out_alone(switch, names):
    everything = losses(objective())
    fewer = objective(**{switch: False})
    assert fewer.needs_geometry(20)  # the other losses still want planes
    found = losses(fewer)
    assert set(everything) - set(found) == names
    for name, value in found.items():
        torch.testing.assert_close(value, everything[name])


def test_no_planes_are_rendered_for_no_geometry_loss():
    off = dict.fromkeys(("use_single_view_loss", "use_dpt_loss", "use_multi_view_loss"), False)
    assert not objective(**off).needs_geometry(20)
    assert not objective().needs_geometry(10) and objective().needs_geometry(11)


def test_the_original_computed_the_normals_without_gradient():
    mended, legacy = (
        losses(objective(legacy_normal_nograd=off))["loss_normal"] for off in (False, True)
    )
    assert mended.requires_grad and not legacy.requires_grad
    torch.testing.assert_close(mended.detach(), legacy)


def test_the_depth_weight_decays_from_its_start_or_from_zero_and_may_end():
    weights = dict(depth_l1_weight_init=0.5, depth_l1_weight_final=0.005, dpt_end_iter=30)
    mended, legacy = objective(**weights), objective(**weights, depth_schedule="legacy")
    assert mended.depth_weight(10) == pytest.approx(0.5)
    assert legacy.depth_weight(10) == pytest.approx(0.5 * 0.01 ** (1 / 3))
    assert mended.depth_weight(30) == legacy.depth_weight(30) == pytest.approx(0.005)
    assert mended.depth_weight(20) == pytest.approx(0.05)  # half way, geometrically
    assert mended.uses_prior(31)  # for ever, as the original
    ending = objective(**weights, stop_dpt_at_end=True)
    assert ending.uses_prior(30) and not ending.uses_prior(31)


def test_occlusion_leaves_out_pixels_that_do_not_come_back():
    """The pixels whose neighbour has wrong depth count only without the test."""
    aware = losses(objective())
    blind = objective(wo_use_geo_occ_aware=True)
    terms = [o.terms(20, **plane_view())["loss_multi_view"] for o in (objective(), blind)]
    assert 0 < terms[0].count < 0.8 * terms[1].count
    # The reprojection error has its bound either way.
    torch.testing.assert_close(losses(blind)["loss_reprojection"], aware["loss_reprojection"])


def test_the_reprojection_loss_has_a_weight_and_the_original_none():
    values = [losses(objective(multi_view_geo_weight=w)) for w in (0.0, 0.03, 0.06)]
    found = [float(value["loss_reprojection"]) for value in values]
    assert found[0] == 0 and found[2] == pytest.approx(2 * found[1]) and found[1] > 0


def test_scales_count_in_world_units_or_shares_of_the_extent():
    world, share = (objective(scale_unit=unit) for unit in ("world", "extent"))
    view = plane_view()
    plain = world.terms(1, **view, extent=50.0)["loss_scale"].value()
    torch.testing.assert_close(plain, 10 * view["scales"].amin(1).mean())
    torch.testing.assert_close(
        share.terms(1, **view, extent=50.0)["loss_scale"].value() * 50, plain
    )


def test_inputs_of_the_decoder():
    torch.manual_seed(0)
    widths = {}
    for name in ("add_opacity_dist", "add_cov_dist", "add_color_dist", "add_level"):
        decoder = AnchorDecoder(8, 3, **{name: True})
        mlps = (decoder.opacity_mlp, decoder.cov_mlp, decoder.color_mlp)
        widths[name] = [mlp[0].in_features - 11 for mlp in mlps]
    assert widths == {
        "add_opacity_dist": [1, 0, 0],
        "add_cov_dist": [0, 1, 0],
        "add_color_dist": [0, 0, 1],
        "add_level": [1, 1, 1],
    }
    assert AnchorDecoder(8, 3).feature_bank_mlp is None
    bank = AnchorDecoder(8, 3, use_feat_bank=True)
    assert bank.feature_bank_mlp[0].in_features == 3


def test_levels_join_one_by_one_or_at_once():
    for progressive in (True, False):
        anchors = OctreeAnchors(4, 2, progressive=progressive, coarse_iter=100)
        anchors.n_levels.fill_(5)
        anchors.init_level.fill_(2)
        finest = [anchors.finest_level(iteration) for iteration in (1, 99, 101)]
        assert finest[0] == (2 if progressive else 4) and finest[2] == 4
        assert anchors.finest_level(None) == 4


def test_test_views_take_the_appearance_of_the_photograph_asked_for():
    torch.manual_seed(0)
    K = torch.tensor([[30.0, 0, 12], [0, 30.0, 12], [0, 0, 1]])
    viewmats = torch.eye(4).repeat(3, 1, 1)
    viewmats[:, 0, 3], viewmats[:, 2, 3] = torch.linspace(-0.2, 0.2, 3), 3.0
    cameras = Cameras(K, viewmats, SIZE, SIZE)
    model = CityGSX(8, 3, anchors=dict(default_voxel_size=0.2), decoder=dict(appearance_dim=4))
    model.initialize(cameras, torch.rand(80, 3) - 0.5)
    model.iteration.fill_(10**9)
    model.decoder.appearance.embedding.weight.data.normal_(std=3)
    pictures = []
    for code in (0, 2, 0):
        model.ape_code = code
        sample = model.predict(None, [SceneDataSample(camera=cameras[0])])[0]
        pictures.append(sample.pred_image)
    assert torch.equal(pictures[0], pictures[2])
    assert (pictures[0] - pictures[1]).abs().max() > 0.01


def test_voxels_by_the_spacing_of_points_follow_the_unit_of_the_world():
    """In centimetres instead of metres the same anchors; four spacings, four times the edge."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(400, 3, generator=generator) * 20
    centers = torch.rand(6, 3, generator=generator) * 20 + 10

    def begin(unit, factor):
        anchors = OctreeAnchors(4, 2, default_voxel_size=None, spacing_factor=factor)
        anchors.initialize(points * unit, centers * unit)
        return anchors

    small, large = begin(1.0, 1.0), begin(1.0, 4.0)
    assert float(large.voxel_size / small.voxel_size) == pytest.approx(4.0)
    assert len(large) < len(small)
    scaled = begin(100.0, 4.0)
    assert float(scaled.voxel_size / large.voxel_size) == pytest.approx(100.0)
    assert len(scaled) == len(large)
