"""2D Gaussians (surfels): projection, compositing, and the entry ``rasterization_2dgs``."""

import math

import torch
from torch import Tensor

from mmcity_ops import _backend as backend
from mmcity_ops.functional.intersection import tile_lists
from mmcity_ops.functional.rasterize import check_tiling
from mmcity_ops.functional.spherical_harmonics import spherical_harmonics
from mmcity_ops.reference import surfel as reference

MIN_ALPHA = 1e-10

_reference = backend.float32_under_autocast(reference.rasterize)


def projection_2dgs(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Project surfels; runs as torch operations on every device.

    Args:
        means, quats, scales (Tensor): ``[N, 3]``, ``[N, 4]`` wxyz, ``[N, 3]`` (the third scale
            is not used).
        viewmats, Ks (Tensor): ``[C, 4, 4]`` world to camera, ``[C, 3, 3]``.
        width, height (int): image size in pixels.
        near_plane, far_plane (float): a surfel is kept strictly between them.
        radius_clip (float): culled when both radii are at or below it. Defaults to 0.

    Returns:
        tuple: radii int32 ``[C, N, 2]`` (0 = culled), means2d ``[C, N, 2]`` (centre of the screen
        box, which is not the projection of the mean), depths ``[C, N]``, ray transforms
        ``[C, N, 3, 3]`` = K [s1 r1 | s2 r2 | mu] in the camera's frame, unit normals
        ``[C, N, 3]`` in the camera's frame, turned towards the camera.
    """
    backend.check_last("means", means, 3)
    n, c = means.shape[0], viewmats.shape[0]
    backend.check_shape("means", means, ("N", 3))
    backend.check_shape("quats", quats, (n, 4))
    backend.check_shape("scales", scales, (n, 3))
    backend.check_shape("viewmats", viewmats, ("C", 4, 4))
    backend.check_shape("Ks", Ks, (c, 3, 3))
    backend.check_float(means=means, quats=quats, scales=scales, viewmats=viewmats, Ks=Ks)
    backend.check_device(means=means, quats=quats, scales=scales, viewmats=viewmats, Ks=Ks)
    return reference.project(
        means, quats, scales, viewmats, Ks, width=width, height=height, near_plane=near_plane,
        far_plane=far_plane, radius_clip=radius_clip,
    )  # fmt: skip


def rasterize_to_pixels_2dgs(
    means2d: Tensor,
    ray_transforms: Tensor,
    colors: Tensor,
    opacities: Tensor,
    normals: Tensor,
    width: int,
    height: int,
    tile_size: int,
    isect_offsets: Tensor,
    flatten_ids: Tensor,
    backgrounds: Tensor | None = None,
    masks: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Blend surfels front to back.

    At pixel (u, v): h_u = -M1 + u M3, h_v = -M2 + v M3, zeta = h_u x h_v,
    (s, t) = (zeta_1, zeta_2) / zeta_3, sigma = min(s^2 + t^2, 2 |mean2d - pixel|^2) / 2; then the
    rules of :func:`mmcity_ops.rasterize_to_pixels`.

    Args:
        means2d, ray_transforms, colors, opacities, normals (Tensor): ``[C, N, 2]``,
            ``[C, N, 3, 3]``, ``[C, N, D]``, ``[C, N]``, ``[C, N, 3]``.
        width, height, tile_size (int): in pixels.
        isect_offsets, flatten_ids (Tensor): lists of :func:`mmcity_ops.isect_tiles` (boxes).
        backgrounds (Tensor, optional): ``[C, D]`` behind the colours. Defaults to None (0).
        masks (Tensor, optional): bool ``[C, th, tw]``; False shows the background.

    Returns:
        tuple: renders ``[C, H, W, D]``, alphas ``[C, H, W, 1]``, normals ``[C, H, W, 3]``
        (weighted sums), distortion ``[C, H, W, 1]`` = sum over pairs of w_i w_j (m_i - m_j)^2 with
        m = f / (f - n) (1 - n / depth), n = 0.2, f = 100 (depths below n count as n), and median
        depth ``[C, H, W, 1]``: hit depth of the last contributor met with transmittance above 0.5.
    """
    rows = tuple(means2d.shape[:-1])
    channels = colors.shape[-1]
    lead = isect_offsets.shape[:-2]
    th, tw = isect_offsets.shape[-2:]
    backend.check_last("means2d", means2d, 2)
    backend.check_shape("ray_transforms", ray_transforms, (*rows, 3, 3))
    backend.check_shape("colors", colors, (*rows, "D"))
    backend.check_shape("opacities", opacities, rows)
    backend.check_shape("normals", normals, (*rows, 3))
    backend.check_float(
        means2d=means2d, ray_transforms=ray_transforms, colors=colors, opacities=opacities,
        normals=normals, backgrounds=backgrounds,
    )  # fmt: skip
    check_tiling(isect_offsets, flatten_ids, width, height, tile_size)
    backend.check_device(
        means2d=means2d, ray_transforms=ray_transforms, colors=colors, opacities=opacities,
        normals=normals, isect_offsets=isect_offsets, flatten_ids=flatten_ids,
        backgrounds=backgrounds, masks=masks,
    )  # fmt: skip
    if backgrounds is not None:
        backend.check_shape("backgrounds", backgrounds, (*lead, channels))
        backgrounds = torch.nn.functional.pad(backgrounds.reshape(-1, channels), (0, 3))
    if masks is not None:
        backend.check_shape("masks", masks, (*lead, th, tw))
        masks = masks.reshape(-1, th, tw)
    features = torch.cat([colors, normals], dim=-1).reshape(-1, channels + 3)
    flat = (means2d.reshape(-1, 2), ray_transforms.reshape(-1, 3, 3), features)
    flat = (*flat, opacities.reshape(-1))
    native = backend.use_native(means2d)
    run = torch.ops.mmcity.surfel_fwd if native else _reference
    renders, alphas, distortion, median, *_ = run(
        *flat, width=width, height=height, tile_size=tile_size, flatten_ids=flatten_ids,
        isect_offsets=isect_offsets.reshape(-1, th, tw).to(torch.int64), backgrounds=backgrounds,
        masks=masks,
    )  # fmt: skip
    if native:
        backend.check_refused(means2d)
    images = [renders[..., :channels], alphas, renders[..., channels:], distortion, median]
    return tuple(image.reshape(*lead, height, width, image.shape[-1]) for image in images)


def rasterization_2dgs(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    sh_degree: int | None = None,
    tile_size: int = 16,
    backgrounds: Tensor | None = None,
    masks: Tensor | None = None,
    render_mode: str = "RGB",
) -> tuple[Tensor, Tensor, dict]:
    """Render 2D Gaussians, flat ellipses that meet a ray in one point.

    Args:
        means, quats, scales, opacities (Tensor): ``[N, 3]``, ``[N, 4]`` wxyz, ``[N, 3]`` (third
            not used), ``[N]``.
        colors (Tensor): ``[N, D]`` or ``[C, N, D]``; coefficients ``[N, K, D]`` with sh_degree.
        viewmats, Ks (Tensor): ``[C, 4, 4]`` world to camera, ``[C, 3, 3]``.
        width, height (int): image size in pixels.
        near_plane, far_plane, radius_clip (float): culling, see :func:`projection_2dgs`.
        sh_degree (int, optional): degree of the harmonics in ``colors``. Defaults to None.
        tile_size (int): tile edge in pixels. Defaults to 16.
        backgrounds (Tensor, optional): ``[C, D]``. Defaults to None (0).
        masks (Tensor, optional): bool ``[C, th, tw]``. Defaults to None.
        render_mode (str): ``RGB | D | ED | RGB+D | RGB+ED``; the depth is that of the mean.

    Returns:
        tuple: renders ``[C, H, W, X]``, alphas ``[C, H, W, 1]``, and a dict with images
        ``normals``, ``distortion``, ``median_depth`` and the projected rows ``radii, means2d,
        depths, ray_transforms`` and lists.

    Raises:
        ValueError: a shape or choice does not fit.
    """
    modes = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
    backend.check_choice("render_mode", render_mode, modes)
    radii, means2d, depths, transforms, normals = projection_2dgs(
        means, quats, scales, viewmats, Ks, width, height, near_plane=near_plane,
        far_plane=far_plane, radius_clip=radius_clip,
    )  # fmt: skip
    n_cameras, n = depths.shape
    backend.check_shape("opacities", opacities, (n,))
    backend.check_device(
        means=means, opacities=opacities, colors=colors, backgrounds=backgrounds, masks=masks
    )
    if sh_degree is not None:
        visible = radii[..., 0] > 0
        colors = spherical_harmonics(sh_degree, means, viewmats, colors, masks=visible)
        colors = torch.clamp(colors + 0.5, min=0.0)
    if colors.dim() == 2:
        colors = colors.expand(n_cameras, *colors.shape)
    backend.check_shape("colors", colors, (n_cameras, n, "D"))
    features = [colors] if "RGB" in render_mode else []
    n_colors = colors.shape[-1] if features else 0
    with_depth = render_mode != "RGB"
    if with_depth:
        features.append(depths[..., None])
    if backgrounds is not None:
        backend.check_shape("backgrounds", backgrounds, (n_cameras, colors.shape[-1]))
        backgrounds = (
            torch.nn.functional.pad(backgrounds, (0, int(with_depth))) if n_colors else None
        )
    tw, th = math.ceil(width / tile_size), math.ceil(height / tile_size)
    lists = tile_lists(
        means2d.detach(), radii, depths.detach(), tile_size, tw, th, n_images=n_cameras, masks=masks
    )
    renders, alphas, normal_image, distortion, median = rasterize_to_pixels_2dgs(
        means2d, transforms, torch.cat(features, -1), opacities.expand(n_cameras, n), normals,
        width=width, height=height, tile_size=tile_size, isect_offsets=lists.isect_offsets,
        flatten_ids=lists.flatten_ids, backgrounds=backgrounds, masks=masks,
    )  # fmt: skip
    if "ED" in render_mode:
        depth = renders[..., n_colors:] / alphas.clamp(min=MIN_ALPHA)
        renders = torch.cat([renders[..., :n_colors], depth], dim=-1)
    meta = {
        "normals": normal_image,
        "distortion": distortion,
        "median_depth": median,
        "radii": radii,
        "means2d": means2d,
        "depths": depths,
        "ray_transforms": transforms,
        "width": width,
        "height": height,
        "n_cameras": n_cameras,
        "tile_size": tile_size,
        "tile_width": tw,
        "tile_height": th,
        "tiles_per_gauss": lists.tiles_per_gauss,
        "isect_ids": lists.isect_ids,
        "flatten_ids": lists.flatten_ids,
        "isect_offsets": lists.isect_offsets,
    }
    return renders, alphas, meta


def _fake(
    means2d, transforms, features, opacities, backgrounds, masks, isect_offsets, flatten_ids,
    width, height, tile_size,
):  # fmt: skip
    pixels = (isect_offsets.shape[0], height, width)
    subs = (-(-tile_size // 16)) ** 2
    one = [means2d.new_empty((*pixels, 1)) for _ in range(4)]
    return (
        features.new_empty((*pixels, features.shape[1])),
        *one,
        means2d.new_empty((*pixels, 2)),
        means2d.new_empty((*pixels, 2), dtype=torch.int32),
        means2d.new_empty((flatten_ids.shape[0] * subs,), dtype=torch.int16),
    )


def _fake_backward(
    v_renders, v_alphas, v_distortion, v_median, means2d, transforms, features, opacities,
    backgrounds, *rest,
):  # fmt: skip
    empty = features.new_empty((0, features.shape[1]))
    return (
        *(torch.empty_like(x) for x in (means2d, transforms, features, opacities)),
        empty if backgrounds is None else torch.empty_like(backgrounds),
    )


def _setup(ctx, inputs, output):
    *tensors, width, height, tile_size = inputs
    ctx.mark_non_differentiable(*output[4:])
    ctx.save_for_backward(*tensors, *output[4:])
    ctx.size = (width, height, tile_size)


def _backward(ctx, v_renders, v_alphas, v_distortion, v_median, *_):
    grads = torch.ops.mmcity.surfel_bwd(
        v_renders, v_alphas, v_distortion, v_median, *ctx.saved_tensors, *ctx.size
    )
    return backend.needed_gradients(ctx, *grads)


backend.register_operator("surfel", _fake, _fake_backward, _setup, _backward)
