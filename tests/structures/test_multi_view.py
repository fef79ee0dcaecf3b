"""Reprojection between views, of whole pictures and of their parts."""

import torch

from mmcity.models.losses.planar import rows_K
from mmcity.structures.multi_view import pixel_rays, reproject

WIDTH, HEIGHT = 96, 72


def views_of_a_plane():
    """Depths and cameras of two views of the plane z = 20 + 0.2 x in the first one's axes."""
    K = torch.tensor([[83.1, 0, 48.3], [0, 84.7, 36.123], [0, 0, 1]])
    first, second = torch.eye(4), torch.eye(4)
    second[0, 3] = -1.5
    rays = pixel_rays(K, WIDTH, HEIGHT)
    depths = [(20 + 0.2 * shift) / (1 - 0.2 * rays[..., 0]) for shift in (0.0, 1.5)]
    return K, first, depths[0], second, depths[1]


def test_pixels_of_a_plane_come_back_to_where_they_were():
    K, first, depth, second, other = views_of_a_plane()
    found = reproject(depth, K, first, other, K, second)
    x = torch.arange(WIDTH) + 0.5
    kept = found["valid"] & (x > 10) & (x < 90)
    assert kept.float().mean() > 0.7
    # What is left is that depth is not linear between pixels.
    assert found["error"][kept].max() < 1e-3
    start = torch.stack(torch.meshgrid(x, torch.arange(HEIGHT) + 0.5, indexing="xy"), -1)
    torch.testing.assert_close(found["pixels"][kept], start[kept], rtol=0, atol=1e-3)


def test_rows_alone_give_the_errors_and_gradients_of_the_whole_picture():
    """Where pixels come back to within rounding, too: there the direction is what is left."""
    K, first, depth, second, other = views_of_a_plane()
    gradients, errors = [], []
    for top in (0, 43):
        rows = depth[top:].clone().requires_grad_()
        found = reproject(rows, rows_K(K, top), first, other, K, second)
        found["error"][found["valid"]].sum().backward()
        gradients.append(rows.grad[43 - top :])
        errors.append(found["error"].detach()[43 - top :])
    assert (errors[0] < 1e-5).any()
    torch.testing.assert_close(errors[1], errors[0], rtol=1e-6, atol=1e-7)
    largest = gradients[0].abs().max()
    assert (gradients[1] - gradients[0]).abs().max() < 1e-5 * largest


def test_holes_in_the_other_view_spoil_no_gradients():
    """Depth 0 there leads to that camera's centre, which lies in the plane of this camera."""
    K, first, depth, second, other = views_of_a_plane()
    other[20:40, 30:60] = 0
    depth = depth.clone().requires_grad_()
    found = reproject(depth, K, first, other, K, second)
    near = found["valid"] & (found["error"] < 1)
    torch.where(near, found["error"], 0.0).sum().backward()
    assert found["error"].isinf().any() and near.float().mean() > 0.5
    assert depth.grad.isfinite().all() and bool(depth.grad.any())
