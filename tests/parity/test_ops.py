"""Geometry operators and whole renders against golden vectors, on every CPU backend and type."""

import numpy as np
import pytest
import torch

import mmcity_ops as ops
from tests.parity._golden import (
    DEVICE,
    Golden,
    assert_close_l2,
    assert_images_close,
    vectors,
)

VARIANTS = [
    pytest.param("native", torch.float64, id="native-float64"),
    pytest.param("native", torch.float32, id="native-float32"),
    pytest.param("reference", torch.float64, id="reference-float64"),
    pytest.param("reference", torch.float32, id="reference-float32"),
]
pytestmark = pytest.mark.parametrize("backend, dtype", VARIANTS)


@pytest.fixture(autouse=True)
def chosen_backend(backend, monkeypatch):
    monkeypatch.setenv("MMCITY_OPS_BACKEND", backend)


@vectors("quat_scale_to_covar_preci")
def test_quat_scale_to_covar_preci(path, backend, dtype):
    golden = Golden(path, dtype)
    for name in ("covars", "precis"):
        quats, scales = golden.leaf("quats"), golden.leaf("scales")
        values = dict(zip(("covars", "precis"), ops.quat_scale_to_covar_preci(quats, scales)))
        triu = dict(
            zip(("covars", "precis"), ops.quat_scale_to_covar_preci(quats, scales, triu=True))
        )
        assert_close_l2(name, values[name], golden, name)
        assert_close_l2(f"{name}_triu", triu[name], golden, f"{name}_triu")
        values[name].backward(golden[f"v_{name}"])
        assert_close_l2("v_quats", quats.grad, golden, f"v_quats_from_{name}")
        assert_close_l2("v_scales", scales.grad, golden, f"v_scales_from_{name}")


def project(golden, *, covars=None, opacities=None, compensate=True, packed=False, leaves=None):
    leaves = leaves or {}
    get = lambda key: leaves.get(key, golden[key])  # noqa: E731
    return ops.fully_fused_projection(
        get("means"),
        covars,
        None if covars is not None else get("quats"),
        None if covars is not None else get("scales"),
        get("viewmats"),
        golden["Ks"],
        golden.scalar("width"),
        golden.scalar("height"),
        opacities=opacities,
        eps2d=golden.scalar("eps2d"),
        near_plane=golden.scalar("near_plane"),
        far_plane=golden.scalar("far_plane"),
        packed=packed,
        calc_compensations=compensate,
        camera_model=golden.scalar("camera_model"),
    )


OUTPUTS = ("means2d", "depths", "conics", "compensations")


@vectors("projection_")
def test_projection(path, backend, dtype):
    golden = Golden(path, dtype)
    keys = ("means", "quats", "scales", "viewmats")
    leaves = {key: golden.leaf(key) for key in keys}
    radii, *outputs = project(golden, leaves=leaves)
    clear = ~golden["radii_ambiguous"]
    assert torch.equal(radii[clear], golden["radii"][clear])
    for key, value in zip(OUTPUTS, outputs):
        assert_close_l2(key, value, golden, key)
    sum((value * golden[f"v_{key}"]).sum() for key, value in zip(OUTPUTS, outputs)).backward()
    for key in keys:
        assert_close_l2(f"v_{key}", leaves[key].grad, golden, f"v_{key}")


@vectors("projection_")
def test_projection_of_covariances(path, backend, dtype):
    golden = Golden(path, dtype)
    covars, _ = ops.quat_scale_to_covar_preci(golden["quats"], golden["scales"])
    covars = covars.detach().requires_grad_()
    _, *outputs = project(golden, covars=covars)
    sum((value * golden[f"v_{key}"]).sum() for key, value in zip(OUTPUTS, outputs)).backward()
    assert_close_l2("v_covars", covars.grad, golden, "v_covars")


@vectors("projection_")
def test_opacity_aware_radii(path, backend, dtype):
    golden = Golden(path, dtype)
    clear = ~golden["radii_ambiguous"]
    for key, compensate in (
        ("radii_opacity_aware", False),
        ("radii_opacity_aware_antialiased", True),
    ):
        radii = project(golden, opacities=golden["opacities"], compensate=compensate)[0]
        assert torch.equal(radii[clear], golden[key][clear]), key


