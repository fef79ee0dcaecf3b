"""Frame-by-frame runs against full passes of the same model."""

import gc
import weakref

import pytest
import torch

from mmcity.models.streamvggt import VGGT
from tests.models.streamvggt.tiny import SIZES, random_frames, tiny_model

OUTPUTS = ("pose_enc", "depth", "depth_conf", "world_points", "world_points_conf")
POLICIES = [
    "full",
    "window(3)",
    "knn(3)",
    "chunk(5, 2)",
    {"type": "DiversityPolicy", "budget": 120, "camera_window": 3},
    {"type": "QueryPolicy", "budget": 10, "pool": 2, "camera_window": 3},
    {"type": "AttentionPolicy", "budget": 10, "query_chunk": 4, "camera_window": 3},
]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def stream_all(session, images, start=0):
    """Outputs of all steps, joined along the frame dimension."""
    steps = [session.step(images[:, step]) for step in range(start, images.shape[1])]
    return {name: torch.cat([step[name] for step in steps], dim=1) for name in OUTPUTS}


def assert_same(actual, expected, atol=2e-5):
    for name in OUTPUTS:
        torch.testing.assert_close(actual[name], expected[name], atol=atol, rtol=1e-4)


@pytest.mark.parametrize("window", [None, 1, 2, 4])
@torch.no_grad()
def test_stream_equals_full_pass(model, window):
    images = random_frames(7, batch=2)
    policy = "full" if window is None else f"window({window})"
    assert_same(stream_all(model.stream(policy=policy), images), model.run(images, window=window))


@torch.no_grad()
def test_more_variants_of_the_special_tokens_tell_the_order():
    """Same pictures all along: with two variants frames after the first are alike."""
    images = random_frames(1).expand(-1, 6, -1, -1, -1)
    two = tiny_model(kind=VGGT)
    more = tiny_model(aggregator=dict(SIZES["aggregator"], num_variants=4), kind=VGGT)
    alike, told = (model.run(images)["pose_enc"][0] for model in (two, more))
    assert (alike[1:] - alike[1]).abs().max() < 1e-5 < 1e-4 < (alike[0] - alike[1]).abs().max()
    gaps = (told[1:] - told[:-1]).abs().amax(-1)
    assert (gaps[:3] > 1e-4).all() and (gaps[3:] < 1e-5).all()  # the last one serves the rest
    student = tiny_model(aggregator=dict(SIZES["aggregator"], num_variants=4))
    images = random_frames(6)
    assert_same(stream_all(student.stream(), images), student.run(images))


@torch.no_grad()
def test_window_matters(model):
    images = random_frames(7)
    full, windowed = model.run(images), model.run(images, window=2)
    assert (full["depth"] - windowed["depth"])[:, :3].abs().max() < 1e-5  # nothing dropped yet
    assert (full["depth"] - windowed["depth"])[:, 3:].abs().max() > 1e-4


@torch.no_grad()
def test_rig_steps_equal_full_pass(model):
    images = random_frames(6)
    rig = images.unflatten(1, (3, 2))  # three steps of two cameras
    session = model.stream()
    steps = [session.step(rig[:, step]) for step in range(3)]
    joined = {name: torch.cat([step[name] for step in steps], dim=1) for name in OUTPUTS}
    assert_same(joined, model.run(images, step_frames=2))
    # Cameras of one step see each other, which single frames would not.
    assert (joined["depth"] - model.run(images)["depth"]).abs().max() > 1e-4


# The diversity policy is left out: its layer budgets are shared by the batch.
@pytest.mark.parametrize("policy", [*POLICIES[:4], *POLICIES[5:]], ids=str)
def test_batch_equals_single_streams(model, policy):
    images = random_frames(8, batch=2)
    images[1] *= torch.linspace(0.2, 1, 8).view(-1, 1, 1, 1)  # other frames are similar here
    both = stream_all(model.stream(policy=policy), images)
    for entry in range(2):
        alone = stream_all(model.stream(policy=policy), images[entry : entry + 1])
        assert_same({k: v[entry : entry + 1] for k, v in both.items()}, alone)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("dtype", [None, "int8"])
