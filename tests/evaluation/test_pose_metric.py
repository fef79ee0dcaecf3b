"""Errors of localised queries."""

import torch

from mmcity.evaluation.metrics import PoseMetric
from mmcity.structures import Cameras


def camera(x: float = 0.0) -> Cameras:
    viewmat = torch.eye(4)
    viewmat[0, 3] = -x
    return Cameras(torch.eye(3)[None], viewmat[None], 4, 3)


def test_recalls_count_queries_within_metres_and_degrees():
    metric = PoseMetric(unit_scale=2.0, thresholds=[(0.5, 1.0), (3.0, 1.0)])
    predictions = [camera(), camera(1.0), None]  # right, two metres off, lost
    metric.process({}, [{"camera": camera(), "pred_camera": p} for p in predictions])
    numbers = metric.compute_metrics(metric.results)
    recalls = [value for name, value in numbers.items() if name.startswith("recall")]
    assert [round(3 * value) for value in recalls] == [1, 2]
    assert round(3 * numbers["localized"]) == 2
