"""F1 of point clouds as Tanks and Temples measures it."""

import numpy as np
import pytest

from mmcity.evaluation.functional.point_clouds import crop_to_polygon, f1_tnt, thin_points


def grid(step, extent=4.0):
    x, y = np.meshgrid(np.arange(0, extent, step), np.arange(0, extent, step))
    return np.stack([x.ravel(), y.ravel(), 0.2 * np.sin(3 * x.ravel()) + 0.1 * y.ravel()], 1)


def test_thinning_keeps_one_mean_per_cell():
    points = np.array([[0.1, 0, 0], [0.3, 0, 0], [1.2, 0, 0], [-0.1, 0, 0]])
    thinned = thin_points(points, 1.0)
    assert sorted(thinned[:, 0]) == pytest.approx([-0.1, 0.2, 1.2])


def test_crop_keeps_a_concave_prism():
    corners = [[0, 0, 9], [4, 0, 9], [4, 4, 9], [2, 1, 9], [0, 4, 9]]  # a notch from above
    crop = dict(orthogonal_axis="Z", axis_min=-1, axis_max=1, bounding_polygon=corners)
    points = np.array([[1, 1, 0], [2, 3, 0], [3.8, 3, 0], [1, 1, 2], [5, 1, 0], [2, 0.5, 0.0]])
    assert crop_to_polygon(points, crop).tolist() == points[[0, 2, 5]].tolist()


def test_misaligned_copy_scores_one_after_alignment_and_half_a_surface_recalls_half():
    truth = grid(0.05)
    angle = 0.01
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = [0.03, -0.02, 0.01]
    moved = truth @ turn[:3, :3].T + turn[:3, 3]
    assert f1_tnt(moved, truth, 0.1)["f1"] > 0.99
    half = truth[truth[:, 0] < 2]
    scores = f1_tnt(half, truth, 0.1)
    assert scores["precision"] > 0.99 and scores["recall"] == pytest.approx(0.5, abs=0.04)
    inverse = np.linalg.inv(turn)
    assert f1_tnt(moved, truth, 0.1, transform=inverse)["f1"] > 0.99
