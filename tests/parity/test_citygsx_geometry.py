"""CityGS-X against golden vectors: cameras, priors, losses and evaluation.

The vectors count pixel centres as integers, hence ``pixel_offset=0`` throughout.
"""

import math
import re

import numpy as np
import pytest
import torch

from mmcity.datasets.depth_scale import fit_depth_scale
from mmcity.evaluation.functional.point_clouds import f1_score
from mmcity.models.citygsx import CityGSXObjective
from mmcity.models.losses.planar import (
    image_gradient,
    ncc,
    normals_from_depth,
    patch_offsets,
)
from mmcity.structures import Cameras
from mmcity.structures.geometry import quat_to_rotmat
from mmcity.structures.multi_view import (
    consistent_depth,
    find_neighbours,
    homographies,
    reproject,
)
from mmcity_ops import fused_ssim, plane_depth

from ._golden import decay_of
from .test_citygsx import close, load, tensor, vectors


def camera_of(g, suffix="", row=None, size=None):
    """Viewmat and K of stored (camera-to-world) rotation and translation, float32."""
    R, T = g["R" + suffix], g["T" + suffix]
    if row is not None:
        R, T = R[row], T[row]
    viewmat = np.eye(4)
    viewmat[:3, :3], viewmat[:3, 3] = R.T, T
    K = np.eye(3)
    K[0, 0], K[1, 1], K[0, 2], K[1, 2] = (float(g[n]) for n in ("fx", "fy", "cx", "cy"))
    return torch.from_numpy(viewmat).float(), torch.from_numpy(K).float()


def values_of(objective, *args):
    """Losses of one whole view, as a training computes them."""
    return {name: term.value() for name, term in objective.terms(*args).items()}


def leaf(value):
    return tensor(value).clone().requires_grad_()


@vectors("camera")
def test_cameras(path):
    g = load(path)
    for row in range(len(g["R"])):
        viewmat = torch.eye(4, dtype=torch.float64)
        viewmat[:3, :3], viewmat[:3, 3] = tensor(g["R"][row]).T, tensor(g["T"][row])
        width, height = int(g["width"][row]), int(g["height"][row])
        K = torch.eye(3, dtype=torch.float64)
        K[0, 0] = width / (2 * np.tan(g["fovx"][row] / 2))
        K[1, 1] = height / (2 * np.tan(g["fovy"][row] / 2))
        K[0, 2], K[1, 2] = width / 2, height / 2
        camera = Cameras(K, viewmat, width, height)
        close(camera.viewmats[0].T, g["world_view_transform"][row])
        close(camera.centers[0], g["camera_center"][row])
        close(camera.fovs[0], np.array([g["fovx"][row], g["fovy"][row]]))
        close(K[0, 0], g["fx"][row])
        close(K[1, 1], g["fy"][row])
        # The projection to clip space agrees with projecting to pixels.
        places = torch.tensor([[0.01, 0.03], [0.06, 0.05]]).double() * torch.tensor([width, height])
        points = camera.unproject(places, torch.ones(2))
        flat = torch.cat([points[0], torch.ones(2, 1, dtype=torch.float64)], 1)
        clip = flat @ tensor(g["full_proj_transform"][row]).double()
        pixels = (clip[:, :2] / clip[:, 3:] + 1) / 2 * torch.tensor([width, height])
        close(camera.project(points[0])[0][0], pixels.numpy(), rtol=1e-3, atol=1e-2)


# ---------------------------------------------------------------- losses


@vectors("image_losses")
def test_image_losses(path):
    from mmcity.evaluation.functional import psnr

    g = load(path)
    image, target = leaf(g["img1"]), tensor(g["img2"])
    close((image - target).abs().mean(), g["l1"])
    close((image - target).square().mean(), g["l2"])
    value = fused_ssim(image[None], target[None])
    close(value, g["ssim"])
    (gradient,) = torch.autograd.grad(value, image)
    close(gradient, g["ssim_grad_img1"], rtol=1e-3, atol=1e-7)
    terms = values_of(CityGSXObjective(scale_loss_from_iter=1), 1, image, target, None)
    total = sum(terms.values())
    close(total, g["rgb_loss"])
    (gradient,) = torch.autograd.grad(total, image)
    close(gradient, g["rgb_loss_grad_img1"], rtol=1e-3, atol=1e-7)
    edges = image_gradient(tensor(g["img1"]))
    close(edges, g["grad_weight"])
    close((1 - edges).square(), g["normal_weight"])
    close(psnr(tensor(g["img1"]), target), g["psnr_image"].reshape(()))
    for channel in range(3):
        one = psnr(tensor(g["img1"])[channel : channel + 1], target[channel : channel + 1])
        close(one, g["psnr_per_channel"][channel].reshape(()))


