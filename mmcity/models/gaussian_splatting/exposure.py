"""Colour differences between photographs of one scene (exposure, white balance)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmcity.models.layers import ResizableModule
from mmcity.registry import MODELS
from mmcity.structures import to_device
from mmcity.utils.checks import check_choice
from mmcity.utils.images import GREY_WEIGHTS
from mmcity.utils.scalars import constant


class _PerImage(ResizableModule):
    """A table with one row of parameters per photograph of the capture.

    Rows of photographs that were never trained on stay at the identity and are marked so;
    :meth:`rows_for_test` says what such a photograph gets instead, without looking at it.
    """

    resizable = ("table", "is_trained")

    def __init__(self, row_shape: tuple[int, ...], test_exposure: str) -> None:
        super().__init__()
        choices = ("identity", "mean", "neighbours")
        check_choice("test_exposure", test_exposure, choices)
        self.test_exposure = test_exposure
        self.table = nn.Parameter(torch.zeros(0, *row_shape))
        self.register_buffer("is_trained", torch.zeros(0, dtype=torch.bool))

    def initialize(self, is_trained: Tensor) -> None:
        """Make identity rows.

        Args:
            is_trained: (n_images,) bool in capture order, True for training photographs.
        """
        self.table.data = self.table.data.new_zeros(len(is_trained), *self.table.shape[1:])
        self.is_trained = is_trained.to(self.table.device)

    def _training_rows(self, image_ids: Tensor) -> Tensor:
        if int(image_ids.max()) >= len(self.table):
            raise ValueError(
                f"exposure: expected an image of a table of {len(self.table)}, got "
                f"{int(image_ids.max())}: the model was initialised on another capture"
            )
        return self.table[to_device(image_ids, self.table.device)]

    def rows_for_test(self, image_ids: Tensor) -> Tensor:
        """(B, ...) rows for unseen photographs: identity, mean, or linear in capture order."""
        if self.test_exposure == "identity" or not bool(self.is_trained.any()):
            return self.table.new_zeros(len(image_ids), *self.table.shape[1:])
        image_ids = image_ids.to(self.table.device)
        trained = self.is_trained.nonzero()[:, 0]  # ascending
        if self.test_exposure == "mean":
            return (
                self.table[trained]
                .mean(0, keepdim=True)
                .expand(len(image_ids), *[-1] * (self.table.ndim - 1))
            )
        after = torch.searchsorted(trained, image_ids).clamp(0, len(trained) - 1)
        before = (after - 1).clamp_min(0)
        low, high = trained[before], trained[after]
        span = (high - low).clamp_min(1)
        share = ((image_ids - low) / span).clamp(0, 1)
        share = share.view(-1, *[1] * (self.table.ndim - 1)).to(self.table)
        return torch.lerp(self.table[low], self.table[high], share)

    def _rows(self, image_ids: Tensor) -> Tensor:
        return self._training_rows(image_ids) if self.training else self.rows_for_test(image_ids)


@MODELS.register_module()
class AffineExposure(_PerImage):
    """An affine transform of the colours per photograph.

    Args:
        test_exposure: What a photograph outside the training set gets: ``identity``,
            ``mean`` (of the training photographs) or ``neighbours`` (linear between the
            training photographs before and after it in capture order). None of them looks
            at the photograph. Defaults to ``identity``.
        regularization: Weight of the squared distance to the identity, which fixes the
            gauge between exposures and scene. Defaults to 0.1.
    """

    def __init__(self, test_exposure: str = "identity", regularization: float = 0.1) -> None:
        super().__init__((3, 4), test_exposure)
        self.regularization = regularization

    def forward(self, images: Tensor, image_ids: Tensor) -> Tensor:
        """Transform renders (B, H, W, 3) as the photographs ``image_ids`` (B,) were exposed."""
        rows = self._rows(image_ids)  # (B, 3, 4), zero is the identity
        flat = images.flatten(1, 2)  # (B, P, 3)
        matrix = rows[:, :, :3] + torch.eye(3, device=rows.device, dtype=rows.dtype)
        return torch.baddbmm(rows[:, None, :, 3], flat, matrix.mT).view_as(images)

    def penalty(self, image_ids: Tensor) -> Tensor:
        """Scalar that pulls the rows in use towards the identity."""
        return self.regularization * self._training_rows(image_ids).square().sum((1, 2)).mean()


@MODELS.register_module()
class BilateralGridExposure(_PerImage):
    """A bilateral grid of affine colour transforms per photograph (Wang et al. 2024).

    Unlike one affine transform it follows vignetting and local tone mapping.

    Args:
        grid_size: (width, height, luminance) cells. Defaults to (16, 16, 8).
        test_exposure: As in :class:`AffineExposure`.
        regularization: Weight of the total variation of the grids. Defaults to 10.0.
    """

    def __init__(
        self,
        grid_size: tuple[int, int, int] = (16, 16, 8),
        test_exposure: str = "identity",
        regularization: float = 10.0,
    ) -> None:
        width, height, depth = grid_size
        super().__init__((12, depth, height, width), test_exposure)
        self.regularization = regularization

    def forward(self, images: Tensor, image_ids: Tensor) -> Tensor:
        """See :meth:`AffineExposure.forward`."""
        rows = self._rows(image_ids)  # (B, 12, D, Y, X)
        batch, height, width, _ = images.shape
        x = (torch.arange(width, device=images.device, dtype=images.dtype) + 0.5) / width
        y = (torch.arange(height, device=images.device, dtype=images.dtype) + 0.5) / height
        luma = images @ constant(GREY_WEIGHTS, images)  # (B, H, W)
        y, x = torch.meshgrid(y, x, indexing="ij")
        grid = torch.stack([x.expand_as(luma), y.expand_as(luma), luma], dim=-1) * 2 - 1
        sampled = F.grid_sample(rows, grid[:, None], align_corners=True, padding_mode="border")
        sampled = sampled[:, :, 0].permute(0, 2, 3, 1).unflatten(-1, (3, 4))  # (B, H, W, 3, 4)
        moved = (sampled[..., :3] @ images[..., None])[..., 0] + sampled[..., 3]
        return images + moved

    def penalty(self, image_ids: Tensor) -> Tensor:
        """Total variation of the grids in use."""
        rows = self._training_rows(image_ids)
        total = rows.new_zeros(())
        for dim in (2, 3, 4):
            total = total + rows.diff(dim=dim).square().mean()
        return self.regularization * total
