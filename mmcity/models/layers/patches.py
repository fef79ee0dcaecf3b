"""Images as rows of patch tokens."""

from torch import Tensor, nn


def patch_tokens(projection: nn.Module, images: Tensor, patch_size: int) -> Tensor:
    """Map ``(N, 3, H, W)`` to tokens ``(N, h * w, C)``, row by row.

    Args:
        projection: Gives ``(N, C, h, w)``, one cell per patch.
        images: ``(N, 3, H, W)``.
        patch_size: Side of a patch in pixels.

    Raises:
        ValueError: If a side is not a multiple of the patch size.
    """
    height, width = images.shape[-2:]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"image sides: expected multiples of {patch_size}, got {height} x {width} (H x W): "
            "resize or crop the images"
        )
    return projection(images).flatten(2).transpose(1, 2)
