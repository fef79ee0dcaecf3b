"""Appearance of a Gaussian scene as a reference photograph shows it."""

import torch
from torch import Tensor, nn

from mmcity.registry import MODELS

from .features import box_coordinate_loss, project_features, sample_features

#: Added to the distance when view directions are normalised.
_DISTANCE_EPS = 1e-5


@MODELS.register_module()
class AppearanceModel(nn.Module):
    """Map generator and colour network on top of a set of Gaussians (Zhang et al., 2024).

    Args:
        map_generator (dict, optional): Defaults to ``AppearanceMapGenerator``.
        color_net (dict, optional): Defaults to ``AppearanceColorNet``.
        coord_scale (float): Scale of box coordinates. Defaults to 1.
        box_loss_weight (float): Defaults to 0.001.
        use_projection (bool): Look up the last map where Gaussians project; False samples it
            as the others. Defaults to True.
    """

    def __init__(
        self,
        map_generator: dict | None = None,
        color_net: dict | None = None,
        coord_scale: float = 1.0,
        box_loss_weight: float = 0.001,
        use_projection: bool = True,
    ) -> None:
        super().__init__()
        self.map_generator = MODELS.build(map_generator or dict(type="AppearanceMapGenerator"))
        self.color_net = MODELS.build(color_net or dict(type="AppearanceColorNet"))
        self.coord_scale, self.box_loss_weight = coord_scale, box_loss_weight
        self.use_projection = use_projection

    def appearance(
        self, image: Tensor, means: Tensor, box_coords: Tensor, K: Tensor, viewmat: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Appearance of each Gaussian in a photograph.

        Args:
            image (Tensor): ``(3, H, W)`` in [0, 1].
            means (Tensor): ``(N, 3)``.
            box_coords (Tensor): ``(N, M, 2)``.
            K (Tensor): ``(3, 3)`` of the photograph.
            viewmat (Tensor): ``(4, 4)`` of the photograph, world to camera.

        Returns:
            tuple[Tensor, Tensor]: ``(N, 16 M)`` and ``(N,)`` bool: seen by the photograph.
        """
        return self.gather(self.map_generator(image), means, box_coords, K, viewmat)

    def gather(
        self, maps: Tensor, means: Tensor, box_coords: Tensor, K: Tensor, viewmat: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`appearance`, from the maps ``(M, C, h, w)`` of the photograph."""
        if not self.use_projection:
            vector = sample_features(maps, box_coords, self.coord_scale)
            return vector, torch.ones(len(means), dtype=torch.bool, device=means.device)
        sampled = sample_features(maps[:-1], box_coords[:, :-1], self.coord_scale)
        projected, valid = project_features(maps[-1], box_coords[:, -1], means, K, viewmat)
        return torch.cat([sampled, projected], -1), valid

    def colors(self, codes: Tensor, means: Tensor, camera_center: Tensor) -> Tensor:
        """Colours ``(N, 3)``, not clamped, of codes seen from a point ``(3,)``."""
        offset = means - camera_center
        directions = offset / (offset.norm(dim=-1, keepdim=True) + _DISTANCE_EPS)
        return self.color_net.decode(codes, directions)

    def box_loss(self, box_coords: Tensor) -> Tensor:
        """Weighted :func:`box_coordinate_loss`."""
        if not self.use_projection:  # all pairs are sampled ones
            box_coords = torch.cat([box_coords, box_coords[:, :1]], 1)
        return self.box_loss_weight * box_coordinate_loss(box_coords, self.coord_scale)
