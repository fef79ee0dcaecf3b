"""CityGS-X against golden vectors: representation, growth, decoding and rendering.

The vectors count pixel centres as integers, hence ``pixel_offset=0`` throughout.
"""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmcity.engine.citygsx import RowDivision, divide_rows, snap_to_images
from mmcity.engine.citygsx.splat_exchange import _reaching
from mmcity.engine.optim import ExponentialDecayLR
from mmcity.models.citygsx import (
    AnchorDecoder,
    AnchorGrowthStrategy,
    CityGSXObjective,
    OctreeAnchors,
    grow_and_prune,
    is_due,
)
from mmcity.models.citygsx.levels import (
    LevelTable,
    VoxelGrid3,
    coarse_intervals,
    fit_grid,
    fit_levels,
)
from mmcity.models.citygsx.rendering import TILE
from mmcity_ops import (
    fully_fused_projection,
    plane_depth,
    plane_features,
    rasterize_to_pixels,
    select_lod,
)
from mmcity_ops.functional.inria import square_radii

from ..conftest import REPO
from . import _golden

TOLERANCE = dict(rtol=1e-4, atol=1e-5)


def load(path):
    with np.load(path, allow_pickle=False) as data:
        return {key: data[key] for key in data.files}


def tensor(value):
    return torch.from_numpy(np.asarray(value))


def vectors(prefix):
    return _golden.vectors(prefix, "citygsx")


def close(actual, expected, **options):
    expected = tensor(expected)
    actual = torch.as_tensor(actual).detach()
    torch.testing.assert_close(
        actual.to(expected.dtype).reshape(expected.shape), expected, **{**TOLERANCE, **options}
    )


# ---------------------------------------------------------------- octree


@vectors("lod")
def test_octree_and_level_choice(path):
    g = load(path)
    points, centers = tensor(g["points"]), tensor(g["cam_centers"])
    fork = int(g["fork"])
    anchors = OctreeAnchors(
        fork=fork,
        default_voxel_size=float(g["default_voxel_size"]),
        extend=float(g["extend"]),
        dist_ratio=float(g["dist_ratio"]),
        visible_threshold=float(g["visible_threshold"]),
        legacy_box=True,
    )
    table = fit_levels(points, centers, fork=fork, dist_ratio=float(g["dist_ratio"]))
    assert (table.n_levels, table.init_level) == (int(g["levels"]), int(g["init_level"]))
    close(table.standard_dist, g["standard_dist"])
    grid = fit_grid(
        points,
        float(g["default_voxel_size"]),
        table.n_levels,
        fork=fork,
        extend=float(g["extend"]),
        legacy_box=True,
    )
    assert grid.base_layer == int(g["base_layer"])
    close(grid.voxel_size, g["voxel_size"])
    close(grid.origin, g["init_pos"])
    anchors.initialize(points, centers)
    assert len(anchors) == int(g["n_anchor"])
    assert (anchors.levels == tensor(g["level"])[:, 0]).all()
    close(anchors.positions, g["anchor"], rtol=0, atol=1e-6)
    close(anchors.log_scales, g["scaling"])
    close(torch.tensor(anchors.intervals), g["coarse_intervals"])

    views = torch.cat([centers, tensor(g["near_center"])[None]])
    count = len(anchors)

    def differing(packed, mask):
        return int((np.unpackbits(packed)[:count].astype(bool) != mask.numpy()).sum())

    iterations = []
    for key, packed in g.items():
        if key.startswith("mask_") and "_it" in key and "extra" not in key:
            _, mode, camera, iteration = key.split("_")
            anchors.dist2level = mode
            mask, _ = anchors.select(views[int(camera[3:])], int(iteration[2:]))
            assert differing(packed, mask) <= 1, key
            iterations.append(int(iteration[2:]))
    assert iterations
    anchors.dist2level = "round"
    for key in (key for key in g if key.startswith("mask_eval_cam")):
        camera = int(key.removeprefix("mask_eval_cam"))
        assert differing(g[key], anchors.select(centers[camera])[0]) <= 1, key
    extra = next(key for key in g if key.startswith("mask_extra_"))
    camera, iteration = extra.removeprefix("mask_extra_cam").split("_it")
    anchors.extra_levels.data = tensor(g["extra_level_test"]).clone()
    mask, _ = anchors.select(centers[int(camera)], int(iteration))
    assert differing(g[extra], mask) <= 1
    anchors.extra_levels.zero_()
    anchors.dist2level = "progressive"
    mask, factor = anchors.select(centers[0], max(iterations))  # all levels take part
    assert differing(g["prog_mask"], mask) <= 1
    moving = np.unpackbits(g["prog_transition"])[:count].astype(bool)
    assert (factor[tensor(~moving)] == 1).all()
    _, ratio, transition = select_lod(
        anchors.positions.detach(),
        anchors.levels,
        anchors.extra_levels,
        centers[:1],
        voxel_size=float(anchors.voxel_size),
        fork=fork,
        n_levels=table.n_levels,
        standard_dist=float(anchors.standard_dist),
        mode="progressive",
    )
    assert differing(g["prog_transition"], transition[0]) <= 1
    wanted = g["prog_ratio"][:, 0]
    off = (ratio[0, : len(wanted)] - tensor(wanted)).abs()
    # Next to a whole level the fraction may fall to the other side.
    assert (torch.minimum(off, 1 - off) <= 1e-4).all()


