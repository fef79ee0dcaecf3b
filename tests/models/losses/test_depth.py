"""Losses on depth maps against their plain formulas."""

import pytest
import torch

from mmcity.models.losses.depth import masked_l1, scale_invariant_log


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    pred, target = (5 * torch.rand(3, 6, 8, generator=generator) + 1 for _ in range(2))
    target[0, :2] = 0
    pred[0, 4, 4] = torch.nan
    target[1] = 0  # an image without any depth
    return pred, target


def test_scale_invariant_log_is_the_mean_over_images_of_known_pixels(maps):
    pred, target = maps
    pred.requires_grad_()
    expected = []
    for p, t in zip(*maps):
        chosen = (t > 0) & ~p.isnan()
        error = t[chosen].log() - p[chosen].log()
        expected.append((error.square().mean() - 0.5 * error.mean().square()).sqrt())
    loss = scale_invariant_log(pred, target)
    torch.testing.assert_close(loss, (expected[0] + expected[2]) / 3)
    (gradient,) = torch.autograd.grad(loss, pred)
    assert (gradient[1] == 0).all() and (gradient[0, :2] == 0).all()
    assert (gradient[2] != 0).all()


def test_masked_l1_is_the_mean_over_known_pixels(maps):
    pred, target = maps
    pred = pred.nan_to_num(3.0)
    known = target != 0
    torch.testing.assert_close(masked_l1(pred, target), (pred[known] - target[known]).abs().mean())
    assert masked_l1(pred, torch.zeros_like(target)) == 0
