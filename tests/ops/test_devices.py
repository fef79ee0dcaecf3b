"""Every operator refuses tensors of several devices, naming the tensor."""

import inspect

import pytest
import torch

import mmcity_ops as ops
from tests.ops.scene import HEIGHT, WIDTH, random_scene

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
OTHER = "cpu" if torch.cuda.is_available() else "meta"
N, CAMERAS, NNZ, TILE = 8, 2, 5, 16
TILES = (-(-HEIGHT // TILE), -(-WIDTH // TILE))
IMAGE = dict(width=WIDTH, height=HEIGHT)


def gaussians(*names):
    """Tensors of a small scene, by name."""
    scene = random_scene(n=N, cameras=CAMERAS, dtype=torch.float32)
    scene["colors"] = scene["colors"][:, 0].contiguous()
    scene["covars"] = torch.eye(3).expand(N, 3, 3).contiguous()
    return {name: scene[name] for name in names}


def rows():
    """Projected rows of both cameras."""
    return dict(
        means2d=torch.rand(CAMERAS, N, 2) * 20,
        conics=torch.tensor([0.1, 0.0, 0.1]).expand(CAMERAS, N, 3).contiguous(),
        colors=torch.rand(CAMERAS, N, 3),
        opacities=torch.rand(CAMERAS, N),
    )


def depths():
    return dict(depths=torch.rand(CAMERAS, N), radii=torch.full((CAMERAS, N, 2), 9).int())


def lists():
    return dict(
        isect_offsets=torch.zeros(CAMERAS, *TILES, dtype=torch.int64),
        flatten_ids=torch.zeros(0, dtype=torch.int32),
        backgrounds=torch.rand(CAMERAS, 3),
        masks=torch.ones(CAMERAS, *TILES, dtype=torch.bool),
    )


def packed_ids():
    ids = torch.zeros(NNZ, dtype=torch.int64)
    return dict(camera_ids=ids, gaussian_ids=ids.clone())


def tile_list_inputs():
    geometry = {name: rows()[name] for name in ("means2d", "conics", "opacities")}
    grid = dict(tile_size=TILE, tile_width=TILES[1], tile_height=TILES[0])
    return {**geometry, **depths(), "masks": lists()["masks"], **grid}


def share_of_tiles():
    partition = ops.TilePartition(torch.ones(CAMERAS, *TILES, dtype=torch.bool))
    backgrounds, extras = torch.rand(CAMERAS, 3), torch.rand(CAMERAS, N, 1)
    inputs = dict(**rows(), **depths(), backgrounds=backgrounds, extras=extras)
    return {**inputs, **IMAGE, "tile_size": TILE, "partition": partition}


def surfels():
    inputs = {name: value for name, value in rows().items() if name != "conics"}
    inputs["ray_transforms"] = torch.rand(CAMERAS, N, 3, 3)
    inputs["normals"] = torch.rand(CAMERAS, N, 3)
    return {**inputs, **lists(), **IMAGE, "tile_size": TILE}


def volume():
    blocks = torch.zeros(2, 3, dtype=torch.int32)
    grid = dict(blocks=blocks, origin=(0.0, 0.0, 0.0), voxel_size=0.1)
    return {name: torch.rand(2, 8, 8, 8) for name in ("tsdf", "weight")} | {
        "color": torch.rand(2, 8, 8, 8, 3),
        **grid,
    }


def view():
    """Of a depth map; it is moved to the volume's device."""
    cpu = dict(depth=torch.rand(4, 5), image=torch.rand(4, 5, 3), K=torch.eye(3))
    return {"viewmat": torch.eye(4), "trunc": 0.4, **cpu}


def densify(means2d, radii, **state):
    means2d.grad = torch.zeros_like(means2d)
    meta = dict(means2d=means2d, radii=radii, gaussian_ids=None, **IMAGE)
    return ops.accumulate_densify_stats(state, meta)


GRID = dict(vol_range=[-1, -1, -1, 1, 1, 1], voxel_size=0.5)
CASES = {
    "accumulate_densify_stats": lambda: dict(
        means2d=torch.rand(1, N, 2), radii=torch.ones(1, N, 2).int(), count=torch.zeros(N)
    ),
    "blocks_to_images": lambda: dict(
        blocks=torch.rand(1, TILE, TILE, 3), tile_ids=torch.zeros(1).long(), n_images=1, **IMAGE
    ),
    "extract_mesh": volume,
    "frustum_cull": lambda: dict(
        points=torch.rand(N, 3), radii=torch.rand(N), **gaussians("viewmats", "Ks"), **IMAGE,
        near=0.1, far=9.0,
    ),
    "fully_fused_projection": lambda: {
        **gaussians("means", "quats", "scales", "viewmats", "Ks", "opacities"), **IMAGE,
        "covars": None,
    },
    "fused_ssim": lambda: {k: torch.rand(1, 3, 12, 12) for k in ("img1", "img2", "mask")},
    "gaussians_to_voxels": lambda: dict(
        **gaussians("means", "opacities", "quats", "scales"), features=torch.rand(N, 2), **GRID
    ),
    "isect_tiles": tile_list_inputs,
    "keep_largest_clusters": lambda: dict(
        vertices=torch.rand(3, 3), faces=torch.tensor([[0, 1, 2]]), colors=torch.rand(3, 3)
    ),
    "plane_depth": lambda: dict(
        normals=torch.rand(1, 4, 5, 3), distances=torch.rand(1, 4, 5, 1),
        alphas=torch.rand(1, 4, 5, 1), Ks=torch.eye(3)[None],
    ),
    "plane_features": lambda: {
        **gaussians("means", "quats", "scales", "viewmats"), **packed_ids(),
    },
    "projection_2dgs": lambda: {
        **gaussians("means", "quats", "scales", "viewmats", "Ks"), **IMAGE,
    },
    "quat_scale_to_covar_preci": lambda: gaussians("quats", "scales"),
    "rasterization": lambda: dict(
        **gaussians("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks"), **IMAGE,
        backgrounds=torch.rand(CAMERAS, 3), masks=lists()["masks"],
    ),
    "rasterization_2dgs": lambda: dict(
        **gaussians("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks"), **IMAGE,
        backgrounds=torch.rand(CAMERAS, 3), masks=lists()["masks"],
    ),
    "rasterize_tiles": share_of_tiles,
    "rasterize_to_pixels": lambda: {**rows(), **lists(), **IMAGE, "tile_size": TILE},
    "rasterize_to_pixels_2dgs": surfels,
    "scatter_reduce_voxels": lambda: dict(
        feats=torch.rand(N, 2), coors=torch.zeros(N, 3, dtype=torch.int32)
    ),
    "select_lod": lambda: dict(
        anchors=torch.rand(N, 3), levels_of=torch.zeros(N).long(), extra_level=torch.rand(N),
        cam_centers=torch.rand(2, 3), voxel_size=0.5, fork=2, n_levels=3, standard_dist=6.0,
    ),
    "selective_adam": lambda: dict(
        params=torch.rand(N, 2), grads=torch.rand(N, 2), m=torch.zeros(N, 2), v=torch.zeros(N, 2),
        visible=torch.ones(N, dtype=torch.bool), lr=0.1,
    ),
    "semantic_splat": lambda: dict(
        points=torch.rand(4, 3), **gaussians("means", "opacities"), precis=torch.rand(N, 3, 3),
        semantics=torch.rand(N, 3), radii=torch.ones(N, dtype=torch.int32), **GRID,
    ),
    "spherical_harmonics": lambda: dict(
        degree=0, **gaussians("means", "viewmats"), coeffs=torch.rand(N, 1, 3), **packed_ids()
    ),
    "tile_lists": tile_list_inputs,
    "tsdf_integrate": lambda: {**volume(), **view()},
}  # fmt: skip
ONE_TENSOR = {"isect_offset_encode", "knn_mean_dist2", "tile_costs"} | {
    "voxelize_dynamic", "voxelize_hard",
}  # fmt: skip
MOVED = {"tsdf_integrate": {"depth", "image", "K", "viewmat"}}


def test_every_operator_has_a_case():
    functions = {name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
    assert functions - {"debug_mode", "set_debug"} == set(CASES) | ONE_TENSOR


@pytest.mark.parametrize("name", CASES)
def test_tensors_of_another_device_are_refused(name):
    function = densify if name == "accumulate_densify_stats" else getattr(ops, name)
    inputs = {
        key: value.to(DEVICE) if isinstance(value, torch.Tensor) else value
        for key, value in CASES[name]().items()
    }
    function(**inputs)
    tensors = {key for key, value in inputs.items() if isinstance(value, torch.Tensor)}
    for key in tensors - MOVED.get(name, set()):
        mixed = {**inputs, key: inputs[key].to(OTHER)}
        with pytest.raises(RuntimeError, match=r"expected device (\w|:)+ as of '\w+'"):
            function(**mixed)
