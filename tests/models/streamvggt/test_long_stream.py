"""A thousand frames: time and memory per frame stay what they were."""

import pytest
import torch

from mmcity.workflow.benchmarks.streaming import NaiveStream, build_model, measure_policy
from tests.devices import DEVICE

POLICIES = [
    "window(8)",
    "knn(8)",
    "chunk(20, 4)",
    "diversity(1200)",
    "query(128)",
    "attention(128)",
]


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_bounded_policies_are_flat(policy):
    model, image = build_model("tiny")
    rows = measure_policy(model, image, policy, 1000)
    # Other programs only make a frame slower, so the least of many is what it takes.
    assert min(rows["ms"][900:]) <= 1.1 * min(rows["ms"][60:160])
    held = rows["cache"][100:]
    if policy.startswith("chunk"):
        assert max(held) == max(rows["cache"][:100])
    else:
        assert len(set(held)) == 1
    grown = rows["memory"][-1] - rows["memory"][100]
    assert grown < 8 * 2**20, f"resident memory grew by {grown} bytes"


def test_full_policy_grows_by_the_formula():
    """Two tensors per pair of blocks and frame, and two per camera block and pass."""
    model, image = build_model("tiny")
    rows = measure_policy(model, image, "full", 4)
    tokens = model.aggregator.num_special + image[0] // 14 * (image[1] // 14)
    pairs, channels = model.aggregator.depth, model.camera_head.token_norm.normalized_shape[0]
    per_frame = 2 * 4 * pairs * tokens * channels // 2
    per_frame += 2 * 4 * model.camera_head.trunk_depth * model.camera_head.num_iterations * channels
    assert rows["cache"] == [per_frame * count for count in (1, 2, 3, 4)]


def test_naive_form_gives_the_same_numbers():
    """What the benchmark compares with is the same network."""
    model, image = build_model("tiny")
    naive, session = NaiveStream(model.to(DEVICE)), model.stream()
    frames = torch.rand(4, 1, 3, *image, generator=torch.Generator().manual_seed(0))
    for frame in frames:
        with torch.no_grad():
            expected, actual = naive.step(frame), session.step(frame)
        for name in ("depth", "world_points", "pose_enc"):
            torch.testing.assert_close(actual[name], expected[name], atol=1e-5, rtol=1e-4)
    assert naive.nbytes == session.cache.nbytes
