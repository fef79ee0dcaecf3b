"""Means over chosen entries equal those of the chosen entries alone."""

import torch

from mmcity.models.losses import masked_mean


def test_mean_and_gradient_are_those_of_the_chosen_entries():
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(2, 5, 4, generator=generator) > 0.4
    for shape in ((2, 5, 4), (2, 5, 4, 3)):
        values = torch.randn(shape, generator=generator)
        values[~mask] = torch.nan
        values.requires_grad_()
        expected = values[mask].mean()
        (gradient,) = torch.autograd.grad(expected, values)
        found = masked_mean(values, mask)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found, values)[0], gradient)


def test_mean_of_nothing_is_zero():
    values = torch.randn(3, requires_grad=True)
    found = masked_mean(values, torch.zeros(3, dtype=torch.bool))
    found.backward()
    assert float(found) == 0 and (values.grad == 0).all()