@vectors("projection_")
def test_packed_projection(path, backend, dtype):
    golden = Golden(path, dtype)
    keys = ("means", "quats", "scales", "viewmats")
    leaves = {key: golden.leaf(key) for key in keys}
    _, camera_ids, gaussian_ids, indptr, radii, *outputs = project(
        golden, packed=True, leaves=leaves
    )
    wanted = golden["radii"].clone()
    ambiguous = golden["radii_ambiguous"]
    shown = torch.zeros_like(wanted)
    shown[camera_ids, gaussian_ids] = radii
    assert torch.equal(shown[~ambiguous], wanted[~ambiguous])
    order = camera_ids * wanted.shape[1] + gaussian_ids
    assert (order.diff() > 0).all()
    assert indptr.tolist()[-1] == len(radii)
    rows = (camera_ids, gaussian_ids)
    sum((v * golden[f"v_{key}"][rows]).sum() for key, v in zip(OUTPUTS, outputs)).backward()
    for key in keys:
        assert_close_l2(f"v_{key}", leaves[key].grad, golden, f"v_{key}")


@vectors("spherical_harmonics")
@pytest.mark.parametrize("split", [False, True], ids=["joined", "split"])
def test_spherical_harmonics(path, split, backend, dtype):
    golden = Golden(path, dtype)
    at_origin = torch.eye(4, dtype=dtype, device=DEVICE)[None]
    degrees = [int(k.removeprefix("colors_deg")) for k in golden.arrays if "colors_deg" in k]
    assert degrees
    for degree in degrees:
        dirs = golden.leaf("dirs")
        coeffs = golden.leaf("coeffs")
        given = (coeffs[:, :1], coeffs[:, 1:]) if split else coeffs
        colors = ops.spherical_harmonics(degree, dirs, at_origin, given)[0]
        assert_close_l2("colors", colors, golden, f"colors_deg{degree}")
        colors.backward(golden["v_colors"])
        used = golden.arrays[f"v_coeffs_deg{degree}"].shape[1]
        assert_close_l2("v_coeffs", coeffs.grad[:, :used], golden, f"v_coeffs_deg{degree}")
        assert not coeffs.grad[:, used:].any()
        if degree > 0:
            assert_close_l2("v_dirs", dirs.grad, golden, f"v_dirs_deg{degree}")


@vectors("cull_lod")
def test_frustum_cull(path, backend, dtype):
    golden = Golden(path, dtype)
    clear = ~golden["ambiguous"]
    for key, radii in (("visible_sphere", golden["bounding_radii"]), ("visible_center", None)):
        visible = ops.frustum_cull(
            golden["points"],
            radii,
            golden["viewmats"],
            golden["Ks"],
            golden.scalar("width"),
            golden.scalar("height"),
            golden.scalar("near"),
            golden.scalar("far"),
        )
        assert torch.equal(visible[clear], golden[key][clear]), key


@vectors("cull_lod")
@pytest.mark.parametrize("mode", ["floor", "round", "ceil", "progressive"])
def test_select_lod(path, mode, backend, dtype):
    golden = Golden(path, dtype)
    if f"mask_{mode}" not in golden:
        pytest.skip(f"{path.name} holds no mask of the mode")
    centers = torch.linalg.inv(golden["viewmats"].double())[:, :3, 3].to(dtype)
    mask, ratio, transition = ops.select_lod(
        golden["points"],
        golden["level"],
        golden["extra_level"],
        centers,
        voxel_size=golden.scalar("anchor_voxel_size"),
        fork=golden.scalar("fork"),
        n_levels=golden.scalar("levels"),
        standard_dist=golden.scalar("standard_dist"),
        resolution_scale=golden.scalar("resolution_scale"),
        mode=mode,
    )
    # a level within rounding of a step may fall on either side of it in float32
    predicted = torch.from_numpy(golden.arrays["pred_level"]).to(DEVICE)
    position = {"round": predicted + 0.5}.get(mode, predicted)
    clear = ((position - position.round()).abs() > 1e-5) | (dtype == torch.float64)
    assert clear.float().mean() > 0.99
    assert torch.equal(mask[clear], golden[f"mask_{mode}"][clear])
    if mode != "progressive":
        assert ratio is None and transition is None
        return
    assert torch.equal(transition[clear], golden["transition"][clear])
    wanted = torch.from_numpy(golden.arrays["prog_ratio"])
    atol = 1e-6 if dtype == torch.float64 else 1e-5
    clear = clear.cpu()
    np.testing.assert_allclose(ratio.double().cpu()[clear], wanted[clear], rtol=0, atol=atol)