@vectors("image_losses")
def test_ssim_of_strips_is_what_zero_padding_at_the_cut_gives(path):
    g = load(path)
    image, target, cut = tensor(g["img1"]), tensor(g["img2"]), int(g["strip_row"])
    count = image.numel()
    for name, rows in (("top", slice(0, cut)), ("bottom", slice(cut, None))):
        strip, other = image[:, rows], target[:, rows]
        close(fused_ssim(strip[None], other[None]) * strip.numel() / count, g["ssim_strip_" + name])


@vectors("ncc")
def test_ncc(path):
    g = load(path)
    nea = leaf(g["nea"])
    value, similar = ncc(tensor(g["ref"]), nea)
    # A constant patch has no variance: rounding alone decides its value.
    close(value, g["ncc"], atol=1e-4)
    assert (similar == tensor(g["mask"])).all()
    mean = value[similar].mean()
    close(mean, g["mean_masked"])
    mean.backward()
    close(nea.grad, g["grad_nea"], rtol=1e-3, atol=1e-4)


@vectors("normal_from_depth")
def test_normals_from_depth(path):
    g = load(path)
    K = torch.eye(3)
    K[0, 0], K[1, 1], K[0, 2], K[1, 2] = (float(g[n]) for n in ("fx", "fy", "cx", "cy"))
    depth = leaf(g["depth"])
    normals = normals_from_depth(depth, K, pixel_offset=0.0)
    close(normals, g["normal"], atol=1e-4)
    (normals * tensor(g["grad_weight"])).sum().backward()
    scale = float(tensor(g["grad_depth"]).abs().max())
    close(depth.grad, g["grad_depth"], rtol=1e-3, atol=1e-4 * scale)
    exact = normals_from_depth(tensor(g["plane_depth_exact"]), K, pixel_offset=0.0)
    close(exact, g["plane_normal_from_depth"], atol=1e-3)
    inner = exact[:, 1:-1, 1:-1]
    close(inner, np.broadcast_to(g["plane_normal_camera"][:, None, None], inner.shape), atol=2e-3)


@vectors("planar_depth")
def test_planar_depth(path):
    g = load(path)
    normals, distances = leaf(g["normal_map"]), leaf(g["distance_map"])
    height, width = normals.shape[1:]
    # Rays of integer pixels about W / 2 are ours about W / 2 + 0.5.
    K = torch.eye(3)
    K[0, 0], K[1, 1] = float(g["fx"]), float(g["fy"])
    K[0, 2], K[1, 2] = width / 2 + 0.5, height / 2 + 0.5
    depth, valid = plane_depth(
        normals.permute(1, 2, 0)[None],
        distances.permute(1, 2, 0)[None],
        torch.ones(1, height, width, 1),
        K[None],
        min_cosine=0.0,
    )
    kept = valid[0, ..., 0]
    assert kept.float().mean() > 0.5
    expected = tensor(g["plane_depth"])
    close(depth[0, ..., 0][kept], expected[kept].numpy(), rtol=1e-3, atol=1e-3)
    (depth[0, ..., 0] * tensor(g["grad_weight"]))[kept].sum().backward()
    # Near a ray within the plane the gradient has no bound; its share is compared.
    for value, name in ((normals, "grad_normal_map"), (distances, "grad_distance_map")):
        wanted = tensor(g[name])[:, kept]
        error = (value.grad[:, kept] - wanted).abs() / (1 + wanted.abs())
        assert float(error.max()) < 1e-2