@_golden.vectors("manifest", "citygsx", ".json")
def test_coarse_intervals(path):
    manifest = json.loads(path.read_text())
    parts = [manifest, *(value for value in manifest.values() if isinstance(value, dict))]
    lists = {key: part[key] for part in parts for key in part if re.match(r"coarse_\d+_", key)}
    assert lists
    for key, expected in lists.items():
        n_levels, init_level = map(int, key.split("_")[1:])
        close(torch.tensor(coarse_intervals(n_levels, init_level)), np.float32(expected))


# ---------------------------------------------------------------- growth


@vectors("anchor_growth")
def test_growth(path):
    g = load(path)
    k = int(g["n_offsets"])
    anchors = OctreeAnchors(
        feat_dim=g["in_feat"].shape[1],
        n_offsets=k,
        fork=int(g["fork"]),
        visible_threshold=float(g["visible_threshold"]),
    )
    count = len(g["in_anchor"])
    anchors.set_octree(
        VoxelGrid3(tensor(g["init_pos"]), float(g["voxel_size"]), 0),
        LevelTable(int(g["levels"]), int(g["init_level"]), float(g["standard_dist"])),
    )
    assert anchors.intervals == pytest.approx(g["coarse_intervals"].tolist())
    given = dict(
        positions=g["in_anchor"],
        offsets=g["in_offset"],
        features=g["in_feat"],
        log_scales=g["in_scaling"],
        levels=g["in_level"][:, 0],
        extra_levels=g["in_extra_level"],
        opacity_sum=g["in_opacity_accum"][:, 0],
        view_count=g["in_anchor_denom"][:, 0],
        gradient_sum=g["in_offset_grad_accum"].reshape(count, k),
        gradient_count=g["in_offset_denom"].reshape(count, k),
    )
    for name, value in given.items():
        getattr(anchors, name).data = tensor(value).clone()
    optimizer = torch.optim.Adam([getattr(anchors, n) for n in anchors.PARAMETERS])
    for name in anchors.PARAMETERS:
        value = getattr(anchors, name)
        optimizer.state[value] = dict(
            step=torch.tensor(1.0),
            # One number in every entry, which the anchors that stay keep.
            exp_avg=torch.full_like(value, float(g["out_exp_avg_anchor"].max())),
            exp_avg_sq=torch.full_like(value, float(g["out_exp_avg_sq_feat"].max())),
        )
    centers = tensor(g["cam_infos"][:, :3])
    grow_and_prune(anchors, optimizer, int(g["iteration"]), centers, AnchorGrowthStrategy())

    assert len(anchors) == len(g["out_anchor"])
    close(anchors.positions, g["out_anchor"], rtol=0, atol=1e-6)
    close(anchors.levels, g["out_level"], rtol=0, atol=0)
    close(anchors.offsets, g["out_offset"])
    close(anchors.features, g["out_feat"])
    close(anchors.log_scales, g["out_scaling"])
    close(anchors.extra_levels, g["out_extra_level"])
    close(anchors.opacity_sum, g["out_opacity_accum"])
    close(anchors.view_count, g["out_anchor_denom"])
    close(anchors.gradient_sum, g["out_offset_grad_accum"], rtol=1e-4, atol=1e-9)
    close(anchors.gradient_count, g["out_offset_denom"])
    moments = optimizer.state[anchors.positions], optimizer.state[anchors.features]
    close(moments[0]["exp_avg"], g["out_exp_avg_anchor"], rtol=1e-6, atol=0)
    close(moments[1]["exp_avg_sq"], g["out_exp_avg_sq_feat"], rtol=1e-6, atol=0)


