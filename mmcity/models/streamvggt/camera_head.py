"""Iterative camera regression from the camera tokens."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mmcity.models.layers import Attend, Mlp, TransformerBlock, frame_causal_attention

from .activations import activate_pose

POSE_DIM = 9  # translation, quaternion xyzw, vertical and horizontal field of view


class CameraHead(nn.Module):
    """Refines a pose encoding in several passes through one small transformer over frames.

    Args:
        dim_in: Channels of the camera token. Defaults to 2048.
        trunk_depth: Blocks of the trunk. Defaults to 4.
        num_heads: Attention heads of the trunk. Defaults to 16.
        mlp_ratio: Feed-forward width over channels. Defaults to 4.
        layer_scale: Initial residual factor of the trunk. Defaults to 0.01.
        num_iterations: Refinement passes. Defaults to 4.
        start_pose: Encoding that an untrained head gives on average. Training from scratch
            wants one with positive fields of view, since their activation has no gradient
            below zero. Defaults to None (about zero).
    """

    def __init__(
        self,
        dim_in: int = 2048,
        trunk_depth: int = 4,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        layer_scale: float = 0.01,
        num_iterations: int = 4,
        start_pose: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.num_iterations = num_iterations
        self.num_heads = num_heads
        self.head_dim = dim_in // num_heads
        self.trunk = nn.Sequential(
            *(
                TransformerBlock(dim_in, num_heads, mlp_ratio, layer_scale=layer_scale)
                for _ in range(trunk_depth)
            )
        )
        self.token_norm = nn.LayerNorm(dim_in)
        self.trunk_norm = nn.LayerNorm(dim_in)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_DIM))
        self.embed_pose = nn.Linear(POSE_DIM, dim_in)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim_in, 3 * dim_in))
        self.adaln_norm = nn.LayerNorm(dim_in, eps=1e-6, elementwise_affine=False)
        self.pose_branch = Mlp(dim_in, dim_in // 2, POSE_DIM)
        if start_pose is not None:
            # Every pass adds its output to the sum.
            share = torch.tensor(start_pose, dtype=torch.float32) / num_iterations
            with torch.no_grad():
                self.pose_branch.fc2.bias.copy_(share)

    @property
    def trunk_depth(self) -> int:
        """Blocks of the trunk."""
        return len(self.trunk)

    def forward(
        self,
        camera_tokens: Tensor,
        causal: bool = True,
        step_frames: int = 1,
        window: int | None = None,
    ) -> list[Tensor]:
        """Pose encodings of a whole sequence.

        Args:
            camera_tokens: Camera token of the last pair, ``(B, S, dim_in)``.
            causal: Frames see only their own and earlier steps. Defaults to True.
            step_frames: Frames per time step. Defaults to 1.
            window: Steps seen besides the first one; None for all. Defaults to None.

        Returns:
            Activated encodings ``(B, S, 9)``, one per iteration; the last is the prediction.
        """
        attend = None
        if causal:
            attend = partial(frame_causal_attention, step_tokens=step_frames, window=window)
        return self.refine(camera_tokens, lambda iteration, layer: attend)

    def refine(
        self, camera_tokens: Tensor, attend_of: Callable[[int, int], Attend | None]
    ) -> list[Tensor]:
        """Run the iterations; ``attend_of(iteration, layer)`` gives each block's attention."""
        with torch.autocast(device_type=camera_tokens.device.type, enabled=False):
            tokens = self.token_norm(camera_tokens.float())
            pose = None
            outputs = []
            for iteration in range(self.num_iterations):
                if pose is None:
                    embedded = self.embed_pose(self.empty_pose_tokens.expand(*tokens.shape[:2], -1))
                else:
                    embedded = self.embed_pose(pose.detach())
                shift, scale, gate = self.poseLN_modulation(embedded).chunk(3, dim=-1)
                x = gate * (self.adaln_norm(tokens) * (1 + scale) + shift) + tokens
                for layer, block in enumerate(self.trunk):
                    x = block(x, attend=attend_of(iteration, layer))
                delta = self.pose_branch(self.trunk_norm(x))
                # The raw encoding is fed back, not the activated one.
                pose = delta if pose is None else pose.detach() + delta
                outputs.append(activate_pose(pose))
        return outputs
