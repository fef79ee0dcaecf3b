"""mmcv's kernel of multi-scale deformable attention, for tensors on a CUDA device."""

import torch
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch import Tensor

from mmcity.models.layers.deformable_attention import (
    MultiScaleDeformableAttention,
    sample_multi_scale,
)

#: Samples of a batch that the kernel takes at once.
_SAMPLES_AT_ONCE = 64


def sample_with_mmcv(
    value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    """As :func:`mmcity.models.layers.deformable_attention.sample_multi_scale`."""
    if not value.is_cuda:
        return sample_multi_scale(value, spatial_shapes, locations, weights)
    shapes = spatial_shapes.to(value.device, torch.long)
    sizes = shapes.prod(1)
    starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)[:-1]])
    step = min(_SAMPLES_AT_ONCE, len(value))
    while len(value) % step:  # the kernel wants equal parts
        step -= 1
    with torch.autocast("cuda", enabled=False):
        return MultiScaleDeformableAttnFunction.apply(
            value.float().contiguous(), shapes, starts, locations.float().contiguous(),
            weights.float().contiguous(), step,
        ).to(value.dtype)  # fmt: skip


def use_mmcv_kernel() -> None:
    """Let every deformable attention take the kernel where its tensors lie on a CUDA device."""
    MultiScaleDeformableAttention.sampler = staticmethod(sample_with_mmcv)
