"""First guess of a scene."""

import torch
from torch import Tensor

from mmcity.structures import SH_C0
from mmcity_ops import knn_mean_dist2

MIN_DISTANCE2 = 1e-7


def random_points(
    count: int, centre: Tensor, extent: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Uniform points in a cube, with random colours.

    Args:
        count: Number of points.
        centre: (3,) centre of the cube, world units.
        extent: Half the edge of the cube, world units.
        generator: Source of randomness. Defaults to torch's global one.

    Returns:
        ``points`` (count, 3) and ``colors`` (count, 3) in [0, 1].
    """
    points, colors = torch.rand(2, count, 3, generator=generator).to(centre.device)
    return centre + extent * (2 * points - 1), colors


def splats_from_points(
    points: Tensor,
    colors: Tensor,
    *,
    sh_degree: int = 3,
    opacity: float = 0.1,
    scale_factor: float = 1.0,
    max_scale: float | None = None,
) -> dict[str, Tensor]:
    """Round Gaussians at the points, as large as the distance to the next three points.

    Args:
        points: (N, 3) world units, N >= 1.
        colors: (N, 3) in [0, 1].
        sh_degree: Degree of the spherical harmonics. Defaults to 3.
        opacity: Opacity of each Gaussian. Defaults to 0.1.
        scale_factor: Scale over root mean square distance to the three nearest points.
            Defaults to 1.0.
        max_scale: Bound on the scales in world units, against lone points. Defaults to none.

    Returns:
        Values for :meth:`SplatParameters.assign`, float32.

    Raises:
        ValueError: On zero points, non-finite points or shapes that do not match.
    """
    if points.ndim != 2 or points.shape[1] != 3 or colors.shape != points.shape:
        raise ValueError(
            f"points, colors: expected (N, 3) both, got {tuple(points.shape)} and "
            f"{tuple(colors.shape)}"
        )
    if points.shape[0] == 0:
        raise ValueError("points: expected some, got none: give points or init='random'")
    if not bool(torch.isfinite(points).all()):
        raise ValueError("points: expected finite coordinates, got NaN or infinite ones")
    points = points.float()
    count = points.shape[0]
    scales = knn_mean_dist2(points, k=3).clamp_min(MIN_DISTANCE2).sqrt() * scale_factor
    if max_scale is not None:
        scales = scales.clamp_max(max_scale)
    quats = torch.zeros(count, 4)
    quats[:, 0] = 1.0
    return dict(
        means=points,
        log_scales=scales.log()[:, None].repeat(1, 3),
        quats=quats,
        opacity_logits=torch.full((count,), opacity).logit(),
        sh0=((colors.float() - 0.5) / SH_C0)[:, None, :],
        shN=torch.zeros(count, (sh_degree + 1) ** 2 - 1, 3),
    )
