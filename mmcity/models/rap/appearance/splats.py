"""Gaussians whose colours a network makes, as trainable parameters."""

import torch
from torch import Tensor, nn

from mmcity.models.layers import SplatTable
from mmcity.structures import SH_C0, Gaussians
from mmcity_ops import knn_mean_dist2

from .features import init_box_coords

_INTRINSIC_ROWS = 16
_MIN_DISTANCE2 = 1e-7


class AppearanceSplats(SplatTable):
    """Gaussians with intrinsic features and coordinates on appearance maps.

    Shapes: ``means`` (N, 3) world units; ``log_scales`` (N, 3); ``quats`` (N, 4) wxyz, not
    normalised; ``opacity_logits`` (N,); ``f_intr`` (N, 16, 3), the first row as a degree-0
    spherical harmonic; ``box_coords`` (N, M, 2). Strategies edit it as any other scene.

    Args:
        num_maps (int): Maps, M. Defaults to 3.
    """

    model_name = "AppearanceGaussians"
    NAMES = ("means", "log_scales", "quats", "opacity_logits", "f_intr", "box_coords")
    resizable = NAMES

    def __init__(self, num_maps: int = 3) -> None:
        super().__init__()
        self.f_intr = nn.Parameter(torch.zeros(0, _INTRINSIC_ROWS, 3))
        self.box_coords = nn.Parameter(torch.zeros(0, num_maps, 2))

    def initialize(
        self,
        points: Tensor,
        colors: Tensor,
        opacity: float = 0.1,
        scale_factor: float = 1.0,
        coord_scale: float = 1.0,
        image_scale: float = 1.0,
        has_projected_map: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        """Round Gaussians at points ``(N, 3)`` of colours ``(N, 3)`` in [0, 1].

        Args:
            points, colors: Of the capture.
            opacity (float): Defaults to 0.1.
            scale_factor (float): Scale over the distance to the next three points.
            coord_scale (float): Of the box coordinates.
            image_scale (float): Down-scale factor of the pictures, for the projected box.
            has_projected_map (bool): The last map is projected, not sampled.
            generator: Source of randomness.
        """
        count, num_maps = len(points), self.box_coords.shape[1]
        points = points.float()
        scales = knn_mean_dist2(points, k=3).clamp_min(_MIN_DISTANCE2).sqrt() * scale_factor
        f_intr = torch.zeros(count, _INTRINSIC_ROWS, 3)
        f_intr[:, 0] = (colors - 0.5) / SH_C0
        has_projected_map = has_projected_map and num_maps > 0
        pairs = num_maps if has_projected_map else num_maps + 1
        coords = init_box_coords(points, pairs, coord_scale, image_scale, generator)
        self.assign(
            means=points,
            log_scales=scales.log()[:, None].expand(count, 3),
            quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
            opacity_logits=torch.full((count,), opacity).logit(),
            f_intr=f_intr,
            box_coords=coords if has_projected_map else coords[:, :-1],
        )

    def to_gaussians(self) -> Gaussians:
        """The scene in its intrinsic base colours, without gradients, on the CPU."""
        values = {name: getattr(self, name).detach().cpu() for name in ("means", "quats")}
        return Gaussians(
            scales=self.scales.detach().cpu(),
            opacities=self.opacities.detach().cpu(),
            sh0=self.f_intr.detach().cpu()[:, :1],
            **values,
        )
