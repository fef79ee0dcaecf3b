"""Kinds of depth that the splat renderer gives."""

import numpy as np
import pytest
import torch

from mmcity.apis import SceneRenderer
from mmcity.models.renderers import SplatRenderer
from mmcity.structures import Cameras, Gaussians, write_gaussians

SIZE = 24


@pytest.fixture
def camera():
    K = torch.tensor([[30.0, 0, SIZE / 2], [0, 30, SIZE / 2], [0, 0, 1]])
    return Cameras(K[None], torch.eye(4)[None], SIZE, SIZE)


def sheets(depths, opacities):
    """Sheets across the view, so wide that their opacity is that of their middle everywhere."""
    count = len(depths)
    means = torch.zeros(count, 3)
    means[:, 2] = torch.as_tensor(depths)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    scales = torch.tensor([200.0, 200.0, 1e-3]).expand(count, 3)
    return means, quats, scales, torch.as_tensor(opacities)


def render(scene, camera, mode):
    colors = (torch.zeros(len(scene[0]), 1, 3), torch.zeros(len(scene[0]), 0, 3))
    out = SplatRenderer(depth_mode=mode)(*scene, colors, camera, sh_degree=0, with_geometry=True)
    return out["depth"][0, ..., 0], out["alpha"][0, ..., 0]


def test_kinds_of_depth_of_two_sheets(camera):
    scene = sheets([2.0, 10.0], [0.4, 0.9])
    # weights 0.4 and 0.6 * 0.9 = 0.54
    expected, alpha = render(scene, camera, "expected")
    torch.testing.assert_close(alpha, torch.full_like(alpha, 0.94), atol=2e-3, rtol=0)
    middle = SIZE // 2, SIZE // 2
    assert float(expected[middle]) == pytest.approx((0.4 * 2 + 0.54 * 10) / 0.94, rel=5e-3)
    accumulated, _ = render(scene, camera, "accumulated")
    torch.testing.assert_close(accumulated, expected * alpha)
    median, _ = render(scene, camera, "median")
    torch.testing.assert_close(median, torch.full_like(median, 10.0), rtol=1e-4, atol=0)


def test_median_of_many_sheets_is_that_of_their_weights(camera):
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        depths = torch.rand(40, generator=generator) * 20 + 1
        opacities = torch.rand(40, generator=generator) * 0.15 + 0.02
        order = depths.argsort().numpy()
        a = opacities.numpy()[order]
        weights = a * np.concatenate([[1], np.cumprod(1 - a)[:-1]])
        first = int((np.cumsum(weights) >= 0.5).argmax())
        median, _ = render(sheets(depths, opacities), camera, "median")
        found = float(median[SIZE // 2, SIZE // 2])
        # Fewer sheets than slices: each lies in a slice of its own, or shares one with a neighbour.
        nearest = depths.numpy()[order][max(first - 1, 0) : first + 2]
        assert nearest.min() - 1e-3 <= found <= nearest.max() + 1e-3


def test_too_thin_a_scene_has_no_median(camera):
    median, _ = render(sheets([3.0], [0.3]), camera, "median")
    assert float(median.abs().max()) == 0
    behind, _ = render(sheets([-3.0], [0.9]), camera, "median")
    assert float(behind.abs().max()) == 0


def test_the_scene_renderer_takes_the_kind(camera, tmp_path):
    means, quats, scales, opacities = sheets([2.0, 10.0], [0.4, 0.9])
    scene = Gaussians(means, quats, scales, opacities, sh0=torch.zeros(2, 1, 3))
    write_gaussians(scene, tmp_path / "scene.ply")
    picture = SceneRenderer(weights=tmp_path / "scene.ply", depth_mode="median")(camera)
    assert float(picture["depth"][0].median()) == pytest.approx(10, rel=1e-4)
    with pytest.raises(ValueError, match="expected one of"):
        SceneRenderer(weights=tmp_path / "scene.ply", depth_mode="mode")
