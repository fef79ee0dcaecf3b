"""The mixed precision optimiser wrapper on the CPU."""

import pytest
import torch
from torch import nn

from mmcity.engine.optim import MixedPrecisionOptimWrapper


def make(**kwargs):
    torch.manual_seed(0)
    model = nn.Linear(4, 1, bias=False)
    return model, MixedPrecisionOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0), **kwargs
    )


def one_step(model, wrapper, factor=1.0) -> torch.Tensor:
    with wrapper.optim_context(model):
        output = model(torch.ones(2, 4))
    wrapper.update_params(factor * output.float().mean())
    return output


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_forward_is_cast_and_the_update_is_not_scaled(dtype):
    model, wrapper = make(dtype=dtype, loss_scale=1024.0)
    before = model.weight.detach().clone()
    assert one_step(model, wrapper).dtype == getattr(torch, dtype)
    # d mean(w x) / d w = 1 for x = 1, whatever the scale of the loss was
    torch.testing.assert_close(model.weight.detach(), before - 1.0)


def test_gradients_are_unscaled_before_clipping():
    model, wrapper = make(dtype="float16", loss_scale=1024.0, clip_grad=dict(max_norm=0.5))
    before = model.weight.detach().clone()
    one_step(model, wrapper)
    assert (model.weight.detach() - before).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_overflow_skips_the_step_and_lowers_the_scale():
    model, wrapper = make(dtype="float16")
    before, scale = model.weight.detach().clone(), wrapper.loss_scaler.get_scale()
    one_step(model, wrapper, factor=float("inf"))
    assert torch.equal(model.weight.detach(), before)
    assert wrapper.loss_scaler.get_scale() < scale


def test_state_of_the_scaler_is_restored():
    model, wrapper = make(dtype="float16")
    one_step(model, wrapper, factor=float("inf"))
    _, other = make(dtype="float16")
    other.load_state_dict(wrapper.state_dict())
    assert other.loss_scaler.get_scale() == wrapper.loss_scaler.get_scale()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="float16.*got 'float8'"):
        make(dtype="float8")
    with pytest.raises(TypeError, match="loss_scale: .* got -1"):
        make(loss_scale=-1)
