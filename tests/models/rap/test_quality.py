"""BRISQUE: its two scales against blocks of pixels averaged by hand."""

import numpy as np
import pytest
import torch

from mmcity.models.rap.quality import brisque_features


def picture(height: int, width: int) -> torch.Tensor:
    rng = np.random.default_rng(height * 1000 + width)
    waves = np.sin(np.arange(width) / 7) + np.cos(np.arange(height) / 5)[:, None]
    grey = 0.5 + 0.15 * waves + 0.1 * rng.standard_normal((height, width))
    return torch.from_numpy(grey).float().expand(1, 3, -1, -1)


@pytest.mark.parametrize("size", [(48, 64), (47, 64), (48, 65), (47, 65)])
def test_half_scale_is_the_mean_of_blocks_of_two_pixels(size):
    image = picture(*size)
    rows, columns = (s // 2 for s in size)
    kept = image[..., : 2 * rows, : 2 * columns].numpy()
    half = torch.from_numpy(kept.reshape(1, 3, rows, 2, columns, 2).mean((3, 5)))
    np.testing.assert_allclose(
        brisque_features(image)[:, 18:], brisque_features(half)[:, :18], atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize("size", [(3, 64), (64, 3)])
def test_pictures_without_neighbours_at_half_scale_are_refused(size):
    with pytest.raises(ValueError, match="images: expected at least 4 pixels a side"):
        brisque_features(torch.rand(1, 3, *size))
