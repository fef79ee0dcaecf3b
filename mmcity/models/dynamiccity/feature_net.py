"""Feature network for generation metrics: a 3D U-Net that repairs corrupted occupancy."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmcity.models.layers.batches import stacked
from mmcity.models.preprocessors import PinnedDataPreprocessor
from mmcity.registry import MODELS
from mmcity.structures import OccupancyDataSample


def _block(in_channels: int, channels: int, stride: Sequence[int] | int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, channels, 3, stride=stride, padding=1),
        nn.GroupNorm(max(channels // 8, 1), channels),
        nn.SiLU(inplace=True),
    )


@MODELS.register_module()
class OccFeatureNet(BaseModel):
    """Segments single frames of occupancy from corrupted labels.

    What it learns on the way, the mean of its bottleneck, describes a frame in
    distances between sets of frames (FID, KID, precision, recall); a head that tells the
    frame's class histogram gives the class probabilities of the inception score.

    Args:
        num_classes: Label slots K, class 0 = free. Defaults to 12.
        channels: Width of each level; every level but the first halves x, y and z (the last
            one only x and y). Defaults to (16, 32, 64, 64).
        corruption: Share of voxels that are made free, and a tenth as many that get a random
            class; a box of the grid is emptied too. Defaults to 0.3.
        histogram_weight: Factor of the histogram's loss. Defaults to 0.5.
        data_preprocessor: Config. Defaults to :class:`PinnedDataPreprocessor`.
        init_cfg: As in mmengine.
    """

    def __init__(
        self,
        num_classes: int = 12,
        channels: Sequence[int] = (16, 32, 64, 64),
        corruption: float = 0.3,
        histogram_weight: float = 0.5,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor or PinnedDataPreprocessor(), init_cfg)
        if len(channels) < 3:
            raise ValueError(f"channels: expected at least 3 levels, got {tuple(channels)}")
        if not 0.0 <= corruption < 1.0:
            raise ValueError(f"corruption: expected a number in [0, 1), got {corruption}")
        self.num_classes = num_classes
        self.corruption = corruption
        self.histogram_weight = histogram_weight
        strides = [(2, 2, 2)] * (len(channels) - 2) + [(2, 2, 1)]
        self.stem = nn.Conv3d(num_classes, channels[0], (2, 2, 1), stride=(2, 2, 1))
        self.down = nn.ModuleList(
            nn.Sequential(_block(a, b, s), _block(b, b))
            for a, b, s in zip(channels[:-1], channels[1:], strides)
        )
        self.up = nn.ModuleList(_block(b + a, a) for a, b in zip(channels[-2::-1], channels[:0:-1]))
        self.head = nn.ConvTranspose3d(channels[0], num_classes, (2, 2, 1), stride=(2, 2, 1))
        self.histogram = nn.Linear(channels[-1], num_classes)

    def _encode(self, labels: Tensor) -> list[Tensor]:
        hot = F.one_hot(labels.long(), self.num_classes).movedim(-1, 1).float()
        levels = [self.stem(hot)]
        for stage in self.down:
            levels.append(stage(levels[-1]))
        return levels

    def extract(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Frames ``(N, X, Y, Z)`` to features ``(N, D)`` and histogram logits ``(N, K)``."""
        features = self._encode(labels)[-1].mean(dim=(2, 3, 4))
        return features, self.histogram(features)

    def segment(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Frames ``(N, X, Y, Z)`` to class logits ``(N, K, X, Y, Z)`` and histogram logits."""
        levels = self._encode(labels)
        x = levels[-1]
        for skip, stage in zip(levels[-2::-1], self.up):
            x = stage(torch.cat([F.interpolate(x, skip.shape[2:]), skip], dim=1))
        return self.head(x), self.histogram(levels[-1].mean(dim=(2, 3, 4)))

    def corrupt(self, labels: Tensor) -> Tensor:
        """Labels ``(N, X, Y, Z)`` with voxels lost or mistaken, and one box emptied."""
        draw = torch.rand(labels.shape, device=labels.device)
        noise = torch.randint_like(labels, self.num_classes)
        damaged = torch.where(draw < self.corruption, torch.zeros_like(labels), labels)
        damaged = torch.where(draw > 1 - self.corruption / 10, noise, damaged)
        if self.corruption > 0:
            size = torch.tensor(labels.shape[1:3])
            for frame in damaged:
                x, y = (torch.rand(2) * size * 0.75).long().tolist()
                frame[x : x + int(size[0]) // 4, y : y + int(size[1]) // 4] = 0
        return damaged

    def _class_shares(self, labels: Tensor) -> Tensor:
        flat = labels.flatten(1).long()
        counts = torch.zeros(len(flat), self.num_classes, device=labels.device)
        counts.scatter_add_(1, flat, torch.ones_like(flat, dtype=counts.dtype))
        counts[:, 0] = 0  # free space would drown the rest
        return counts / counts.sum(1, keepdim=True).clamp(min=1)

    def forward(
        self,
        inputs: dict,
        data_samples: list[OccupancyDataSample] | None = None,
        mode: str = "tensor",
    ):
        """Train on, or repair, clips.

        Args:
            inputs: ``voxels`` ``(B, T, X, Y, Z)`` labels.
            data_samples: ``predict`` fills ``pred_occupancy`` from the labels as they are.
            mode: ``loss``, ``predict`` or ``tensor`` (features ``(B, T, D)``).
        """
        voxels = stacked(inputs["voxels"])
        frames = voxels.flatten(0, 1)  # (B T, X, Y, Z)
        if mode == "tensor":
            return self.extract(frames)[0].unflatten(0, voxels.shape[:2])
        if mode == "loss":
            logits, histogram = self.segment(self.corrupt(frames))
            shares = self._class_shares(frames)
            return {
                "loss_segment": F.cross_entropy(logits, frames.long()),
                "loss_histogram": self.histogram_weight * F.cross_entropy(histogram, shares),
            }
        if mode != "predict":
            raise ValueError(f"mode: expected 'loss', 'predict' or 'tensor', got {mode!r}")
        pred = self.segment(frames)[0].argmax(1).to(torch.uint8).unflatten(0, voxels.shape[:2])
        return OccupancyDataSample.predicted(pred, data_samples)
