"""Angles between normals."""

import math

import pytest
import torch

from mmcity.evaluation.functional import normal_errors


def turned(degrees):
    angle = math.radians(degrees)
    return [0.0, math.sin(angle), math.cos(angle)]


def test_angles_of_known_turns():
    pred = torch.tensor([turned(d) for d in (0.0, 10.0, 20.0, 180.0)]) * 3.0
    gt = torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3)
    errors = normal_errors(pred, gt)
    assert errors["mean"] == pytest.approx(52.5, abs=1e-4)
    assert errors["median"] == pytest.approx(10.0, abs=1e-4)
    assert errors["below_11"] == 0.5
    assert errors["below_22"] == errors["below_30"] == 0.75


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ValueError, match="N > 0"):
        normal_errors(torch.zeros(0, 3), torch.zeros(0, 3))