@vectors("multi_view")
def test_reprojection_and_homographies(path):
    g = load(path)
    viewmat, K = camera_of(g, "_ref")
    other, _ = camera_of(g, "_near")
    depth, other_depth = tensor(g["depth_ref"])[0], tensor(g["depth_near"])[0]
    out = reproject(depth, K, viewmat, other_depth, K, other, pixel_offset=0.0)
    close(out["world"], g["points_world"], atol=1e-4)
    close(out["other"], g["points_near_cam"], atol=1e-4)
    valid = tensor(g["valid"])
    assert (out["valid"].reshape(-1) == valid).all()
    close(out["sampled"].reshape(-1)[valid], g["map_z"][valid.numpy()], atol=1e-3)
    close(out["pixels"].reshape(-1, 2)[valid], g["reprojection"][valid.numpy()], atol=1e-2)
    close(out["error"].reshape(-1)[valid], g["pixel_noise"][valid.numpy()], atol=1e-2)
    rotation = other[:3, :3] @ viewmat[:3, :3].T
    assert any(
        torch.allclose(rotation, candidate, atol=1e-5)
        for candidate in (tensor(g["rel_rotation"]), tensor(g["rel_rotation"]).T)
    )
    maps = homographies(
        tensor(g["sample_normal"]), tensor(g["sample_distance"]), K, viewmat, K, other
    )
    close(maps, g["homography"], rtol=1e-3, atol=1e-3)
    half = (int(round(g["patch_offsets"].shape[1] ** 0.5)) - 1) // 2
    close(patch_offsets(half), g["patch_offsets"][0])
    width = depth.shape[1]
    rows = tensor(g["sample_index"])
    pixels = torch.stack([rows % width, rows // width], -1)[:, None] + patch_offsets(half)
    close(pixels, g["patch_pixels"])
    warped = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1) @ maps.transpose(1, 2)
    close(warped[..., :2] / warped[..., 2:], g["warped"], rtol=1e-3, atol=1e-2)


def view_of(g, **leaves):
    viewmat, K = camera_of(g, "_ref")
    other, _ = camera_of(g, "_near")
    depth = leaves["plane_depth"][0]
    geometry = dict(
        depth=depth,
        normals=leaves["rendered_normal"],
        distances=leaves["rendered_distance"][0],
        alpha=torch.ones_like(depth),
        K=K,
        viewmat=viewmat,
        grey=tensor(g["gray_ref"])[0],
    )
    neighbour = dict(
        depth=tensor(g["in_nearest_plane_depth"])[0],
        K=K,
        viewmat=other,
        grey=tensor(g["gray_near"])[0],
    )
    return geometry, neighbour


LEAVES = ("image", "plane_depth", "rendered_normal", "rendered_distance", "scales")


def iterations_of(g):
    return sorted(int(key[2:-5]) for key in g if key.startswith("it") and key.endswith("_loss"))


def column(g, name):
    """A number of all recorded iterations, float64."""
    return np.array([float(g[f"it{iteration}_{name}"]) for iteration in iterations_of(g)])


def starts_within(above, up_to, changes=()):
    """Starts ``above < start <= up_to`` that differ by what they lie ``changes`` after."""
    lowest = math.floor(max([-1, *above])) + 1
    starts = {lowest, *(math.floor(change) + 1 for change in changes)}
    return [start for start in sorted(starts) if lowest <= start <= min([math.inf, *up_to])]


def recorded_objectives(g):
    """Objectives with the options that the recorded numbers show.

    A term counts after its start; the weight of scales falls at twice the start of normals.
    The start of the patches' stages shows in the totals alone, hence several objectives.
    """
    its = np.array(iterations_of(g))
    scales = g["in_scales"][g["visibility"]].min(1).mean()
    heavy, light = CityGSXObjective.scale_weights
    is_heavy = column(g, "term_scale") / scales > (heavy + light) / 2
    has_normals, has_prior = column(g, "term_normal") != 0, column(g, "term_depth") != 0
    share = CityGSXObjective.lambda_dssim
    picture = (1 - share) * column(g, "l1") + share * (1 - column(g, "ssim"))
    terms = picture + sum(column(g, f"term_{name}") for name in ("scale", "normal", "depth"))
    has_patches = np.abs(column(g, "loss") - terms) > 1e-5
    normals, *_ = starts_within(
        [*(its[~has_normals] - 1), *its[is_heavy] / 2],
        [*(its[has_normals] - 1), *its[~is_heavy] / 2],
    )
    prior, *_ = starts_within(its[~has_prior] - 1, its[has_prior] - 1)
    staged = its[has_patches]
    patches = starts_within(its[~has_patches] - 1, staged - 1, [*staged / 1.2, *staged / 1.5])
    first, ratio, end = decay_of(its, column(g, "depth_weight"))
    return [
        CityGSXObjective(
            single_view_weight_from_iter=normals,
            dpt_loss_from_iter=prior,
            multi_view_weight_from_iter=start,
            dpt_end_iter=round(end),
            depth_l1_weight_init=first,
            depth_l1_weight_final=first * ratio,
            depth_schedule="legacy",
            legacy_normal_nograd=True,
            multi_view_geo_weight=0.0,
            pixel_offset=0.0,
        )
        for start in patches
    ]


def terms_of(g, objective, iteration, leaves):
    geometry, neighbour = view_of(g, **leaves)
    return values_of(
        objective,
        iteration,
        leaves["image"],
        tensor(g["gt_uint8"]).float() / 255,
        leaves["scales"][tensor(g["visibility"])],
        geometry if objective.needs_geometry(iteration) else None,
        tensor(g["mono_invdepth"])[0],
        neighbour,
    )


@vectors("training_loss")
def test_training_loss_of_the_original(path):
    g = load(path)
    inputs = {name: tensor(g["in_" + name]) for name in LEAVES}

    def distance(objective):
        totals = [float(sum(terms_of(g, objective, i, inputs).values())) for i in iterations_of(g)]
        return np.abs(totals - column(g, "loss")).sum()

    objective = min(recorded_objectives(g), key=distance)
    for iteration in iterations_of(g):
        prefix = f"it{iteration}_"
        leaves = {name: leaf(g["in_" + name]) for name in LEAVES}
        terms = terms_of(g, objective, iteration, leaves)
        total = sum(terms.values())
        if float(g[prefix + "depth_weight"]):
            assert objective.depth_weight(iteration) == pytest.approx(
                float(g[prefix + "depth_weight"]), rel=1e-6
            )
        close(terms["loss_scale"], np.float32(g[prefix + "term_scale"]))
        for name, key in (("loss_normal", "term_normal"), ("loss_depth", "term_depth")):
            close(terms.get(name, torch.zeros(())), np.float32(g[prefix + key]))
        close(total, g[prefix + "loss"])
        total.backward()
        for name, value in leaves.items():
            expected = tensor(g[f"{prefix}grad_{name}"])
            gradient = torch.zeros_like(value) if value.grad is None else value.grad
            # A patch whose value is next to 0.9 may fall to the other side.
            scale = float(expected.abs().max())
            close(gradient, expected.numpy(), rtol=1e-3, atol=1e-3 * scale + 1e-9)


@vectors("intended_geometry_losses")
def test_intended_geometry_losses(path):
    g = load(path)
    inputs = load(path.with_name(path.name.replace("intended_geometry_losses", "training_loss")))
    leaves = {name: leaf(inputs["in_" + name]) for name in LEAVES}
    geometry, neighbour = view_of(inputs, **leaves)
    starts = ("single_view_weight_from_iter", "multi_view_weight_from_iter")
    objective = CityGSXObjective(**dict.fromkeys(starts, 0), pixel_offset=0.0)
    target = tensor(inputs["gt_uint8"]).float() / 255
    view = leaves["image"], target, leaves["scales"], geometry, None, neighbour
    losses = values_of(objective, 1, *view)
    geometric, value = losses["loss_reprojection"], losses["loss_normal"]
    close(geometric, g["geo_loss"])
    (gradient,) = torch.autograd.grad(geometric, leaves["plane_depth"], retain_graph=True)
    scale = float(tensor(g["geo_grad_plane_depth"]).abs().max())
    close(gradient, g["geo_grad_plane_depth"], rtol=1e-2, atol=1e-3 * scale)

    close((1 - image_gradient(target)).square(), g["image_weight"])
    close(value, g["normal_loss"])
    value.backward()
    for name in ("plane_depth", "rendered_normal"):
        expected = g["normal_grad_" + name]
        scale = float(np.abs(expected).max())
        close(leaves[name].grad, expected, rtol=1e-3, atol=1e-3 * scale)


# ---------------------------------------------------------------- priors, evaluation


@vectors("depth_scale")
def test_depth_scale(path):
    g = load(path)
    for case in range(int(g["n_cases"])):
        c = {key[len(f"c{case}_") :]: v for key, v in g.items() if key.startswith(f"c{case}_")}
        viewmat = np.eye(4)
        viewmat[:3, :3] = quat_to_rotmat(tensor(c["qvec"])).numpy()
        viewmat[:3, 3] = c["tvec"]
        known = (c["point3D_ids"] >= 0) & (c["point3D_ids"] < len(c["points"]))
        scale, offset = fit_depth_scale(
            c["depth_png"],
            c["xys"][known],
            c["points"][c["point3D_ids"][known]],
            viewmat,
            tuple(c["cam_wh"].tolist()),
        )
        assert scale == pytest.approx(float(c["scale"]), rel=1e-5, abs=1e-12)
        assert offset == pytest.approx(float(c["offset"]), rel=1e-5, abs=1e-9)


def cameras_of(g, size=(1, 1)):
    """Cameras of all views; without a picture the size does not matter."""
    count = len(g["R"])
    viewmats = np.tile(np.eye(4), (count, 1, 1))
    viewmats[:, :3, :3], viewmats[:, :3, 3] = g["R"].transpose(0, 2, 1), g["T"]
    K = np.eye(3)
    if "fx" in g:
        K[0, 0], K[1, 1], K[0, 2], K[1, 2] = (float(g[n]) for n in ("fx", "fy", "cx", "cy"))
    return Cameras(torch.from_numpy(K).float(), torch.from_numpy(viewmats).float(), *size)


def as_lists(padded):
    return [[int(i) for i in row if i >= 0] for row in padded]


@vectors("neighbours")
def test_neighbours(path):
    g = load(path)
    cameras = cameras_of(g)
    assert find_neighbours(cameras) == as_lists(g["neighbours_default"])
    for key in (key for key in g if key.startswith("neighbours_k")):
        # k3_a15_d02_09: 3 neighbours, within 15 degrees, at a distance from 0.2 to 0.9
        count, angle, *distances = (word.lstrip("kad") for word in key.split("_")[1:])
        near, far = (float(f"{word[0]}.{word[1:]}") for word in distances)
        few = find_neighbours(cameras, int(count), float(angle), near, far)
        assert few == as_lists(g[key]), key


@vectors("depth_filter")
def test_depth_filter(path):
    g = load(path)
    inverse = tensor(g["inv_depth"])[:, 0]
    cameras = cameras_of(g, tuple(reversed(inverse.shape[1:])))
    depths = torch.where(inverse > 0, 1 / inverse, torch.inf)
    limits = {
        key: float(key.removeprefix("mask_thr_").replace("p", "."))
        for key in g
        if key.startswith("mask_thr_")
    }
    assert limits
    for key, limit in limits.items():
        for row, neighbours in enumerate(as_lists(g["nearest"])):
            if not g["written"][row]:
                assert not neighbours
                continue
            mask = consistent_depth(
                depths, cameras, row, neighbours, max_error=limit, pixel_offset=0.0
            )
            assert (mask != tensor(g[key][row])).float().mean() <= 1e-3


@vectors("f1")
def test_f1(path):
    g = load(path)
    keys = [key for key in g if re.fullmatch(r"tau[\d.]+_prf", key)]
    assert keys
    for key in keys:
        threshold = float(key.removeprefix("tau").removesuffix("_prf")) / 2
        score = f1_score(g["pred"], g["gt"], threshold)
        assert list(score.values()) == pytest.approx(g[key].tolist(), rel=1e-4)