@vectors("training_stats")
def test_training_statistics(path):
    g = load(path)
    k = int(g["n_offsets"])
    anchors = OctreeAnchors(n_offsets=k)
    anchors.assign(torch.rand(len(g["anchor_visible"]), 3), torch.zeros(len(g["anchor_visible"])))
    anchors.record(
        tensor(g["anchor_visible"]).nonzero()[:, 0],
        tensor(g["neural_opacity"])[:, 0],
        tensor(g["offset_mask"]),
        tensor(g["visibility_filter"]),
        tensor(g["mean2d_grad"]).norm(dim=1),
    )
    close(anchors.opacity_sum, g["opacity_accum"])
    close(anchors.view_count, g["anchor_denom"])
    close(anchors.gradient_sum, g["offset_grad_accum"])
    close(anchors.gradient_count, g["offset_denom"])


# ---------------------------------------------------------------- decoding


NAMES = {
    "mlp_opacity": "opacity_mlp",
    "mlp_cov": "cov_mlp",
    "mlp_color": "color_mlp",
    "mlp_feature_bank": "feature_bank_mlp",
    "embedding_appearance": "appearance",
}


@vectors("neural_gaussians")
def test_neural_gaussians(path):
    g = load(path)
    state = {}
    for key, value in g.items():
        if key.startswith("sd_"):
            module, rest = key[3:].split(".", 1)
            state[f"{NAMES[module]}.{rest}"] = tensor(value)
    has_bank = "feature_bank_mlp.0.weight" in state
    table = state.get("appearance.embedding.weight")
    appearance_dim = 0 if table is None else table.shape[1]
    feat_dim, n_offsets = g["feat"].shape[1], g["offset"].shape[1]
    # Beyond features and direction: a distance and a level, if the networks take them.
    is_full = state["opacity_mlp.0.weight"].shape[1] == feat_dim + 5
    decoder = AnchorDecoder(
        feat_dim, n_offsets, has_bank, appearance_dim, is_full, is_full, is_full, is_full
    )
    decoder.load_state_dict(state)
    leaves = {
        name: tensor(g[name]).clone().requires_grad_()
        for name in ("anchor", "feat", "offset", "scaling_log")
    }
    rows = tensor(g["visible"]).nonzero()[:, 0]
    out = decoder(
        *(leaves[n][rows] for n in ("anchor", "feat", "offset", "scaling_log")),
        tensor(g["level"])[rows, 0],
        tensor(g["camera_center"]),
        photograph=int(g["camera_uid"]),
    )
    close(out.raw_opacities, g["neural_opacity"])
    assert (out.kept == tensor(g["mask"])).all()
    results = dict(
        xyz=out.means, color=out.colors, opacity=out.opacities, scale=out.scales, quat=out.quats
    )
    total = 0.0
    for name, value in results.items():
        close(value, g[name])
        total = total + (value.reshape(g[name].shape) * tensor(g["w_" + name])).sum()
    total.backward()
    for name, leaf in leaves.items():
        close(leaf.grad, g["grad_" + name], rtol=1e-3, atol=1e-4)
    close(decoder.cov_mlp[0].weight.grad, g["grad_cov_w0"], rtol=1e-3, atol=1e-4)
    close(decoder.opacity_mlp[0].weight.grad, g["grad_opacity_w0"], rtol=1e-3, atol=1e-4)
    close(decoder.color_mlp[2].weight.grad, g["grad_color_w2"], rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------- rendering


def lists_of_rects(low, high, radii, depths, columns, rows):
    """Gaussians of each tile, front to back, from the tiles that each one covers."""
    offsets, ids = [], []
    order = depths.argsort(stable=True)
    for y in range(rows):
        for x in range(columns):
            offsets.append(len(ids))
            tile = torch.tensor([x, y])
            inside = (radii > 0) & (low <= tile).all(1) & (tile < high).all(1)
            ids += order[inside[order]].tolist()
    shape = (1, rows, columns)
    return (
        torch.tensor(offsets, dtype=torch.int32).reshape(shape),
        torch.tensor(ids, dtype=torch.int32),
    )


@vectors("splat")
def test_splat(path):
    g = load(path)
    width, height = int(g["width"]), int(g["height"])
    viewmats = tensor(g["world_view_transform"]).T[None].contiguous()
    fx = width / (2 * np.tan(float(g["fovx"]) / 2))
    fy = height / (2 * np.tan(float(g["fovy"]) / 2))
    Ks = torch.tensor([[[fx, 0, width / 2], [0, fy, height / 2], [0, 0, 1]]], dtype=torch.float32)
    xyz, quat, scale = (tensor(g[n]) for n in ("xyz", "quat", "scale"))
    radii, means2d, depths, conics, _ = fully_fused_projection(
        xyz, None, quat, scale, viewmats, Ks, width, height, near_plane=1e-6, packed=False
    )
    radii = square_radii(conics, radii)
    # The original culls by whole tiles, ours by pixels: what neither draws is left out.
    expected_seen = tensor(g["radii"]) > 0
    seen = (radii[0, :, 0] > 0) & expected_seen
    assert (tensor(g["n_contrib"]).sum()) > 0
    assert (radii[0, :, 0] > 0).sum() >= expected_seen.sum() * 0.9
    close(means2d[0][seen] - 0.5, g["mean2d"][seen.numpy()], rtol=0, atol=1e-4)
    close(conics[0][seen], g["conic"][seen.numpy()], rtol=1e-3, atol=1e-4)
    close(depths[0][seen], g["depth"][seen.numpy()])
    assert (radii[0, seen, 0] == tensor(g["radii"])[seen]).all()

    planes = plane_features(xyz, quat, scale, viewmats)[0]
    maps = torch.cat([planes[:, :3], torch.ones(len(xyz), 1), planes[:, 3:]], 1)
    close(maps[seen], g["all_map"][seen.numpy()])

    # Compositing and its gradients start from the vectors' own projection.
    leaf = {
        "mean2d_pixel": tensor(g["mean2d"]).clone(),
        "conic": tensor(g["conic"]).clone(),
        "opacity": tensor(g["opacity"]).clone(),
        "color": tensor(g["color"]).clone(),
        "all_map": tensor(g["all_map"]).clone(),
    }
    for value in leaf.values():
        value.requires_grad_()
    radius = tensor(g["radii"])
    rects = tensor(g["tile_min"]), tensor(g["tile_max"])
    tiles = -(-width // TILE), -(-height // TILE)
    offsets, flatten_ids = lists_of_rects(*rects, radius, tensor(g["depth"]), *tiles)
    means = leaf["mean2d_pixel"][None] + 0.5
    channels = torch.cat([leaf["color"], leaf["all_map"]], 1)[None]
    background = torch.cat([tensor(g["background"]), torch.zeros(5)])[None]
    counts = {}
    rest = (leaf["opacity"].T, width, height, TILE, offsets, flatten_ids)
    out, alpha = rasterize_to_pixels(
        means, leaf["conic"][None], channels, *rest, backgrounds=background, stats=counts
    )
    image, maps = out[0, ..., :3].permute(2, 0, 1), out[0, ..., 3:].permute(2, 0, 1)
    close(image, g["image"], rtol=0, atol=1e-4)
    close(maps, g["out_all_map"], rtol=0, atol=1e-4)
    close(1 - alpha[0, ..., 0], g["final_T"], rtol=0, atol=1e-4)
    # Depth of the planes with rays through (W / 2, H / 2), where any surface is.
    K = torch.tensor([[fx, 0, width / 2 + 0.5], [0, fy, height / 2 + 0.5], [0, 0, 1.0]])
    depth, valid = plane_depth(
        maps[:3].permute(1, 2, 0)[None],
        maps[4][None, ..., None],
        alpha,
        K[None].float(),
        min_cosine=0.0,
    )
    seen_pixels = valid[0, ..., 0] & (alpha[0, ..., 0] > 0.01)
    assert seen_pixels.float().mean() > 0.25
    close(depth[0, ..., 0][seen_pixels], g["plane_depth"][seen_pixels.numpy()], rtol=1e-3)
    # Pixels that meet a Gaussian while more than half of the light is left.
    assert (counts["n_touched"].reshape(-1) == tensor(g["observe"])).all()
    # One channel per Gaussian gives its weight in each pixel: which ones are blended there.
    weights, _ = rasterize_to_pixels(
        means.detach(), leaf["conic"].detach()[None], torch.eye(len(xyz))[None], *rest
    )
    assert ((weights[0] > 0).sum(-1) == tensor(g["n_contrib"])).all()
    total = (image * tensor(g["w_image"])).sum() + (maps * tensor(g["w_all_map"])).sum()
    total.backward()
    for name, value in leaf.items():
        expected = tensor(g["grad_" + name])
        scale = float(expected.abs().max())
        close(value.grad, g["grad_" + name], rtol=1e-3, atol=1e-4 * max(scale, 1))
    half = torch.tensor([width / 2, height / 2])
    close(
        leaf["mean2d_pixel"].grad * half,
        g["grad_mean2d_ndc"],
        rtol=1e-3,
        atol=1e-4 * float(tensor(g["grad_mean2d_ndc"]).abs().max()),
    )


@vectors("gaussian_plane")
def test_gaussian_planes(path):
    g = load(path)
    viewmat = tensor(g["world_view_transform"]).T.contiguous()
    planes = plane_features(tensor(g["xyz"]), tensor(g["quat"]), tensor(g["scale"]), viewmat[None])
    close(planes[0, :, :3], g["normal_cam"])
    close(planes[0, :, 3], g["distance"])


@vectors("covariance")
def test_covariances(path):
    from mmcity_ops import quat_scale_to_covar_preci

    g = load(path)
    scale = tensor(g["scale"]) * float(g["scale_modifier"])
    covars, _ = quat_scale_to_covar_preci(tensor(g["quat"]), scale, compute_preci=False)
    close(covars, g["cov3d"])
    upper = torch.triu_indices(3, 3)
    close(covars[:, upper[0], upper[1]], g["cov6"])
    close(tensor(g["inverse_sigmoid_in"]).logit(), g["inverse_sigmoid"])


@vectors("sh")
def test_spherical_harmonics(path):
    from mmcity.structures import SH_C0
    from mmcity_ops import spherical_harmonics

    g = load(path)
    coeffs = tensor(g["coeffs"]).transpose(1, 2).contiguous()
    degrees = [int(key.removeprefix("deg")) for key in g if key.startswith("deg")]
    assert degrees
    for degree in degrees:
        value = spherical_harmonics(degree, tensor(g["dirs"]), torch.eye(4)[None], coeffs)
        close(value[0], g[f"deg{degree}"])
    x = torch.linspace(0, 1, len(g["rgb2sh"]))
    close((x - 0.5) / SH_C0, g["rgb2sh"])
    x = torch.linspace(-1, 1, len(g["sh2rgb"]))
    close(SH_C0 * x + 0.5, g["sh2rgb"])


# ---------------------------------------------------------------- optimisation, work


GROUPS = {
    "anchors.positions": "anchor",
    "anchors.offsets": "offset",
    "decoder.opacity_mlp.": "mlp_opacity",
    "decoder.cov_mlp.": "mlp_cov",
    "decoder.color_mlp.": "mlp_color",
    "decoder.feature_bank_mlp.": "mlp_featurebank",
    "decoder.appearance.": "appearance",
}


@vectors("lr_schedule")
def test_rates(path):
    g = load(path)
    steps = g["iterations"]

    def scheduled(first, ratio, end, delay=0, delay_ratio=1.0):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=first)
        scheduler = ExponentialDecayLR(
            optimizer, ratio, round(end), delay=round(delay), delay_ratio=delay_ratio
        )
        return np.array([first * scheduler.factor(int(i)) for i in steps])

    def weights(first, ratio, end):
        objective = CityGSXObjective(
            depth_l1_weight_init=first,
            depth_l1_weight_final=first * ratio,
            dpt_end_iter=round(end),
            depth_schedule="legacy",
        )
        return np.array([objective.depth_weight(int(i)) for i in steps])

    for prefix, made in (("lr_", scheduled), ("depth_weight_", weights)):
        names = [key for key in g if key.startswith(prefix)]
        assert names
        for name in names:
            close(made(*_golden.decay_of(steps, g[name])), g[name], rtol=1e-6, atol=0)
    if "delayed" in g:
        delayed = scheduled(*_golden.delayed_decay_of(steps, g["delayed"]))
        close(delayed, g["delayed"], rtol=1e-6, atol=0)


def test_rates_of_the_schedule_in_the_configs():
    g = load(REPO / "tests/data/golden/citygsx/lr_schedule.npz")  # the published ones
    schedule = Config.fromfile(REPO / "configs/_base_/schedules/citygsx_100k.py")
    rates = {group.name: group for group in schedule.optim_wrapper.paramwise_cfg.groups}
    for name, key in GROUPS.items():
        first, ratio, end = _golden.decay_of(g["iterations"], g["lr_" + key])
        extent = float(g["spatial_lr_scale"]) if rates[name].get("times_extent") else 1.0
        assert rates[name].lr * extent == pytest.approx(first, rel=1e-6), name
        decays = [one for one in schedule.param_scheduler if name in one.groups]
        for decay in decays:
            assert (decay.final_ratio, decay.end) == pytest.approx((ratio, end), rel=1e-6), name
        assert decays or ratio == 1 or rates[name].get("optional"), name


@vectors("update_predicate")
def test_update_predicate(path):
    g = load(path)
    for (iteration, batch, interval, residual), expected in zip(g["cases"].tolist(), g["result"]):
        assert is_due(iteration, batch, interval, residual) == bool(expected)


@vectors("work_division")
def test_work_division(path):
    g = load(path)
    border = float(g["border_divpos_coeff"])
    for case in range(int(g["n_cases"])):
        c = {key[len(f"c{case}_") :]: v for key, v in g.items() if key.startswith(f"c{case}_")}
        cuts = divide_rows(tensor(c["heuristic"]), int(c["world"]))
        assert cuts == c["raw_division"].tolist()
        n_rows = int(c["tile_y"])
        if not c["ok"]:
            with pytest.raises(ValueError, match="fewer ranks"):
                snap_to_images(cuts, n_rows, border)
            continue
        division = RowDivision(int(c["world"]))
        division._cuts = lambda _: snap_to_images(cuts, n_rows, border)  # noqa: B023
        views = [SimpleNamespace(one_size=lambda: (TILE, TILE * n_rows))] * len(c["heuristic"])  # noqa: B023
        division.divide([None] * len(views), views)
        flat = [[rank, *task] for rank, own in enumerate(division.tiles) for task in own]
        assert flat == c["tasks_gpu_cam_l_r"].tolist()


@vectors("routing")
def test_routing(path):
    g = load(path)
    radii, touched, cuts = tensor(g["radii"]), tensor(g["touched"]), g["division_rows"] * TILE
    seen = radii > 0
    splats = SimpleNamespace(
        means2d=tensor(g["mean2d"])[seen] + 0.5,
        radii=radii[seen, None].expand(-1, 2),
        depths=torch.ones(int(seen.sum())),
    )
    assert not touched[~seen].any()
    for rank, strip in enumerate(zip(cuts, cuts[1:])):
        sent = torch.zeros(len(splats.depths), dtype=torch.bool)
        sent[_reaching(splats, *strip)] = True
        assert not (touched[seen, rank] & ~sent).any()
        assert (sent & ~touched[seen, rank]).sum() <= 5  # the pixel of slack
