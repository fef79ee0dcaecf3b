"""A training step of a scene goes back from each render before it makes the next."""

import weakref

import pytest
import torch
from mmengine.optim import OptimWrapper

from mmcity.engine.optim import MixedPrecisionOptimWrapper
from mmcity.structures import Cameras
from tests.devices import DEVICE
from tests.models.gaussian_splatting.helpers import make_model, ring_of_cameras, samples_of


class Saved:
    """A tensor that a graph keeps for its backward pass."""

    def __init__(self, tensor):
        self.tensor = tensor


def batch():
    """Three views of two sizes, of which the first and last are rendered together."""
    cameras = ring_of_cameras()
    samples = samples_of(cameras)[:3]
    samples[1].camera = Cameras.resize(samples[1].camera, 24, 20)
    torch.manual_seed(1)
    sizes = [sample.camera.one_size() for sample in samples]
    return dict(inputs=[torch.rand(3, h, w) for w, h in sizes], data_samples=samples)


def make_scene():
    model = make_model(exposure=dict(type="AffineExposure")).train()
    return model, OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))


def test_the_graph_of_a_render_is_free_before_the_next(monkeypatch):
    model, wrapper = make_scene()
    alive, found = weakref.WeakSet(), []
    plain = model.view_losses

    def view_losses(rows, inputs, samples):
        found.append(len(alive))
        return plain(rows, inputs, samples)

    def pack(tensor):
        saved = Saved(tensor)
        alive.add(saved)
        return saved

    monkeypatch.setattr(model, "view_losses", view_losses)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        model.train_step(batch(), wrapper)
    assert found == [0, 0]
    found.clear()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        losses = model(**batch(), mode="loss")
    assert found[1] > 0 and losses  # whoever asks for all losses at once keeps all graphs


def test_the_step_is_that_of_the_sum_of_all_losses():
    model, wrapper = make_scene()
    log = model.train_step(batch(), wrapper)
    whole, _ = make_scene()
    losses = whole(**batch(), mode="loss")
    assert list(log) == ["loss", *losses] and not log["loss"].requires_grad
    for name, value in losses.items():
        torch.testing.assert_close(log[name], value.detach(), rtol=1e-6, atol=1e-7)
    sum(losses.values()).backward()
    for (name, ours), theirs in zip(model.named_parameters(), whole.parameters()):
        stepped = theirs.detach() - 0.1 * theirs.grad
        torch.testing.assert_close(ours.detach(), stepped, rtol=1e-5, atol=1e-7, msg=name)


def test_steps_that_gather_gradients_are_counted_once():
    model, _ = make_scene()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    before = model.splats.means.detach().clone()
    model.train_step(batch(), wrapper)
    assert torch.equal(model.splats.means, before)
    model.train_step(batch(), wrapper)
    assert not torch.equal(model.splats.means, before)


def test_a_loss_that_is_not_finite_names_its_photographs():
    model, wrapper = make_scene()
    data = batch()
    data["inputs"][2][0, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"^0\.png, 2\.png: loss_l1: expected a finite"):
        model.train_step(data, wrapper)
    with pytest.raises(FloatingPointError, match=r"^0\.png, 2\.png: loss_l1: expected a finite"):
        model(**data, mode="loss")


@pytest.mark.parametrize("overflows", [False, True])
def test_kept_gradients_are_those_without_the_scale_of_mixed_precision(overflows):
    kept = []
    for scale in (None, 1024.0):
        model, wrapper = make_scene()
        model.keeps_statistics = model.absgrad = True
        if scale:
            wrapper = MixedPrecisionOptimWrapper(
                dtype="float16", loss_scale=dict(init_scale=scale), optimizer=wrapper.optimizer
            )
        before = model.splats.means.detach().clone()
        if overflows and scale:
            model.splats.opacity_logits.register_hook(lambda gradient: gradient * torch.inf)
            model.splats.means.register_hook(lambda gradient: gradient * torch.inf)
        model.train_step(batch(), wrapper)
        assert torch.equal(model.splats.means, before) == bool(overflows and scale)
        kept.append([(v["means2d"].grad, v["means2d"].absgrad) for v in model.take_views()])
    for theirs, ours in zip(*kept):
        for a, b in zip(theirs, ours):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-9)


def test_mixed_precision_leaves_geometry_as_it_is():
    model, _ = make_scene()
    cameras = ring_of_cameras()
    expected = cameras.centers, model.render(cameras)["depth"]
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        found = cameras.centers, model.render(cameras)["depth"]
        assert (cameras.Ks @ cameras.Ks).dtype == torch.bfloat16
    for a, b in zip(found, expected):
        assert torch.equal(a, b)
