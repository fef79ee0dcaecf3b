"""A picture as the camera of the pose network would have taken it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcity.structures import to_device


def canonical_K(size: tuple[int, int], focal: float) -> Tensor:
    """``(3, 3)`` of square pixels with the principal point in the middle of ``(h, w)``."""
    height, width = size
    return torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def canonical_view(
    image: Tensor, K: Tensor, size: tuple[int, int], focal: float
) -> tuple[Tensor, float]:
    """Resample a picture to a camera with the same axes and centre.

    The first part is an antialiased resize to about the wanted focal length, the second a
    bilinear one with what remains (shift of the principal point, rounding). Beyond the border
    its colours go on.

    Args:
        image (Tensor): ``(3, H, W)``.
        K (Tensor): ``(3, 3)`` intrinsics of the picture, px.
        size (tuple[int, int]): Height and width to make.
        focal (float): Focal length to make, px.

    Returns:
        tuple[Tensor, float]: ``(3, h, w)``, and the share of it that the picture shows.
    """
    K = K.to("cpu", torch.float32)  # the grid is laid out there: nothing waits for the device
    old = torch.tensor(image.shape[-2:])
    new = (old * focal / K.diagonal()[[1, 0]]).round().long().clamp_min(1)
    if not torch.equal(new, old):
        image = F.interpolate(image[None], new.tolist(), mode="bilinear", antialias=True)[0]
    ratio = new / old
    scale, center = K.diagonal()[[1, 0]] * ratio / focal, K[[1, 0], 2] * ratio
    # Pixel centres at +0.5: 2 u / width - 1 is what grid_sample without align_corners takes.
    rows, columns = (
        2 * ((torch.arange(side) + 0.5 - side / 2) * scale[axis] + center[axis]) / new[axis] - 1
        for axis, side in enumerate(size)
    )
    seen = [float((line.abs() <= 1).float().mean()) for line in (rows, columns)]
    columns, rows = to_device((columns, rows), image.device)
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)  # (h, w, 2)
    out = F.grid_sample(image[None], grid[None], "bilinear", "border", align_corners=False)
    return out[0], seen[0] * seen[1]
