"""The best answer that does not look at the pictures: averages of the training clips."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .ground_truth_loss import normalise_scene


class MeanGeometry(nn.Module):
    """Mean depth of every pixel and mean motion, turn and lens of every frame number.

    A model that has learned nothing but the habits of a data set does as well as this one,
    so results are shown beside it.

    Args:
        num_views: Frames of the training clips.
        image_size: (H, W) of their images.
    """

    def __init__(self, num_views: int, image_size: Sequence[int]) -> None:
        super().__init__()
        size = (num_views, *image_size)
        self.register_buffer("log_depth", torch.zeros(size))  # sums
        self.register_buffer("pixels", torch.zeros(size))
        self.register_buffer("pose", torch.zeros(num_views, 9))
        self.register_buffer("direction", torch.zeros(num_views, 3))
        self.register_buffer("clips", torch.zeros(()))

    @torch.no_grad()
    def update(self, targets: Sequence[Mapping[str, Tensor]]) -> None:
        """Take the ground truth of a batch of clips (:meth:`VGGT.targets`)."""
        if len(targets) != len(self.pose):
            raise ValueError(f"expected clips of {len(self.pose)} frames, got {len(targets)}")
        for index, frame in enumerate(normalise_scene(targets)):
            mask, depth = frame["valid_mask"], frame["depth"][..., 0]
            log_depth = depth.where(mask, torch.ones_like(depth)).log()
            self.log_depth[index] += log_depth.sum(0)
            self.pixels[index] += mask.sum(0)
            pose = frame["camera_pose"].clone()
            # Lengths and directions apart, else a few wide motions decide the direction.
            length = pose[:, :3].norm(dim=-1, keepdim=True)
            self.direction[index] += (pose[:, :3] / length.clamp_min(1e-6)).sum(0)
            pose[:, :3] = length
            self.pose[index] += pose.sum(0)
        self.clips += len(targets[0]["depth"])

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs as of :meth:`VGGT.run` for ``(B, S, 3, H, W)``; only their sizes count.

        Frames beyond the training clips repeat the last one.
        """
        batch, frames, _, *size = images.shape
        if tuple(size) != tuple(self.pixels.shape[1:]):
            raise ValueError(f"images: expected {tuple(self.pixels.shape[1:])}, got {tuple(size)}")
        numbers = torch.arange(frames, device=images.device).clamp_max(len(self.pose) - 1)
        depth = (self.log_depth / self.pixels.clamp_min(1))[numbers].exp()
        depth = depth.expand(batch, -1, -1, -1).unsqueeze(-1)
        pose = self.pose / self.clips.clamp_min(1)
        direction = torch.nn.functional.normalize(self.direction, dim=-1)
        pose = torch.cat([pose[:, :3] * direction, pose[:, 3:]], dim=-1)[numbers]
        pose = pose.expand(batch, -1, -1)
        return {"depth": depth, "depth_conf": torch.ones_like(depth[..., 0]), "pose_enc": pose}
