"""torch.compile and flex attention give the numbers of the plain form."""

import pytest
import torch

from mmcity.models.layers import flex_frame_causal_attention, frame_causal_attention
from tests.devices import on_the_cpu
from tests.models.streamvggt.tiny import SIZES, random_frames, tiny_model

pytestmark = on_the_cpu("the compiler cannot trace how the suite places tensors")


@pytest.mark.parametrize("window", [None, 2])
def test_flex_attention_follows_the_rule(window):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 35, 8, generator=generator) for _ in range(3))
    expected = frame_causal_attention(q, k, v, 7, window)
    actual = flex_frame_causal_attention(q, k, v, 7, window, compiled=False)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_flex_attention_refuses_what_it_cannot():
    q = torch.randn(1, 1, 10, 8)
    with pytest.raises(ValueError, match="multiple of step_tokens"):
        flex_frame_causal_attention(q, q, q, 3)
    q.requires_grad_()
    with pytest.raises(NotImplementedError, match="causal_kernel: expected 'steps'"):
        flex_frame_causal_attention(q, q, q, 5)
    with pytest.raises(ValueError, match="causal_kernel"):
        tiny_model(aggregator={**SIZES["aggregator"], "causal_kernel": "dense"})


@pytest.mark.slow
@torch.no_grad()
def test_model_with_the_compiled_flex_kernel():
    plain = tiny_model()
    flex = tiny_model(aggregator={**SIZES["aggregator"], "causal_kernel": "flex"})
    flex.load_state_dict(plain.state_dict())
    expected, actual = plain.run(random_frames(4)), flex.run(random_frames(4))
    for name in ("depth", "world_points", "pose_enc"):
        torch.testing.assert_close(actual[name], expected[name], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_whole_pass_is_one_graph():
    """Captured without a break; the captured graph gives the same numbers."""
    model, images = tiny_model(), random_frames(3)
    expected = model.run(images)
    torch.compiler.reset()
    compiled = torch.compile(model.run, backend="aot_eager", fullgraph=True)
    actual = compiled(images)
    for name in ("depth", "world_points", "pose_enc"):
        torch.testing.assert_close(actual[name], expected[name], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_generated_code_gives_the_same_outputs():
    model, images = tiny_model(), random_frames(2)
    expected = model.run(images)
    torch.compiler.reset()
    actual = torch.compile(model.run)(images)
    for name in ("depth", "world_points", "pose_enc"):
        torch.testing.assert_close(actual[name], expected[name], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_gradients_of_the_captured_graph():
    """Forward and backward graph, decomposed and cut as the code generator gets them.

    The generated code itself is not tested: that of torch 2.13 for CPUs returns zeros for the
    gradients of some convolutions of the depth head.
    """
    torch.compiler.reset()
    gradients = []
    for wrap in (lambda run: run, _captured):
        model = tiny_model().train()
        outputs = wrap(model.run)(random_frames(2))
        loss = outputs["depth"].log().mean() + outputs["pose_enc"].square().mean()
        (loss + outputs["world_points"].square().mean()).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    plain, compiled = gradients
    assert plain.keys() <= compiled.keys()
    error = total = 0.0
    for name, gradient in compiled.items():  # what is not used gets zeros there, nothing here
        expected = plain.get(name, torch.zeros_like(gradient))
        error += float((gradient - expected).square().sum())
        total += float(expected.square().sum())
    assert error < 1e-8 * total  # a relative error of 1e-4


def _captured(run):
    return torch.compile(run, backend="aot_eager_decomp_partition")
