"""Gaussians to a density and feature grid, with the published filters."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmcity.registry import MODELS
from mmcity_ops import gaussians_to_voxels


@MODELS.register_module()
class GaussianVoxelizer(nn.Module):
    """Voxelises Gaussians of the ego frame.

    Args:
        vol_range: Lower and upper corner in metres.
        voxel_size: Edge of a voxel in metres.
        filter_gaussians: Leave out Gaussians that are faint, outside or thin.
            Defaults to False.
        opacity_thresh: With the filter: opacity must be larger. Defaults to 0.
        covariance_thresh: With the filter, if > 0: six times the smallest variance must be
            larger. Defaults to 0.
        cutoff_sigma: Half size of the box a Gaussian acts on, in standard deviations.
            Defaults to 3.
    """

    def __init__(
        self,
        vol_range: Sequence[float],
        voxel_size: float,
        filter_gaussians: bool = False,
        opacity_thresh: float = 0.0,
        covariance_thresh: float = 0.0,
        cutoff_sigma: float = 3.0,
    ) -> None:
        super().__init__()
        if len(vol_range) != 6:
            raise ValueError(f"vol_range: expected 6 numbers, got {vol_range}")
        self.vol_range = tuple(float(v) for v in vol_range)
        self.voxel_size = float(voxel_size)
        self.filter_gaussians = filter_gaussians
        self.opacity_thresh = opacity_thresh
        self.covariance_thresh = covariance_thresh
        self.cutoff_sigma = cutoff_sigma

    def regridded(
        self, vol_range: Sequence[float] | None = None, voxel_size: float | None = None
    ) -> "GaussianVoxelizer":
        """The same filters on another grid.

        Args:
            vol_range: Lower and upper corner in metres. Defaults to the present one.
            voxel_size: Edge of a voxel in metres. Defaults to the present one.
        """
        return GaussianVoxelizer(
            vol_range or self.vol_range,
            voxel_size or self.voxel_size,
            self.filter_gaussians,
            self.opacity_thresh,
            self.covariance_thresh,
            self.cutoff_sigma,
        )

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        low, high = self.vol_range[:3], self.vol_range[3:]
        return tuple(round((b - a) / self.voxel_size) for a, b in zip(low, high))

    def _kept(self, means: Tensor, opacities: Tensor, covars: Tensor) -> Tensor:
        low = means.new_tensor(self.vol_range[:3])
        high = means.new_tensor(self.vol_range[3:])
        kept = (opacities.squeeze(-1) > self.opacity_thresh) & (
            (means >= low) & (means <= high)
        ).all(-1)
        if self.covariance_thresh > 0:
            variances = covars.diagonal(dim1=-2, dim2=-1)
            kept = kept & (6 * variances.amin(-1) > self.covariance_thresh)
        return kept

    def forward(
        self, means: Tensor, opacities: Tensor, covars: Tensor, features: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Voxelise a batch.

        Args:
            means: ``(B, G, 3)``.
            opacities: ``(B, G, 1)``.
            covars: ``(B, G, 3, 3)``.
            features: ``(B, G, K)``. Defaults to None.

        Returns:
            Density ``(B, X, Y, Z, 1)`` and features ``(B, X, Y, Z, K)`` or None.
        """
        if self.filter_gaussians:
            # A Gaussian without opacity adds nothing; the batch keeps its shape.
            kept = self._kept(means, opacities, covars)
            opacities = torch.where(kept[..., None], opacities, torch.zeros_like(opacities))
        return gaussians_to_voxels(
            means,
            opacities,
            features,
            covars=covars,
            vol_range=self.vol_range,
            voxel_size=self.voxel_size,
            grid_shape=self.grid_shape,
            extent=self.cutoff_sigma,
        )
