"""Conventions of the original 3D Gaussian rasterizer (``semantics="inria"``)."""

import torch
from torch import Tensor

DEFAULT_NEAR = 0.01
INRIA_NEAR = 0.2
RADIUS_SIGMAS = 3.0
MIN_DISCRIMINANT = 0.1
FLOAT32_STEP = 2.0**-23  # one unit in the last place above a value, relative
FLOAT32_TINY = 2.0**-126


def centered_intrinsics(Ks: Tensor, width: int, height: int) -> Tensor:
    """The principal point moves to the image centre; the Jacobian clip becomes symmetric."""
    centered = Ks.clone()
    centered[..., 0, 2] = width / 2
    centered[..., 1, 2] = height / 2
    return centered


def near_plane(requested: float) -> float:
    """0.2 unless another plane is asked for; a Gaussian exactly on the plane is culled."""
    near = INRIA_NEAR if requested == DEFAULT_NEAR else requested
    return near + max(abs(near) * FLOAT32_STEP, FLOAT32_TINY)


def square_radii(conics: Tensor, radii: Tensor) -> Tensor:
    """ceil(3 sqrt(larger eigenvalue)) on both axes, for rows that are visible."""
    with torch.no_grad():
        a, b, c = conics.unbind(-1)
        visible = radii[..., 0] > 0
        det_conic = torch.where(visible, a * c - b * b, 1.0)
        mean, det = 0.5 * (a + c) / det_conic, 1 / det_conic
        root = (mean * mean - det).clamp_min(MIN_DISCRIMINANT).sqrt()
        radius = (RADIUS_SIGMAS * (mean + root).clamp_min(0).sqrt()).ceil()
        radius = torch.where(visible, radius, 0.0).to(torch.int32)
        return torch.stack((radius, radius), -1)


class _GradientUnit(torch.autograd.Function):
    """Adds an offset; multiplies the gradient."""

    @staticmethod
    def forward(ctx, values: Tensor, offset: float, factor_x: float, factor_y: float) -> Tensor:
        ctx.factors = (factor_x, factor_y)
        return values + offset

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad * grad.new_tensor(ctx.factors), None, None, None


def screen_means(means2d: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Means as users see them, and as they are composited.

    The shown ones count pixel centres as integers (0.5 less than ours), and their gradient is
    per unit of normalized device coordinates: pixels times (W / 2, H / 2).
    """
    half_w, half_h = width / 2, height / 2
    shown = _GradientUnit.apply(means2d, -0.5, 1 / half_w, 1 / half_h)
    return shown, _GradientUnit.apply(shown, 0.5, half_w, half_h)


def share_absgrad(pixel_means: Tensor, shown: Tensor, width: int, height: int) -> None:
    """Pass ``absgrad`` of the composited means on to the shown ones, in their unit."""
    if not pixel_means.requires_grad:
        return
    unit = shown.new_tensor((width / 2, height / 2))

    def copy(_: Tensor) -> None:
        absgrad = getattr(pixel_means, "absgrad", None)
        if absgrad is not None:
            shown.absgrad = absgrad * unit

    shown.register_hook(copy)
