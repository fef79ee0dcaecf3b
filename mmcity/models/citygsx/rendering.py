"""From Gaussians to maps in two steps, between which processes may exchange Gaussians."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mmcity.models.losses.planar import rows_K
from mmcity.structures import Cameras
from mmcity.utils.precision import full_precision
from mmcity_ops import fully_fused_projection, plane_depth, plane_features, rasterize_to_pixels
from mmcity_ops.functional.intersection import tile_lists

from .decoder import NeuralGaussians

TILE = 16  # px; edge of the tiles that lists of Gaussians are made for


@dataclass
class Splats:
    """Gaussians as one camera sees them: all that compositing needs.

    Attributes:
        means2d: ``(S, 2)`` px.
        conics: ``(S, 3)`` inverse covariances.
        opacities: ``(S,)``.
        features: ``(S, 3)`` colours, or ``(S, 7)``: also the normal in camera axes and the
            distance of the plane.
        depths: ``(S,)`` z-depth, without gradient.
        radii: ``(S, 2)`` int32 px.
        ids: ``(S,)`` rows of the decoded Gaussians; empty for splats of other processes.
    """

    means2d: Tensor
    conics: Tensor
    opacities: Tensor
    features: Tensor
    depths: Tensor
    radii: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.means2d)

    def pack(self) -> tuple[Tensor, Tensor]:
        """Differentiable columns ``(S, 9 or 13)``, and depths and radii ``(S, 3)``."""
        columns = [self.means2d, self.conics, self.opacities[:, None], self.features]
        fixed = torch.cat([self.depths.detach()[:, None], self.radii.to(self.depths)], 1)
        return torch.cat(columns, 1), fixed

    @classmethod
    def unpack(cls, columns: Tensor, fixed: Tensor) -> "Splats":
        """The inverse of :meth:`pack`, without ids."""
        means2d, conics, opacities, features = columns.split([2, 3, 1, columns.shape[1] - 6], 1)
        return cls(
            means2d.contiguous(),
            conics.contiguous(),
            opacities[:, 0].contiguous(),
            features.contiguous(),
            fixed[:, 0].contiguous(),
            fixed[:, 1:].to(torch.int32),
            torch.empty(0, dtype=torch.long, device=columns.device),
        )


@full_precision
def project_gaussians(
    gaussians: NeuralGaussians,
    camera: Cameras,
    with_geometry: bool,
    *,
    near_plane: float = 0.01,
    eps2d: float = 0.3,
    antialiased: bool = False,
) -> Splats:
    """Project decoded Gaussians into one camera; what it does not see is left out."""
    width, height = camera.one_size()
    _, camera_ids, ids, _, radii, means2d, depths, conics, factors = fully_fused_projection(
        gaussians.means,
        None,
        gaussians.quats,
        gaussians.scales,
        camera.viewmats,
        camera.Ks,
        width=width,
        height=height,
        opacities=gaussians.opacities.detach(),
        eps2d=eps2d,
        near_plane=near_plane,
        packed=True,
        calc_compensations=antialiased,
        camera_model=camera.camera_model,
    )
    opacities = gaussians.opacities[ids]
    features = gaussians.colors[ids]
    if with_geometry:
        planes = plane_features(
            gaussians.means, gaussians.quats, gaussians.scales, camera.viewmats, camera_ids, ids
        )
        features = torch.cat([features, planes], 1)
    if factors is not None:
        opacities = opacities * factors
    return Splats(means2d, conics, opacities, features, depths, radii, ids)


def composite(
    splats: Splats, width: int, height: int, tile_rows: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Blend splats front to back over black.

    Args:
        splats: Of one view.
        width: px of the whole picture.
        height: px of the whole picture.
        tile_rows: Only these rows of tiles (first, behind the last). Defaults to None: all.

    Returns:
        Features ``(1, h, W, C)``, alpha ``(1, h, W, 1)`` of the rows, and the number of list
        entries of each row of tiles ``(R,)``, a measure of the work.
    """
    columns, rows = math.ceil(width / TILE), math.ceil(height / TILE)
    masks = None
    if tile_rows is not None and tile_rows != (0, rows):
        masks = torch.zeros(1, rows, columns, dtype=torch.bool, device=splats.means2d.device)
        masks[:, slice(*tile_rows)] = True
    lists = tile_lists(
        splats.means2d.detach(),
        splats.radii,
        splats.depths.detach(),
        TILE,
        columns,
        rows,
        conics=splats.conics.detach(),
        opacities=splats.opacities.detach(),
        image_ids=torch.zeros(len(splats), dtype=torch.long, device=splats.means2d.device),
        n_images=1,
        masks=masks,
    )
    features, alpha = rasterize_to_pixels(
        splats.means2d,
        splats.conics,
        splats.features,
        splats.opacities,
        width=width,
        height=height,
        tile_size=TILE,
        isect_offsets=lists.isect_offsets,
        flatten_ids=lists.flatten_ids,
        masks=masks,
        packed=True,
    )
    starts = lists.isect_offsets[0, :, 0]
    ends = torch.cat([starts[1:], starts.new_full((1,), len(lists.flatten_ids))])
    if tile_rows is not None:
        first, last = tile_rows[0] * TILE, min(tile_rows[1] * TILE, height)
        features, alpha = features[:, first:last], alpha[:, first:last]
    return features, alpha, ends - starts


@full_precision
def find_planes(maps: dict[str, Tensor], camera: Cameras, first_row: int = 0) -> dict[str, Tensor]:
    """Depth of composited planes.

    Args:
        maps: ``normals`` (1, h, W, 3), ``distances`` and ``alpha`` (1, h, W, 1).
        camera: Of the whole picture.
        first_row: Row of the picture that the maps begin with. Defaults to 0.

    Returns:
        The maps with ``depth`` (1, h, W, 1), 0 where there is none, and ``usable`` (bool).
    """
    K = rows_K(camera.Ks[0], first_row)[None]
    depth, usable = plane_depth(maps["normals"], maps["distances"], maps["alpha"], K)
    return dict(maps, depth=depth, usable=usable)
