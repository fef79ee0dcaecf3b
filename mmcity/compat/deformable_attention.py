"""mmcv's kernel of multi-scale deformable attention, for tensors on a CUDA device."""

import warnings
from collections.abc import Sequence

import torch
from mmcv.ops import get_compiling_cuda_version
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch import Tensor

from mmcity.models.layers.deformable_attention import (
    MultiScaleDeformableAttention,
    sample_multi_scale,
)
from mmcity.structures import to_device

#: Samples of a batch that the kernel takes at once.
_SAMPLES_AT_ONCE = 64


def sample_with_mmcv(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """As :func:`mmcity.models.layers.deformable_attention.sample_multi_scale`."""
    if not value.is_cuda:
        return sample_multi_scale(value, spatial_shapes, locations, weights)
    shapes = torch.tensor([(int(h), int(w)) for h, w in spatial_shapes])
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    shapes, starts = to_device((shapes, starts), value.device)
    step = min(_SAMPLES_AT_ONCE, len(value))
    while len(value) % step:  # the kernel wants equal parts
        step -= 1
    with torch.autocast("cuda", enabled=False):
        return MultiScaleDeformableAttnFunction.apply(
            value.float().contiguous(), shapes, starts, locations.float().contiguous(),
            weights.float().contiguous(), step,
        ).to(value.dtype)  # fmt: skip


def use_mmcv_kernel() -> None:
    """Let every deformable attention take the kernel where its tensors lie on a CUDA device.

    An mmcv that was built without CUDA has no such kernel; then plain torch stays.
    """
    if get_compiling_cuda_version() != "not available":
        MultiScaleDeformableAttention.sampler = staticmethod(sample_with_mmcv)
    elif torch.cuda.is_available():
        warnings.warn(
            "mmcv: expected a build for CUDA, got one for the CPU: deformable attention runs as "
            "torch operations, which are slower; install mmcv for this version of CUDA",
            RuntimeWarning,
            stacklevel=2,
        )
