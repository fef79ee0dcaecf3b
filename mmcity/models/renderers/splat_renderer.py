"""Rendering of Gaussians with spherical-harmonic colours through the native operators."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcity.registry import MODELS
from mmcity.structures import Cameras
from mmcity.utils.checks import check_choice
from mmcity.utils.precision import full_precision
from mmcity_ops import rasterization

from .median_depth import median_depth

DEPTH_MODES = ("expected", "accumulated", "median")


@MODELS.register_module()
class SplatRenderer(nn.Module):
    """Settings of :func:`mmcity_ops.rasterization` and the background behind it.

    Args:
        antialiased: Correct opacities for the low-pass filter, so that the look does not
            change with the resolution (Mip-Splatting, Yu et al. 2024). Defaults to False.
        eps2d: Variance in px^2 that the low-pass filter adds. Defaults to 0.3.
        near_plane: Nearest depth, world units. Defaults to 0.01.
        far_plane: Farthest depth, world units. Defaults to 1e10.
        radius_clip: Gaussians with at most this radius in px are skipped. Defaults to 0.0.
        tile_size: Edge of a tile in px. Defaults to 16.
        packed: Keep rows of visible Gaussians only. Defaults to True.
        background: Config of the background. Defaults to black.
        depth_mode: What is given as depth: ``expected`` (mean along the ray), ``accumulated``
            (the same times opacity) or ``median`` (where half of the light is lost, without
            gradients, see :func:`median_depth`). Defaults to ``expected``.
    """

    def __init__(
        self,
        antialiased: bool = False,
        eps2d: float = 0.3,
        near_plane: float = 0.01,
        far_plane: float = 1e10,
        radius_clip: float = 0.0,
        tile_size: int = 16,
        packed: bool = True,
        background: dict | None = None,
        depth_mode: str = "expected",
    ) -> None:
        super().__init__()
        self.depth_mode = depth_mode
        self.options = dict(
            rasterize_mode="antialiased" if antialiased else "classic",
            eps2d=eps2d,
            near_plane=near_plane,
            far_plane=far_plane,
            radius_clip=radius_clip,
            tile_size=tile_size,
            packed=packed,
        )
        self.background = MODELS.build(background or dict(type="ConstantBackground"))

    @property
    def is_antialiased(self) -> bool:
        """Whether opacities are corrected for the low-pass filter."""
        return self.options["rasterize_mode"] == "antialiased"

    @property
    def depth_mode(self) -> str:
        """Kind of depth that is rendered, one of ``DEPTH_MODES``."""
        return self._depth_mode

    @depth_mode.setter
    def depth_mode(self, mode: str) -> None:
        check_choice("depth_mode", mode, DEPTH_MODES)
        self._depth_mode = mode

    @full_precision
    def forward(
        self,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        sh: tuple[Tensor, Tensor],
        cameras: Cameras,
        *,
        sh_degree: int,
        with_geometry: bool = False,
        absgrad: bool = False,
    ) -> dict[str, Any]:
        """Render cameras of one size.

        Args:
            means: (N, 3) world units.
            quats: (N, 4) wxyz.
            scales: (N, 3) world units.
            opacities: (N,) in [0, 1].
            sh: Coefficients (N, 1, 3) and (N, K - 1, 3).
            cameras: C cameras of one size.
            sh_degree: Degree in use.
            with_geometry: Also render z-depth and normals. Defaults to False.
            absgrad: Keep absolute gradients of the projected means. Defaults to False.

        Returns:
            ``rgb`` (C, H, W, 3) not clamped, ``alpha`` (C, H, W, 1), ``meta`` of the
            rasterization, and with geometry ``depth`` (C, H, W, 1) and ``normals`` (C, H, W, 3),
            unit vectors in camera axes (0 where nothing is).
        """
        width, height = cameras.one_size()
        images, alphas, meta = rasterization(
            means,
            quats,
            scales,
            opacities,
            sh,
            cameras.viewmats,
            cameras.Ks,
            width=width,
            height=height,
            sh_degree=sh_degree,
            render_mode="RGB+ED+N" if with_geometry else "RGB",
            camera_model=cameras.camera_model,
            absgrad=absgrad,
            **self.options,
        )
        rgb = images[..., :3] + (1 - alphas) * self.background(cameras)
        result = dict(rgb=rgb, alpha=alphas, meta=meta)
        if with_geometry:
            result["depth"] = images[..., 3:4]
            if self.depth_mode == "accumulated":
                result["depth"] = result["depth"] * alphas
            elif self.depth_mode == "median":
                scene = (means, quats, scales, opacities)
                views = [cameras[row] for row in range(len(cameras))]
                result["depth"] = torch.cat(
                    [median_depth(*scene, view, **self.options) for view in views]
                )
            result["normals"] = F.normalize(images[..., 4:7], dim=-1)
        return result
