"""Paths of the camera during an exposure, as motions of the scene.

A blurred photograph is the mean of renders along the path. The scene moves instead of the
camera: means are carried by the motion, covariances are not turned.
"""

import torch
from torch import Tensor, nn

from mmcity.models.layers import ResizableModule
from mmcity.registry import MODELS
from mmcity.structures.geometry import (
    axis_angle_to_rotmat,
    rotmat_to_axis_angle,
    se3_exp,
    transform_points,
)
from mmcity.utils.checks import check_choice

_EDGE = 1e-6


def _ends(twists: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations and translations of twists ``(..., n, 6)``: rotation part, then translation."""
    motions = se3_exp(torch.cat([twists[..., 3:], twists[..., :3]], -1))
    return motions[..., :3, :3], motions[..., :3, 3]


def _partial(first: Tensor, second: Tensor, share: Tensor | float) -> Tensor:
    """Part of the rotation from one matrix to another."""
    return axis_angle_to_rotmat(share * rotmat_to_axis_angle(first.transpose(-1, -2) @ second))


def linear_motion(twists: Tensor, alpha: float) -> Tensor:
    """Motion ``(3, 4)`` between two twists ``(2, 6)`` (rotation, translation)."""
    alpha = min(max(float(alpha), _EDGE), 1 - _EDGE)
    rotations, shifts = _ends(twists)
    rotation = rotations[0] @ _partial(rotations[0], rotations[1], alpha)
    shift = (1 - alpha) * shifts[0] + alpha * shifts[1]
    return torch.cat([rotation, shift[:, None]], -1)


def spline_motion(twists: Tensor, alpha: float) -> Tensor:
    """Motion ``(3, 4)`` on a uniform cubic B-spline with four twists ``(4, 6)``.

    Translations are blended, rotations follow the cumulative form (Lovegrove et al., 2013).
    """
    a = float(alpha)
    blend = (
        (1 - a) ** 3 / 6,
        (3 * a**3 - 6 * a**2 + 4) / 6,
        (-3 * a**3 + 3 * a**2 + 3 * a + 1) / 6,
        a**3 / 6,
    )
    cumulative = (
        (5 + 3 * a - 3 * a**2 + a**3) / 6,
        (1 + 3 * a + 3 * a**2 - 2 * a**3) / 6,
        blend[3],
    )
    rotations, shifts = _ends(twists)
    rotation = rotations[0]
    for i, share in enumerate(cumulative):
        rotation = rotation @ _partial(rotations[i], rotations[i + 1], share)
    shift = sum(b * t for b, t in zip(blend, shifts))
    return torch.cat([rotation, shift[:, None]], -1)


def bezier_motion(twists: Tensor, alpha: float) -> Tensor:
    """Motion ``(3, 4)`` on a Bezier curve with twists ``(n, 6)`` (translation, rotation).

    The product of the exponentials of all twists times their Bernstein weights; the first
    one acts first.
    """
    degree = len(twists) - 1
    counts = torch.arange(degree + 1, dtype=torch.float64)
    total = torch.tensor(degree + 1.0, dtype=torch.float64)
    binomial = (total.lgamma() - (counts + 1).lgamma() - (degree - counts + 1).lgamma()).exp()
    weights = binomial * float(alpha) ** counts * (1 - float(alpha)) ** (degree - counts)
    out = torch.eye(4, dtype=twists.dtype, device=twists.device)
    for motion in se3_exp(weights.to(twists)[:, None] * twists):
        out = motion @ out
    return out[:3]


_MODES = {"linear": (2, linear_motion), "spline": (4, spline_motion), "bezier": (7, bezier_motion)}


@MODELS.register_module()
class ExposureMotion(ResizableModule):
    """Learnable path of each training photograph.

    Args:
        num_images (int): Photographs. A scene that knows it later calls :meth:`initialize`.
        mode (str): ``linear``, ``spline`` or ``bezier``. Defaults to ``linear``.
        num_samples (int): Renders that are averaged. Defaults to 2.
        bezier_order (int): Twists of a Bezier path. Defaults to 7.
        non_uniform (bool): Learn a weight for each sample of each photograph. Defaults to
            False.
    """

    def __init__(
        self,
        num_images: int,
        mode: str = "linear",
        num_samples: int = 2,
        bezier_order: int = 7,
        non_uniform: bool = False,
    ) -> None:
        super().__init__()
        self.resizable = ("twists", "weights") if non_uniform else ("twists",)
        check_choice("mode", mode, _MODES)
        if num_samples < 2:
            raise ValueError(f"num_samples: expected at least 2, got {num_samples}")
        self.mode, self.num_samples = mode, num_samples
        controls = bezier_order if mode == "bezier" else _MODES[mode][0]
        self.twists = nn.Parameter(torch.zeros(num_images, controls, 6))
        self.weights = nn.Parameter(torch.ones(num_images, num_samples)) if non_uniform else None

    def initialize(self, num_images: int) -> None:
        """Start with photographs that are not blurred."""
        self.twists.data = self.twists.data.new_zeros(num_images, *self.twists.shape[1:])
        if self.weights is not None:
            self.weights.data = self.weights.data.new_ones(num_images, self.num_samples)

    def motion(self, image: int, alpha: float) -> Tensor:
        """Motion ``(3, 4)`` of the scene at a share of the exposure."""
        return _MODES[self.mode][1](self.twists[image], alpha)

    def moved_means(self, means: Tensor, image: int) -> list[Tensor]:
        """Means ``(N, 3)`` for each render of a photograph."""
        alphas = torch.linspace(0, 1, self.num_samples).tolist()
        return [transform_points(self.motion(image, alpha), means) for alpha in alphas]

    def blend(self, renders: Tensor, image: int) -> Tensor:
        """Blurred picture of renders ``(num_samples, ...)``."""
        if self.weights is None:
            return renders.mean(0)
        weights = self.weights[image] / self.weights[image].sum()
        return torch.tensordot(weights, renders, dims=1)
