"""Backgrounds behind the Gaussians: a colour, or a sky."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcity.registry import MODELS
from mmcity.structures import Cameras
from mmcity_ops.reference.spherical_harmonics import sh_bases


@MODELS.register_module()
class ConstantBackground(nn.Module):
    """One fixed colour.

    Args:
        color: RGB in [0, 1]. Defaults to black.
        random_in_training: Draw another colour at each training step, which keeps
            Gaussians from leaving holes of the background's colour. Defaults to False.
    """

    def __init__(
        self, color: tuple[float, float, float] = (0.0, 0.0, 0.0), random_in_training: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("color", torch.tensor(color, dtype=torch.float32), persistent=False)
        self.random_in_training = random_in_training

    def forward(self, cameras: Cameras) -> Tensor:
        """Colours (C, 1, 1, 3), to be broadcast over the pictures."""
        if self.training and self.random_in_training:
            return torch.rand_like(self.color).expand(len(cameras), 1, 1, 3)
        return self.color.expand(len(cameras), 1, 1, 3)


@MODELS.register_module()
class LearnedBackground(nn.Module):
    """One colour, found together with the scene.

    Args:
        color: RGB at the start. Defaults to grey.
    """

    def __init__(self, color: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> None:
        super().__init__()
        self.color = nn.Parameter(torch.tensor(color, dtype=torch.float32))

    def forward(self, cameras: Cameras) -> Tensor:
        """Colours (C, 1, 1, 3)."""
        return self.color.expand(len(cameras), 1, 1, 3)


class _DirectionalBackground(nn.Module):
    """A background that depends on the viewing direction only, smooth on a coarse grid."""

    #: One ray per this many pixels along each axis; colours between are interpolated.
    stride = 8

    def _directions(self, cameras: Cameras) -> tuple[Tensor, tuple[int, int]]:
        width, height = cameras.one_size()
        columns = max(math.ceil(width / self.stride), 2)
        rows = max(math.ceil(height / self.stride), 2)
        # Cell centres, as F.interpolate places them.
        x = (torch.arange(columns, device=cameras.device) + 0.5) * (width / columns)
        y = (torch.arange(rows, device=cameras.device) + 0.5) * (height / rows)
        pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
        _, directions = cameras.rays(pixels.to(cameras.viewmats))  # (C, rows * columns, 3)
        return directions.unflatten(1, (rows, columns)), (height, width)

    def forward(self, cameras: Cameras) -> Tensor:
        """Colours (C, H, W, 3)."""
        directions, size = self._directions(cameras)
        colors = self.look(directions).permute(0, 3, 1, 2)  # (C, 3, rows, columns)
        colors = F.interpolate(colors, size=size, mode="bilinear", align_corners=False)
        return colors.permute(0, 2, 3, 1)

    def look(self, directions: Tensor) -> Tensor:
        """Colours (..., 3) of unit directions (..., 3) in the world."""
        raise NotImplementedError


@MODELS.register_module()
class SphericalHarmonicsBackground(_DirectionalBackground):
    """A sky as spherical harmonics of the viewing direction.

    Args:
        degree: Degree of the harmonics, 0 to 4. Defaults to 3.
        color: RGB at the start. Defaults to grey.
    """

    def __init__(
        self, degree: int = 3, color: tuple[float, float, float] = (0.5, 0.5, 0.5)
    ) -> None:
        super().__init__()
        if not 0 <= degree <= 4:
            raise ValueError(f"degree: expected 0..4, got {degree}")
        self.degree = degree
        coefficients = torch.zeros((degree + 1) ** 2, 3)
        coefficients[0] = torch.tensor(color, dtype=torch.float32) * math.sqrt(4 * math.pi)
        self.coefficients = nn.Parameter(coefficients)

    def look(self, directions: Tensor) -> Tensor:
        """See the base class."""
        return (sh_bases(self.degree, directions) @ self.coefficients).clamp_min(0)


@MODELS.register_module()
class EnvironmentMapBackground(_DirectionalBackground):
    """A sky as a picture on the sphere (equirectangular; the poles are at +-z of the world).

    Args:
        size: (height, width) of the map. Defaults to (32, 64).
        color: RGB at the start. Defaults to grey.
    """

    def __init__(
        self, size: tuple[int, int] = (32, 64), color: tuple[float, float, float] = (0.5, 0.5, 0.5)
    ) -> None:
        super().__init__()
        start = torch.tensor(color, dtype=torch.float32).view(1, 3, 1, 1)
        self.texture = nn.Parameter(start.expand(1, 3, *size).clone())

    def look(self, directions: Tensor) -> Tensor:
        """See the base class."""
        x, y, z = directions.flatten(0, -2).unbind(-1)
        # One column of padding on either side closes the seam at +-180 degrees.
        padded = F.pad(self.texture, (1, 1, 0, 0), mode="circular")
        width = self.texture.shape[-1]
        longitude = torch.atan2(y, x) / math.pi * (width / (width + 2))
        latitude = -torch.asin(z.clamp(-1, 1)) * (2 / math.pi)
        grid = torch.stack([longitude, latitude], dim=-1)[None, None]  # (1, 1, P, 2)
        colors = F.grid_sample(padded, grid, align_corners=False, padding_mode="border")
        return colors[0, :, 0].T.unflatten(0, directions.shape[:-1])
