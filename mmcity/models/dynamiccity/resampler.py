"""The simplest compression of occupancy: fewer voxels, and each repeated to fill the grid."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor

from mmcity.models.layers.batches import stacked
from mmcity.registry import MODELS
from mmcity.structures import OccupancyDataSample
from mmcity.utils.checks import check_choice


@MODELS.register_module()
class OccResampler(BaseModel):
    """Down- and up-sampling of clips, a floor that learned compression must rise above.

    Args:
        factors: Voxels along t, x, y, z that become one; their product is the compression.
        pool: ``majority`` (most frequent label), ``occupied`` (most frequent label that is
            not free, if there is any) or ``nearest`` (first voxel). Defaults to ``majority``.
        num_classes: Label slots, class 0 = free. Defaults to 12.
    """

    def __init__(
        self, factors: Sequence[int], pool: str = "majority", num_classes: int = 12
    ) -> None:
        super().__init__()
        check_choice("pool", pool, ("majority", "occupied", "nearest"))
        if len(factors) != 4 or min(factors) < 1:
            raise ValueError(f"factors: expected four positive numbers (t, x, y, z), got {factors}")
        self.factors = tuple(factors)
        self.pool = pool
        self.num_classes = num_classes

    def resample(self, labels: Tensor) -> Tensor:
        """Labels ``(B, T, X, Y, Z)``, reduced and blown up again."""
        if any(n % f for n, f in zip(labels.shape[1:], self.factors)):
            raise ValueError(
                f"clip: expected sides divisible by {self.factors}, got {tuple(labels.shape[1:])}"
            )
        blocks = labels
        for axis, factor in enumerate(self.factors, 1):
            blocks = blocks.unflatten(axis, (-1, factor)).movedim(axis + 1, -1)
        blocks = blocks.flatten(5)
        if self.pool == "nearest":
            small = blocks[..., 0]
        else:
            counts = F.one_hot(blocks.long(), self.num_classes).sum(-2)
            if self.pool == "occupied":
                is_free = counts[..., 1:].sum(-1) == 0
                counts[..., 0] = is_free * (counts.sum(-1) + 1)
            small = counts.argmax(-1).to(labels.dtype)
        for axis, factor in enumerate(self.factors):
            small = small.repeat_interleave(factor, dim=axis + 1)
        return small

    def forward(
        self,
        inputs: dict,
        data_samples: list[OccupancyDataSample] | None = None,
        mode: str = "tensor",
    ):
        """``predict`` fills ``pred_occupancy``, ``tensor`` gives labels; nothing is trained."""
        voxels = stacked(inputs["voxels"])
        check_choice("mode", mode, ("predict", "tensor"))
        labels = self.resample(voxels)
        if mode == "tensor":
            return labels
        return OccupancyDataSample.predicted(labels.to(torch.uint8), data_samples)
