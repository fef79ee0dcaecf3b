"""2D Gaussians (surfels, Huang et al. 2024) in plain torch: projection and compositing."""

import torch
from torch import Tensor

from mmcity_ops.reference.rasterize import blend_weights, tile_pixels, tile_ranges, untile

EXTENT = 3.33
NEAR, FAR = 0.2, 100.0  # of the depth in the distortion loss


def quat_to_rotmat(quats: Tensor) -> Tensor:
    """Rotation matrices ``[..., 3, 3]`` of unnormalized wxyz quaternions; zero is identity."""
    norm = quats.norm(dim=-1, keepdim=True)
    identity = torch.zeros_like(quats)
    identity[..., 0] = 1.0
    w, x, y, z = torch.where(norm > 0, quats / norm.clamp(min=1e-30), identity).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(*quats.shape[:-1], 3, 3)


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    radius_clip: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Screen boxes, ray transforms and normals of ``[N]`` surfels in ``[C]`` cameras.

    Returns:
        tuple: radii int32 ``[C, N, 2]``, means2d ``[C, N, 2]``, depths ``[C, N]``, ray
        transforms ``[C, N, 3, 3]``, unit normals ``[C, N, 3]`` facing the camera.
    """
    rotation, translation = viewmats[:, :3, :3], viewmats[:, :3, 3]  # [C, 3, 3], [C, 3]
    centre = torch.einsum("cij,nj->cni", rotation, means) + translation[:, None]
    axes = torch.einsum("cij,njk->cnik", rotation, quat_to_rotmat(quats))  # [C, N, 3, 3]
    tangents = axes[..., :2] * scales[None, :, None, :2]
    frame = torch.cat([tangents, centre[..., None]], dim=-1)  # columns t_u, t_v, mu
    transforms = torch.einsum("cij,cnjk->cnik", Ks, frame)
    normals = axes[..., 2]
    facing = -(normals * centre).sum(-1, keepdim=True)
    normals = torch.where(facing > 0, normals, -normals)

    m1, m2, m3 = transforms.unbind(dim=-2)
    sign = torch.tensor([1.0, 1.0, -1.0], dtype=means.dtype, device=means.device)
    d = (sign * m3 * m3).sum(-1, keepdim=True)
    ok = d != 0
    f = sign / torch.where(ok, d, torch.ones_like(d))
    means2d = torch.stack([(f * m1 * m3).sum(-1), (f * m2 * m3).sum(-1)], dim=-1)
    square = torch.stack([(f * m1 * m1).sum(-1), (f * m2 * m2).sum(-1)], dim=-1)
    with torch.no_grad():
        extent = torch.sqrt((means2d**2 - square).clamp(min=1e-4))
        radii = torch.ceil(EXTENT * extent).clamp(max=2**30)
        depth = centre[..., 2]
        size = torch.tensor([width, height], dtype=means.dtype, device=means.device)
        seen = ok[..., 0] & (depth > near_plane) & (depth < far_plane)
        seen &= (means2d + radii > 0).all(-1) & (means2d - radii < size).all(-1)
        seen &= (radii > radius_clip).any(-1)
        radii = torch.where(seen[..., None], radii, 0.0).nan_to_num(0.0).to(torch.int32)
    shown = seen[..., None]
    zero = torch.zeros((), dtype=means.dtype, device=means.device)
    return (
        radii,
        torch.where(shown, means2d, zero),
        torch.where(seen, centre[..., 2], zero),
        torch.where(shown[..., None], transforms, zero),
        torch.where(shown, normals, zero),
    )


def evaluate(means2d: Tensor, transforms: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Exponents sigma ``[P, G]`` (-1 for a ray in the plane) and hit depths ``[P, G]``."""
    m1, m2, m3 = transforms.unbind(dim=-2)  # [G, 3]
    u, v = pixels[:, None, :1], pixels[:, None, 1:]  # [P, 1, 1]
    zeta = torch.linalg.cross(u * m3 - m1, v * m3 - m2)  # [P, G, 3]
    edge_on = zeta[..., 2] ** 2 < 1e-37
    third = torch.where(edge_on, torch.ones_like(zeta[..., 2]), zeta[..., 2])
    s, t = zeta[..., 0] / third, zeta[..., 1] / third
    delta = means2d - pixels[:, None]
    low_pass = 2.0 * (delta * delta).sum(-1)
    sigma = 0.5 * torch.minimum(s * s + t * t, low_pass)
    depth = m3[:, 0] * s + m3[:, 1] * t + m3[:, 2]
    return torch.where(edge_on, -torch.ones_like(sigma), sigma), depth


def rasterize(
    means2d: Tensor,
    transforms: Tensor,
    features: Tensor,
    opacities: Tensor,
    width: int,
    height: int,
    tile_size: int,
    isect_offsets: Tensor,
    flatten_ids: Tensor,
    backgrounds: Tensor | None,
    masks: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Composite flat rows ``[R, ...]``.

    Returns:
        tuple: renders ``[I, H, W, D]``, alphas, distortion and median depth ``[I, H, W, 1]``.
    """
    n_images, th, tw = isect_offsets.shape
    ts, channels = tile_size, features.shape[-1]
    blocks: list[Tensor] = []
    tie = sum(x.flatten()[:0].sum() for x in (means2d, transforms, features, opacities))
    n_isects = int((flatten_ids >= 0).sum())
    for _, ty, tx, begin, end in tile_ranges(isect_offsets, n_isects, masks):
        if end <= begin:
            empty = features.new_zeros(ts * ts, channels + 3)
            empty[:, channels] = 1.0
            blocks.append(empty + tie)
            continue
        ids = flatten_ids[begin:end].to(torch.int64)
        pixels = tile_pixels(tx, ty, ts, means2d)
        sigma, depth = evaluate(means2d[ids], transforms[ids], pixels)
        weights, before, final = blend_weights(sigma, opacities[ids])
        blended = weights > 0
        m = FAR / (FAR - NEAR) * (1.0 - NEAR / depth.clamp(min=NEAR))
        m = torch.where(blended, m, torch.zeros_like(m))
        first, second = weights * m, weights * m * m
        m1 = first.cumsum(-1) - first
        m2 = second.cumsum(-1) - second
        spread = weights * (m * m * (1.0 - before) + m2 - 2.0 * m * m1)
        index = torch.arange(len(ids), device=ids.device)
        at = torch.where(blended & (before > 0.5), index, -1).amax(-1, keepdim=True)
        median = torch.where(
            at >= 0, depth.gather(1, at.clamp(min=0)), torch.zeros_like(sigma[:, :1])
        )
        blocks.append(
            torch.cat(
                [weights @ features[ids], final[:, None], spread.sum(-1, keepdim=True), median], -1
            )
        )
    canvas = torch.stack(blocks).reshape(-1, ts, ts, channels + 3)
    images = untile(canvas, n_images, th, tw, width, height)
    renders, final, distortion, median = images.split([channels, 1, 1, 1], dim=-1)
    if backgrounds is not None:
        renders = renders + final * backgrounds[:, None, None]
    return renders, 1.0 - final, distortion, median