def test_resume_in_mid_stream(model, policy, dtype, tmp_path):
    images = random_frames(9)
    session = model.stream(policy=policy, cache_dtype=dtype)
    for step in range(5):
        session.step(images[:, step])
    torch.save(session.state_dict(), tmp_path / "stream.pth")
    expected = stream_all(session, images, start=5)

    resumed = model.stream(policy=policy, cache_dtype=dtype)
    resumed.load_state_dict(torch.load(tmp_path / "stream.pth", weights_only=True))
    actual = stream_all(resumed, images, start=5)
    for name in OUTPUTS:
        torch.testing.assert_close(actual[name], expected[name], atol=1e-6, rtol=1e-6)


def test_reset_starts_over(model):
    images = random_frames(4)
    session = model.stream(policy="window(2)")
    first = stream_all(session, images)
    session.reset()
    again = stream_all(session, images)
    for name in OUTPUTS:
        assert torch.equal(first[name], again[name])


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 0.01), ("fp8", 0.05), ("int8", 0.01)])
@torch.no_grad()
def test_low_precision_cache(model, dtype, tolerance):
    images = random_frames(8)
    exact = model.run(images)["depth"]
    session = model.stream(cache_dtype=dtype)
    depth = stream_all(session, images)["depth"]
    error = ((depth - exact).abs() / exact).mean()
    assert 0 < error < tolerance


def test_inference_keeps_no_results(model):
    references = []
    for result in model.inference(random_frames(4)[0], policy="window(2)"):
        gc.collect()
        assert all(reference() is None for reference in references)
        references.append(weakref.ref(result["depth"]))
    assert len(references) == 4


def test_per_frame_results(model):
    views = [{"img": image, "valid_mask": torch.ones(1, 28, 42)} for image in random_frames(2)[0]]
    results = list(model.inference(views))
    shapes = {name: tuple(value.shape) for name, value in results[1].items()}
    assert shapes == {
        "pts3d_in_other_view": (1, 28, 42, 3),
        "conf": (1, 28, 42),
        "depth": (1, 28, 42, 1),
        "depth_conf": (1, 28, 42),
        "camera_pose": (1, 9),
        "valid_mask": (1, 28, 42),
    }


def test_changed_inputs_are_refused(model):
    session = model.stream()
    session.step(random_frames(1)[:, 0])
    with pytest.raises(ValueError, match="one size"):
        session.step(random_frames(1, width=56)[:, 0])
    with pytest.raises(ValueError, match="batch size"):
        session.step(random_frames(1, batch=2)[:, 0])
    with pytest.raises(ValueError, match="multiples of 14"):
        model.run(random_frames(1, width=43))


class TestTracks:
    @pytest.fixture
    def model(self):
        return tiny_model(track=True)

    @torch.no_grad()
    def test_newest_frame_equals_full_pass_within_the_window(self, model):
        images, query = random_frames(4), torch.tensor([[[5.0, 6.0], [30.0, 20.0]]])
        session = model.stream(query_points=query, track_window=4)
        for step in range(4):
            out = session.step(images[:, step])
            full = model.run(images[:, : step + 1], query)
            for name in ("track", "vis", "track_conf"):
                torch.testing.assert_close(out[name], full[name][:, -1:], atol=1e-2, rtol=1e-3)
        assert (out["track"] - query).abs().max() > 1e-3

    def test_window_bounds_memory_and_resumes(self, model):
        images, query = random_frames(6), torch.tensor([[[5.0, 6.0]]])
        session = model.stream(query_points=query, track_window=3)
        for step in range(4):
            session.step(images[:, step])
        state = session.state_dict()
        assert len(state["tracker"]["recent"]) == 2
        expected = session.step(images[:, 4])["track"]
        resumed = model.stream(query_points=query, track_window=3)
        resumed.load_state_dict(state)
        torch.testing.assert_close(resumed.step(images[:, 4])["track"], expected)

    def test_model_without_tracker_refuses_points(self):
        with pytest.raises(ValueError, match="track head"):
            tiny_model().stream(query_points=torch.zeros(1, 1, 2))
