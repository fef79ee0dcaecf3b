"""Training at a fraction of the pictures' size."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mmcity.structures import Cameras, SceneDataSample


def reduce_resolution(
    picture: Tensor, sample: SceneDataSample, factor: int
) -> tuple[Tensor, SceneDataSample]:
    """A training item ``factor`` times smaller; what fills no whole block is cut off.

    Args:
        picture: ``(3, H, W)``.
        sample: With ``camera`` and optionally ``inverse_depth``, ``neighbour_image`` and
            ``neighbour_camera``.
        factor: At least 1.

    Returns:
        Both anew; depth is invalid where any pixel of a block is.
    """
    if factor == 1:
        return picture, sample
    small = sample.new()
    small.camera = _reduce_camera(sample.camera, factor)
    prior = sample.get("inverse_depth")
    if prior is not None:
        lowest = -F.max_pool2d(-prior[None], factor)[0]
        mean = F.avg_pool2d(prior[None], factor)[0]
        small.set_field(torch.where(lowest > 0, mean, 0.0), "inverse_depth")
    if "neighbour_image" in sample:
        image = sample.neighbour_image
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        small.set_field(F.avg_pool2d(image, factor), "neighbour_image")
        small.set_field(_reduce_camera(sample.neighbour_camera, factor), "neighbour_camera")
    return F.avg_pool2d(picture, factor), small


def _reduce_camera(camera: Cameras, factor: int) -> Cameras:
    width, height = (size // factor for size in camera.one_size())
    # The cut keeps the intrinsics in an exact ratio.
    return camera.crop(0, 0, width * factor, height * factor).resize(width, height)
