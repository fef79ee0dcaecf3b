"""A thousand frames: time and memory per frame stay what they were."""

import argparse

import pytest
import torch

from tools.analysis_tools import benchmark_streaming

POLICIES = [
    "window(8)",
    "knn(8)",
    "chunk(20, 4)",
    "diversity(1200)",
    "query(128)",
    "attention(128)",
]
ARGS = argparse.Namespace(dtype="fp32", device="cpu", cache_dtype=None)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_bounded_policies_are_flat(policy):
    model, image = benchmark_streaming.build_model("tiny")
    rows = benchmark_streaming.measure(model, image, policy, 1000, ARGS)
    # Chunks are a saw tooth: the same place in the period is compared.
    period = 16 if policy.startswith("chunk") else 20
    early = min(rows["ms"][60 - period : 60 + period])
    late = min(rows["ms"][1000 - 2 * period :])
    assert late <= 1.1 * early
    held = rows["cache"][100:]
    if policy.startswith("chunk"):
        assert max(held) == max(rows["cache"][:100])
    else:
        assert len(set(held)) == 1
    grown = rows["memory"][-1] - rows["memory"][100]
    assert grown < 8 * 2**20, f"resident memory grew by {grown} bytes"


def test_naive_form_gives_the_same_numbers():
    """What the benchmark compares with is the same network."""
    model, image = benchmark_streaming.build_model("tiny")
    naive, session = benchmark_streaming.NaiveStream(model), model.stream()
    frames = torch.rand(4, 1, 3, *image, generator=torch.Generator().manual_seed(0))
    for frame in frames:
        with torch.no_grad():
            expected, actual = naive.step(frame), session.step(frame)
        for name in ("depth", "world_points", "pose_enc"):
            torch.testing.assert_close(actual[name], expected[name], atol=1e-5, rtol=1e-4)
    assert naive.nbytes == session.cache.nbytes
