"""Items that have no value: empty masks, paths that cannot be aligned, poses that are unknown."""

import math

import numpy as np
import pytest
import torch

from mmcity.evaluation.functional.camera_poses import trajectory_errors
from mmcity.evaluation.functional.means import item_means
from mmcity.evaluation.metrics import ImageQualityMetric, RelativePoseMetric, TrajectoryMetric
from mmcity.structures import Trajectory


def path(centers, turn=0.0):
    poses = torch.eye(4, dtype=torch.float64).repeat(len(centers), 1, 1)
    angle = torch.arange(len(centers), dtype=torch.float64) * turn
    poses[:, 0, 0] = poses[:, 1, 1] = angle.cos()
    poses[:, 1, 0], poses[:, 0, 1] = angle.sin(), -angle.sin()
    poses[:, :3, 3] = torch.as_tensor(centers, dtype=torch.float64)
    return Trajectory(poses, validate=False)


LINE = np.outer(np.arange(5.0), [1, 2, 0])
CURVE = LINE + np.outer(np.arange(5.0) ** 2, [0, 0, 0.3])


def test_means_count_what_has_a_value():
    rows = [{"a": 1.0, "b": math.nan}, {"a": 3.0}, {"a": None, "b": 5.0}]

    assert item_means(rows, ["a", "b", "c"]) == {"a": 2.0, "b": 5.0}


def test_items_without_any_error_do_not_make_a_mean_infinite(monkeypatch):
    from mmcity.evaluation.functional import means

    said = []
    monkeypatch.setattr(means, "print_log", lambda text, *_: said.append(text))
    rows = [{"psnr": math.inf}, {"psnr": 20.0}, {"psnr": 30.0}]

    assert item_means(rows, ["psnr"]) == {"psnr": 25.0}
    assert said == ["psnr: 1 of 3 items are infinite, left out of the mean"]
    assert item_means(rows[:1], ["psnr"]) == {"psnr": math.inf}


def test_an_image_without_counted_pixels_does_not_spoil_the_mean():
    metric = ImageQualityMetric()
    image = torch.full((3, 16, 16), 0.5)
    masks = [torch.zeros(16, 16, dtype=torch.bool), torch.ones(16, 16, dtype=torch.bool)]
    samples = [
        {"img_name": f"{i}.png", "pred_image": image + 0.1, "gt_image": image, "gt_mask": mask}
        for i, mask in enumerate(masks)
    ]

    metric.process({}, samples)
    means = metric.compute_metrics(metric.results)

    assert means["psnr"] == pytest.approx(20.0, abs=1e-3) and means["n_images"] == 1
    with pytest.raises(ValueError, match="expected pixels that count, got none in 1 images"):
        metric.compute_metrics(metric.results[:1])


def test_straight_paths_have_errors():
    pred = path(3 * LINE[:, [1, 0, 2]] + 7)  # another line, three times as long
    bent = LINE + [[0, 0, 0], [0, 0, 0.1], [0, 0, 0], [0, 0, -0.1], [0, 0, 0]]

    assert trajectory_errors(pred, path(LINE))["ate"] == pytest.approx(0, abs=1e-9)
    # Against a line the best fit turns the bent path a little; never worse than unturned.
    assert 0.03 < trajectory_errors(path(bent), path(LINE))["ate"] <= np.sqrt(0.02 / 5)


def test_frames_without_a_true_pose_do_not_count():
    gt = path(CURVE)
    whole = trajectory_errors(path(CURVE * 2, 0.01)[[0, 1, 2, 4]], gt[[0, 1, 2, 4]])
    gt.poses[3] = -math.inf

    assert trajectory_errors(path(CURVE * 2, 0.01), gt) == whole


@pytest.mark.parametrize(
    ("pred", "gt", "message"),
    [
        (CURVE, np.ones((5, 3)), "the true path stands in one place"),
        (np.ones((5, 3)), CURVE, "the predicted path stands in one place"),
        (CURVE * math.nan, CURVE, "expected finite predicted poses"),
        (CURVE, np.full((5, 3), -math.inf), "at least 3 frames with a true pose, got 0"),
    ],
)
def test_paths_that_cannot_be_aligned_are_skipped_by_name(pred, gt, message, monkeypatch):
    from mmcity.evaluation.functional import means

    said = []
    monkeypatch.setattr(means, "print_log", lambda text, *_: said.append(text))
    metric = TrajectoryMetric()
    metric.process({}, [
        {"sequence": "odd", "trajectory": path(gt), "pred_trajectory": path(pred)},
        {"sequence": "good", "trajectory": path(CURVE), "pred_trajectory": path(CURVE + 1)},
    ])  # fmt: skip

    found = metric.compute_metrics(metric.results)

    assert found["ate"] == pytest.approx(0, abs=1e-9)
    assert (found["n_sequences"], found["n_left_out"]) == (1, 1)
    assert said[0].startswith("1 of 2 sequences are left out") and message in said[0]
    assert "odd: " in said[0]


def test_relative_poses_leave_unknown_frames_out():
    gt = path(CURVE, 0.1)
    gt.poses[2] = -math.inf
    metric = RelativePoseMetric()
    metric.process({}, [{"sequence": "a", "trajectory": gt, "pred_trajectory": path(CURVE, 0.1)}])

    assert metric.compute_metrics(metric.results)["RRA@5"] == 1
