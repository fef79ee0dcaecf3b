"""The published width of the network over real videos, with few layers and random weights."""

import pytest
import torch

from mmcity.datasets.sequences import EvalSequenceDataset
from mmcity.evaluation.metrics import (
    ReconstructionMetric,
    RelativePoseMetric,
    SequenceDepthMetric,
    TrajectoryMetric,
)
from mmcity.models.streamvggt import StreamVGGT
from tests.conftest import real_data_dir

VIDEOS = {
    "kitti_stream": ((84, 280), {"depth_scale": 256.0}),
    "redkitchen_stream": ((140, 182), {"use_depth_camera": True}),
}


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", VIDEOS)
def test_pipeline(name):
    size, args = VIDEOS[name]
    data = EvalSequenceDataset(
        "posed_video",
        real_data_dir(name),
        resize="principal_point",
        image_size=size,
        max_frames=5,
        **args,
    )
    torch.manual_seed(0)
    head = {"layers": (0, 0, 1, 1)}
    model = StreamVGGT(
        aggregator={"depth": 2, "dino_depth": 2},
        depth_head=head,
        point_head=head,
        camera_head={"trunk_depth": 1},
        track_head=None,
        predict_stream={"policy": "window(3)", "cache_dtype": "bf16"},
    ).eval()
    item = data[0]
    with torch.no_grad():
        model(item["inputs"]["images"][None], [item["data_samples"]], mode="predict")
    sample = item["data_samples"].to_dict()
    assert model.last_cache_nbytes > 0
    metrics = [
        SequenceDepthMetric("video"),
        SequenceDepthMetric("mono"),
        RelativePoseMetric(),
        TrajectoryMetric(),
        ReconstructionMetric(crop=84),
    ]
    for metric in metrics:
        metric.process({}, [sample])
        values = metric.evaluate(1)
        assert values and all(torch.isfinite(torch.tensor(v)) for v in values.values())
