"""``rasterization``: from Gaussians in the world to images, the entry for users."""

import math
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmcity_ops import _backend as backend
from mmcity_ops.functional import inria
from mmcity_ops.functional.intersection import tile_lists
from mmcity_ops.functional.plane import plane_depth, plane_features
from mmcity_ops.functional.projection import (
    CAMERA_MODELS,
    check_cameras,
    check_gaussians,
    fully_fused_projection,
)
from mmcity_ops.functional.rasterize import rasterize_to_pixels
from mmcity_ops.functional.spherical_harmonics import check_coeffs, checked_harmonics
from mmcity_ops.reference.covariance import covariances, raw_rotmats

MIN_ALPHA = 1e-10  # expected depth divides by at least this
HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class RenderMode:
    """Rendered channels, in the order colour, depth, normals, plane depth."""

    color: bool
    depth: bool
    expected: bool
    normals: bool
    plane: bool

    @classmethod
    def parse(cls, text: str) -> "RenderMode":
        """``RGB | D | ED | RGB+D | RGB+ED``, each with ``+N`` and/or ``+P`` behind."""
        parts = text.split("+")
        base = "+".join(part for part in parts if part not in ("N", "P"))
        modes = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
        extras = parts[len(base.split("+")) :]
        if base not in modes or len(set(extras)) != len(extras) or set(extras) - {"N", "P"}:
            raise ValueError(
                f"render_mode: expected one of {', '.join(modes)}, optionally with +N, +P or "
                f"+N+P behind, got {text!r}"
            )
        return cls(
            "RGB" in parts, "D" in parts or "ED" in parts, "ED" in parts, "N" in parts, "P" in parts
        )


@dataclass
class Rows:
    """Projected Gaussians: dense [..., C, N, ...], or packed [nnz, ...] with their ids."""

    radii: Tensor
    means2d: Tensor
    depths: Tensor
    conics: Tensor
    compensations: Tensor | None
    batch_ids: Tensor | None = None
    camera_ids: Tensor | None = None
    gaussian_ids: Tensor | None = None
    image_rows: Tensor | None = None  # [nnz] batch * C + camera
    world_rows: Tensor | None = None  # [nnz] batch * N + Gaussian

    @property
    def packed(self) -> bool:
        """Whether only visible pairs are stored."""
        return self.gaussian_ids is not None