@vectors("end_to_end")
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
def test_rasterization(path, packed, backend, dtype):
    golden = Golden(path, dtype)
    planar = "v_normals" in golden
    keys = ("means", "quats", "scales", "opacities", "sh", "viewmats")
    leaves = {key: golden.leaf(key) for key in keys}
    backgrounds = golden.leaf("backgrounds") if "backgrounds" in golden else None
    renders, alphas, meta = ops.rasterization(
        *(leaves[key] for key in keys),
        golden["Ks"],
        golden.scalar("width"),
        golden.scalar("height"),
        near_plane=golden.scalar("near_plane"),
        sh_degree=golden.scalar("sh_degree"),
        packed=packed,
        tile_size=golden.scalar("tile_size"),
        backgrounds=backgrounds,
        render_mode="RGB+D+N+P" if planar else "RGB+D",
        rasterize_mode="antialiased" if golden.scalar("antialiased") else "classic",
    )
    meta["means2d"].retain_grad()
    rgb, depth = renders[..., :3], renders[..., 3:4]
    images = {
        "rgb": rgb,
        "alphas": alphas,
        "D": depth,
        "ED": depth / alphas.clamp_min(1e-10),
    }
    if planar:
        images.update(normals=meta["normals"], distance=meta["plane_distance"])
    for name, image in images.items():
        deep = name in ("D", "ED", "distance")
        key = f"render_{name}"
        assert_images_close(name, image, golden, key, atol32=2e-4 if deep else 2e-5)
    loss = sum((image * golden[f"v_{name}"]).sum() for name, image in images.items())
    if planar:
        valid = golden["plane_depth_valid"][..., 0]
        assert meta["plane_valid"][..., 0][valid].all()
        assert_images_close(
            "plane_depth", meta["plane_depth"], golden, "plane_depth", atol32=2e-4, keep=valid
        )
        loss = loss + (meta["plane_depth"] * golden["v_plane_depth"]).sum()
    loss.backward()
    for key in keys:
        assert_close_l2(f"v_{key}", leaves[key].grad, golden, f"v_{key}")
    means2d_grad = meta["means2d"].grad
    if packed:
        full = means2d_grad.new_zeros(golden.arrays["v_means2d"].shape)
        full[meta["camera_ids"], meta["gaussian_ids"]] = means2d_grad
        means2d_grad = full
    assert_close_l2("v_means2d", means2d_grad, golden, "v_means2d")


@vectors("end_to_end")
def test_render_modes_are_channels_of_one_render(path, backend, dtype):
    golden = Golden(path, dtype)
    keys = ("means", "quats", "scales", "opacities", "sh", "viewmats", "Ks")

    def render(mode):
        return ops.rasterization(
            *(golden[key] for key in keys),
            golden.scalar("width"),
            golden.scalar("height"),
            near_plane=golden.scalar("near_plane"),
            sh_degree=golden.scalar("sh_degree"),
            tile_size=golden.scalar("tile_size"),
            rasterize_mode="antialiased" if golden.scalar("antialiased") else "classic",
            render_mode=mode,
        )[0]

    whole = render("RGB+ED+N+P")
    assert whole.shape[-1] == 3 + 1 + 3 + 1
    assert_images_close("ED", whole[..., 3:4], golden, "render_ED", atol32=2e-4)
    torch.testing.assert_close(render("ED"), whole[..., 3:4])
    torch.testing.assert_close(render("RGB"), whole[..., :3])
    torch.testing.assert_close(render("RGB+P"), torch.cat((whole[..., :3], whole[..., 7:]), -1))
    torch.testing.assert_close(render("D+N")[..., 1:], whole[..., 4:7])


@vectors("garden_crop")
def test_projection_of_a_real_point_cloud(path, backend, dtype):
    golden = Golden(path, dtype)
    radii, means2d, depths, conics, _ = ops.fully_fused_projection(
        golden["world_means"],
        None,
        golden["world_quats"],
        golden["world_scales"],
        golden["world_viewmats"],
        golden["world_Ks"],
        golden.scalar("width"),
        golden.scalar("height"),
    )
    assert (radii != golden["radii"]).any(-1).float().mean() < 1e-3  # stored to float32 rounding
    shown = (golden["radii"] > 0).all(-1)
    for name, value in (("means2d", means2d), ("depths", depths), ("conics", conics)):
        want = golden[name][shown]
        error = (value[shown] - want).norm() / want.norm()
        assert error < 1e-5, name
