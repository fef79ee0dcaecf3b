"""CLIP features at high resolution: MaskCLIP upsampled by FeatUp (arXiv 2403.10516)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.registry import MODELS
from mmcity.utils.images import imagenet_normalized

from .hub import load_local_hub


@MODELS.register_module()
class FeatUpMaskCLIP(nn.Module):
    """Averages the upsampled features over patches.

    Args:
        network: Module that maps normalised ``(n, 3, H, W)`` to ``(n, C, H, W)``; None loads
            the published one.
        image_size: Height and width that images are resized to. Defaults to (432, 768).
        patch: Pixels per cell of the result. Defaults to 16.
        repo: Clone of the published repository, with ``network=None``.
        weights: State dict of its entry ``maskclip``; None keeps what the entry loads.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        image_size: Sequence[int] = (432, 768),
        patch: int = 16,
        repo: str | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if network is None:
            if repo is None:
                raise ValueError("FeatUpMaskCLIP: expected a network, or 'repo' by path, got none")
            network = load_local_hub(repo, "maskclip", weights, use_norm=False)
        self.network = network
        self.image_size = tuple(image_size)
        self.patch = patch

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features ``(n, C, H / patch, W / patch)`` of RGB images ``(n, 3, h, w)`` in [0, 1]."""
        resized = F.interpolate(
            images, self.image_size, mode="bilinear", align_corners=False, antialias=True
        )
        return F.avg_pool2d(self.network(imagenet_normalized(resized)), self.patch)