def rasterization(
    means: Tensor,  # [..., N, 3]
    quats: Tensor | None,  # [..., N, 4] wxyz
    scales: Tensor | None,  # [..., N, 3]
    opacities: Tensor,  # [..., N]
    colors: Tensor | tuple[Tensor, Tensor] | None,  # [..., (C,) N, D], or SH [..., N, K, D]
    viewmats: Tensor,  # [..., C, 4, 4]
    Ks: Tensor,  # [..., C, 3, 3]
    width: int,
    height: int,
    *,
    covars: Tensor | None = None,  # [..., N, 3, 3]
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = True,
    tile_size: int = 16,
    backgrounds: Tensor | None = None,  # [..., C, D]
    masks: Tensor | None = None,  # [..., C, tile_h, tile_w]
    render_mode: str = "RGB",
    rasterize_mode: str = "classic",
    camera_model: str = "pinhole",
    absgrad: bool = False,
    sparse_grad: bool = False,
    channel_chunk: int = 32,
    tile_bounds: str = "ellipse",
    semantics: str = "default",
    distributed: Any = None,
    feature_dtype: torch.dtype | None = None,
    stats: bool = False,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Render 3D Gaussians into C cameras, differentiably.

    Args:
        means: Centres [..., N, 3] in the world, metres.
        quats: Rotations [..., N, 4] as wxyz, normalized inside.
        scales: Standard deviations [..., N, 3], positive.
        opacities: Opacities [..., N] in [0, 1].
        colors: Features [..., N, D], or per camera [..., C, N, D], any D; with ``sh_degree``
            coefficients [..., N, K, D], or the pair ([..., N, 1, D], [..., N, K - 1, D]). None
            where the mode renders no colour.
        viewmats: World-to-camera matrices [..., C, 4, 4], OpenCV axes; differentiable.
        Ks: Intrinsics [..., C, 3, 3] in pixels; not differentiable.
        width: Image width in pixels.
        height: Image height in pixels.
        covars: Covariances [..., N, 3, 3] instead of quats and scales. Defaults to None.
        near_plane: Gaussians nearer than this (camera z) are culled. Defaults to 0.01.
        far_plane: Gaussians farther than this are culled. Defaults to 1e10.
        radius_clip: Gaussians with both pixel radii at or below this are culled. Defaults to 0.
        eps2d: Variance in square pixels added to each projection. Defaults to 0.3.
        sh_degree: Degree of the spherical harmonics in use; ``max(SH + 0.5, 0)`` is rendered.
            Defaults to None (``colors`` are features).
        packed: Keep only visible (camera, Gaussian) rows; same images, less memory where few
            Gaussians are visible. Defaults to True.
        tile_size: Tile edge in pixels. Defaults to 16.
        backgrounds: Colours [..., C, D] behind the scene; differentiable. Extra channels
            (depth, normals) have background 0. Defaults to None (0).
        masks: Bool [..., C, tile_h, tile_w]; a False tile shows the background.
        render_mode: ``RGB | D | ED | RGB+D | RGB+ED``, with ``+N`` (normals, 3 channels) and/or
            ``+P`` (plane depth, 1 channel) behind. D is the sum of weights times camera z, ED
            that divided by alpha. Defaults to ``RGB``.
        rasterize_mode: ``classic``, or ``antialiased``: opacities are scaled by what the
            widening by ``eps2d`` added to the footprint. Defaults to ``classic``.
        camera_model: ``pinhole``, ``ortho`` or ``fisheye``. Defaults to ``pinhole``.
        absgrad: The backward also sets ``meta["means2d"].absgrad``. Defaults to False.
        sparse_grad: With ``packed``, sparse COO gradients of means, quats and scales.
        channel_chunk: Accepted for compatibility; any D is composited in one pass.
        tile_bounds: ``ellipse`` lists only tiles that the alpha level set meets, ``aabb`` all
            tiles of the box; images agree to round-off. Defaults to ``ellipse``.
        semantics: ``default``, or ``inria`` for the conventions of the original rasterizer.
        distributed: A tile partition: only its tiles are rendered. Defaults to None.
        feature_dtype: Type in which features are stored (bfloat16 or float16 from D = 16 on);
            everything else stays float32. Defaults to None (as given).
        stats: Add ``n_touched`` and ``max_weight`` of each row to the meta. Defaults to False.
        implementation: ``mmcity`` or ``gsplat`` (needs that package and CUDA). Defaults to
            ``MMCITY_RASTERIZATION``, else ``mmcity``.

    Returns:
        Renders [..., C, H, W, X], alphas [..., C, H, W, 1] and meta: ``radii, means2d, depths,
        conics, opacities`` (dense [..., C, N, ...] or packed [nnz, ...]), ``batch_ids,
        camera_ids, gaussian_ids`` (packed, else None), ``tile_width, tile_height, tile_size,
        tiles_per_gauss, isect_ids, flatten_ids, isect_offsets, width, height, n_cameras``, and
        where rendered ``normals, plane_depth, plane_distance, plane_valid``.
        ``meta["means2d"].retain_grad()`` gives screen-space gradients.

    Raises:
        ValueError: If a shape, a choice or a combination of arguments does not fit.
        TypeError: If a dtype is not float32 or float64, or they differ.
        RuntimeError: If the tensors are on different devices, or a backend is missing.
    """
    mode = RenderMode.parse(render_mode)
    chosen = implementation or os.environ.get("MMCITY_RASTERIZATION") or "mmcity"
    backend.check_choice("implementation", chosen, ("mmcity", "gsplat"))
    backend.check_choice("rasterize_mode", rasterize_mode, ("classic", "antialiased"))
    backend.check_choice("tile_bounds", tile_bounds, ("aabb", "ellipse"))
    _check(
        means, quats, scales, opacities, colors, viewmats, Ks, width=width, height=height,
        covars=covars, sh_degree=sh_degree, packed=packed, tile_size=tile_size,
        backgrounds=backgrounds, masks=masks, mode=mode, camera_model=camera_model,
        sparse_grad=sparse_grad, semantics=semantics,
    )  # fmt: skip
    if chosen == "gsplat":
        from mmcity_ops.functional.gsplat_adapter import rasterization_gsplat

        return rasterization_gsplat(
            means, quats, scales, opacities, colors, viewmats, Ks, width=width, height=height,
            covars=covars, near_plane=near_plane, far_plane=far_plane, radius_clip=radius_clip,
            eps2d=eps2d, sh_degree=sh_degree, packed=packed, tile_size=tile_size,
            backgrounds=backgrounds, masks=masks, render_mode=render_mode, absgrad=absgrad,
            rasterize_mode=rasterize_mode, camera_model=camera_model, sparse_grad=sparse_grad,
            channel_chunk=channel_chunk, semantics=semantics, distributed=distributed,
        )  # fmt: skip
    antialiased = rasterize_mode == "antialiased"
    axes = (quats, scales)
    if semantics == "inria":
        Ks = inria.centered_intrinsics(Ks, width, height)
        near_plane = inria.near_plane(near_plane)
        if covars is None:
            # The caller has normalized the quaternions.
            covars, quats, scales = covariances(raw_rotmats(quats), scales), None, None
        tile_bounds = "aabb"

    outputs = fully_fused_projection(
        means, covars, quats, scales, viewmats, Ks, width=width, height=height,
        opacities=None if semantics == "inria" else opacities, eps2d=eps2d,
        near_plane=near_plane, far_plane=far_plane, radius_clip=radius_clip, packed=packed,
        sparse_grad=sparse_grad, calc_compensations=antialiased, camera_model=camera_model,
    )  # fmt: skip
    rows = _rows(outputs, packed, means, viewmats)
    if semantics == "inria":
        rows.radii = inria.square_radii(rows.conics, rows.radii)
    effective = _effective_opacities(rows, opacities)
    features, n_colors = _features(rows, mode, means, colors, viewmats, sh_degree, feature_dtype)
    if mode.normals or mode.plane:
        features.append(_plane_rows(rows, means, *axes, viewmats))
    channels = features[0] if len(features) == 1 else torch.cat(features, -1)

    tile_width, tile_height = math.ceil(width / tile_size), math.ceil(height / tile_size)
    tile_mask = _tile_mask(masks, distributed, viewmats, tile_width, tile_height)
    use_ellipse = tile_bounds == "ellipse"
    lists = tile_lists(
        rows.means2d.detach(), rows.radii, rows.depths.detach(), tile_size, tile_width,
        tile_height, conics=rows.conics.detach() if use_ellipse else None,
        opacities=effective.detach() if use_ellipse else None, image_ids=rows.image_rows,
        n_images=viewmats.shape[:-2].numel(), masks=tile_mask,
    )  # fmt: skip
    lead = tuple(viewmats.shape[:-2])
    offsets = lists.isect_offsets.reshape(*lead, tile_height, tile_width)
    collected: dict[str, Tensor] | None = {} if stats else None
    pixel_means, shown_means = rows.means2d, rows.means2d
    if semantics == "inria":
        shown_means, pixel_means = inria.screen_means(rows.means2d, width, height)
    renders, alphas = rasterize_to_pixels(
        pixel_means, rows.conics, channels, effective, width=width, height=height,
        tile_size=tile_size, isect_offsets=offsets, flatten_ids=lists.flatten_ids,
        backgrounds=_pad_backgrounds(backgrounds, n_colors, channels.shape[-1]),
        masks=tile_mask, packed=rows.packed, absgrad=absgrad, stats=collected,
        semantics=semantics,
    )  # fmt: skip
    if absgrad and pixel_means is not shown_means:
        inria.share_absgrad(pixel_means, shown_means, width, height)

    meta = {
        "batch_ids": rows.batch_ids,
        "camera_ids": rows.camera_ids,
        "gaussian_ids": rows.gaussian_ids,
        "radii": rows.radii,
        "means2d": shown_means,
        "depths": rows.depths,
        "conics": rows.conics,
        "opacities": effective,
        "tile_width": tile_width,
        "tile_height": tile_height,
        "tile_size": tile_size,
        "tiles_per_gauss": lists.tiles_per_gauss,
        "isect_ids": lists.isect_ids,
        "flatten_ids": lists.flatten_ids,
        "isect_offsets": offsets,
        "width": width,
        "height": height,
        "n_cameras": viewmats.shape[-3],
        "n_gaussians": means.shape[-2],
    }
    if collected is not None:
        meta.update(n_touched=collected["n_touched"], max_weight=collected["max_weight"])
    if mode.depth or mode.normals or mode.plane:
        renders = _finish(renders, alphas, mode, n_colors, Ks, meta)
    if distributed is not None:
        renders, alphas = _blank_other_tiles(renders, alphas, tile_mask, tile_size, meta)
    return renders, alphas, meta


def _check(
    means, quats, scales, opacities, colors, viewmats, Ks, *, width, height, covars, sh_degree,
    packed, tile_size, backgrounds, masks, mode, camera_model, sparse_grad, semantics,
) -> None:  # fmt: skip
    """Everything that can be wrong, before any work."""
    if covars is not None and (mode.normals or mode.plane):
        raise ValueError("render_mode: expected quats and scales for +N and +P, got covars")
    check_gaussians(means, covars, quats, scales, opacities)
    batch = tuple(means.shape[:-2])
    check_cameras(batch, viewmats, Ks)
    if width <= 0 or height <= 0 or tile_size <= 0:
        raise ValueError(
            f"width, height, tile_size: expected positive, got {width}, {height}, {tile_size}"
        )
    backend.check_choice("camera_model", camera_model, CAMERA_MODELS)
    backend.check_choice("semantics", semantics, ("default", "inria"))
    if semantics == "inria" and camera_model != "pinhole":
        raise ValueError(f"camera_model: expected pinhole for 'inria', got {camera_model!r}")
    if sparse_grad and not packed:
        raise ValueError("packed: expected True for sparse_grad=True, got False")
    if mode.color and colors is None:
        raise ValueError("colors: expected a tensor for a render_mode with RGB, got None")
    n_gaussians, n_cameras = means.shape[-2], viewmats.shape[-3]
    pair = colors if isinstance(colors, tuple | list) else (colors,)
    if colors is not None:
        if sh_degree is not None:
            check_coeffs(sh_degree, (*batch, n_gaussians), colors)
        elif len(pair) != 1:
            raise ValueError("colors: expected a pair only with sh_degree, got one without")
        elif colors.dim() == means.dim():
            backend.check_shape("colors", colors, (*batch, n_gaussians, "D"))
        else:
            backend.check_shape("colors", colors, (*batch, n_cameras, n_gaussians, "D"))
        if backgrounds is not None and mode.color:
            wanted = (*batch, n_cameras, pair[0].shape[-1])
            backend.check_shape("backgrounds", backgrounds, wanted)
    if masks is not None:
        tiles = (math.ceil(height / tile_size), math.ceil(width / tile_size))
        backend.check_shape("masks", masks, (*batch, n_cameras, *tiles))
        backend.check_dtype("masks", masks, torch.bool)
    geometry = dict(means=means, quats=quats, scales=scales, covars=covars, opacities=opacities)
    geometry.update(viewmats=viewmats, Ks=Ks, backgrounds=backgrounds)
    named_colors = {f"colors[{i}]": part for i, part in enumerate(pair)}
    backend.check_device(**geometry, **named_colors, masks=masks)
    if not torch.is_autocast_enabled(means.device.type):
        full = {key: c for key, c in named_colors.items() if c is not None and c.dtype not in HALF}
        backend.check_float(**geometry, **full)
    backend.check_finite(**geometry, **named_colors)


def _rows(outputs: tuple, packed: bool, means: Tensor, viewmats: Tensor) -> Rows:
    if not packed:
        return Rows(*outputs)
    batch_ids, camera_ids, gaussian_ids, _, *values = outputs
    rows = Rows(*values, batch_ids, camera_ids, gaussian_ids)
    rows.image_rows, rows.world_rows = camera_ids, gaussian_ids
    if means.dim() > 2:
        rows.image_rows = batch_ids * viewmats.shape[-3] + camera_ids
        rows.world_rows = batch_ids * means.shape[-2] + gaussian_ids
    return rows


def _effective_opacities(rows: Rows, opacities: Tensor) -> Tensor:
    """Opacity of each row, times the compensation when antialiased."""
    if rows.packed:
        values = opacities.reshape(-1).index_select(0, rows.world_rows)
    else:
        values = opacities[..., None, :].expand_as(rows.depths)
    return values if rows.compensations is None else values * rows.compensations


def _features(
    rows: Rows, mode: RenderMode, means, colors, viewmats, sh_degree, feature_dtype
) -> tuple[list[Tensor], int]:
    """Colour and depth channels of each row, and the number of colour channels."""
    features, n_colors = [], 0
    if mode.color:
        values = _color_rows(rows, means, colors, viewmats, sh_degree)
        if feature_dtype is not None:
            values = values.to(feature_dtype)
        features.append(values.to(rows.depths.dtype))
        n_colors = values.shape[-1]
    if mode.depth:
        features.append(rows.depths[..., None])
    return features, n_colors


def _color_rows(rows: Rows, means, colors, viewmats, sh_degree) -> Tensor:
    if sh_degree is not None:
        visible = None if rows.packed else rows.radii[..., 0] > 0
        if rows.packed and means.dim() > 2:
            means, viewmats = means.reshape(-1, 3), viewmats.reshape(-1, 4, 4)
            colors = (
                colors.reshape(-1, *colors.shape[-2:])
                if isinstance(colors, Tensor)
                else tuple(part.reshape(-1, *part.shape[-2:]) for part in colors)
            )
        return checked_harmonics(
            sh_degree, means, viewmats, colors, shift=True, masks=visible,
            camera_ids=rows.image_rows, gaussian_ids=rows.world_rows,
        )  # fmt: skip
    per_camera = colors.dim() == means.dim() + 1
    if rows.packed:
        flat = colors.reshape(-1, colors.shape[-1])
        index = rows.world_rows
        if per_camera:
            index = rows.image_rows * means.shape[-2] + rows.gaussian_ids
        return flat.index_select(0, index)
    if per_camera:
        return colors
    return colors[..., None, :, :].expand(*rows.depths.shape, colors.shape[-1])


def _plane_rows(rows: Rows, means, quats, scales, viewmats) -> Tensor:
    if not rows.packed:
        return plane_features(means, quats, scales, viewmats)
    return plane_features(
        means.reshape(-1, 3), quats.reshape(-1, 4), scales.reshape(-1, 3),
        viewmats.reshape(-1, 4, 4), rows.image_rows, rows.world_rows,
    )  # fmt: skip


def _pad_backgrounds(backgrounds: Tensor | None, n_colors: int, n_channels: int) -> Tensor | None:
    """Background 0 for the channels behind the colours."""
    if backgrounds is None or n_colors == 0:
        return None
    if n_channels == n_colors:
        return backgrounds
    return torch.nn.functional.pad(backgrounds, (0, n_channels - n_colors))


def _finish(renders, alphas, mode: RenderMode, n_colors: int, Ks, meta: dict) -> Tensor:
    """Expected depth, normals and plane depth from the composited channels."""
    parts = [renders[..., :n_colors]] if mode.color else []
    position = n_colors
    if mode.depth:
        depth = renders[..., position : position + 1]
        parts.append(depth / alphas.clamp_min(MIN_ALPHA) if mode.expected else depth)
        position += 1
    if mode.normals or mode.plane:
        normals, distance = renders[..., position : position + 3], renders[..., position + 3 :]
        meta.update(normals=normals, plane_distance=distance)
        if mode.normals:
            parts.append(normals)
        if mode.plane:
            depth, valid = plane_depth(normals, distance, alphas, Ks)
            meta.update(plane_depth=depth, plane_valid=valid)
            parts.append(depth)
    if len(parts) == 1:
        return parts[0]
    if mode.depth and not mode.expected and not (mode.normals or mode.plane):
        return renders
    return torch.cat(parts, -1)


def _tile_mask(masks, distributed, viewmats, tile_width: int, tile_height: int) -> Tensor | None:
    if distributed is None:
        return masks
    own = distributed.mask.to(viewmats.device)
    backend.check_last("distributed.mask", own, tile_height, tile_width)
    own = own.expand(*viewmats.shape[:-2], tile_height, tile_width)
    return own if masks is None else own & masks


def _blank_other_tiles(renders, alphas, tile_mask, tile_size: int, meta: dict):
    """Tiles of other ranks are 0 (not background); the pixel mask goes to the meta."""
    height, width = renders.shape[-3:-1]
    pixels = tile_mask.repeat_interleave(tile_size, -2).repeat_interleave(tile_size, -1)
    pixels = pixels[..., :height, :width, None]
    meta["pixel_mask"] = pixels
    return torch.where(pixels, renders, 0.0), torch.where(pixels, alphas, 0.0)
