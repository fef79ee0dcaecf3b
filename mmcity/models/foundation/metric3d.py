"""Metric depth from single images with Metric3D v2 (arXiv 2404.15506)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcity.registry import MODELS

from .hub import load_local_hub

#: Focal length in pixels that the network's depth is meant for.
CANONICAL_FOCAL = 1000.0


@MODELS.register_module()
class Metric3D(nn.Module):
    """Fits images to the network's canonical camera, and its depth back to metres.

    Args:
        network: Module that maps ``(n, 3, H, W)`` to depth ``(n, 1, H, W)`` (or a tuple that
            begins with it, or with an ``inference`` method that takes ``{'input': ...}``), or
            None to load the published network.
        input_size: Height and width that it takes. Defaults to (616, 1064).
        repo: Clone of the published repository, with ``network=None``.
        entry: Its entry point. Defaults to ``metric3d_vit_large``.
        weights: File of the published weights.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        input_size: Sequence[int] = (616, 1064),
        repo: str | None = None,
        entry: str = "metric3d_vit_large",
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if network is None:
            if repo is None or weights is None:
                raise ValueError("Metric3D: expected network, or paths 'repo' and 'weights'")
            network = load_local_hub(repo, entry, weights, "model_state_dict", pretrain=False)
        self.network = network
        self.input_size = tuple(input_size)

    def _depth(self, images: Tensor) -> Tensor:
        if hasattr(self.network, "inference"):
            output = self.network.inference({"input": images})
        else:
            output = self.network(images)
        return output[0] if isinstance(output, (tuple, list)) else output

    @torch.no_grad()
    def forward(self, images: Tensor, cam2img: Tensor, img_aug: Tensor | None = None) -> Tensor:
        """Depth in metres.

        Args:
            images: ``(n, 3, h, w)``, normalised.
            cam2img: ``(n, 3|4, 3|4)`` intrinsics of the original images.
            img_aug: ``(n, 4, 4)`` how the images were made from the original ones.
                Defaults to None.

        Returns:
            ``(n, h, w)``.
        """
        height, width = images.shape[-2:]
        scale = min(self.input_size[0] / height, self.input_size[1] / width)
        # Source positions follow the factor itself, not the ratio of the floored sizes.
        resized = F.interpolate(
            images, scale_factor=scale, mode="bilinear", align_corners=False,
            recompute_scale_factor=False,
        )  # fmt: skip
        rows, cols = resized.shape[-2:]
        free_rows, free_cols = self.input_size[0] - rows, self.input_size[1] - cols
        top, left = free_rows // 2, free_cols // 2
        padded = F.pad(resized, (left, free_cols - left, top, free_rows - top))
        depth = self._depth(padded)[..., top : top + rows, left : left + cols]
        depth = F.interpolate(depth, (height, width), mode="bilinear", align_corners=False)[:, 0]
        focal = cam2img[:, 0, 0] * scale
        if img_aug is not None:
            focal = focal * img_aug[:, 0, 0]
        return depth * (focal / CANONICAL_FOCAL)[:, None, None]
