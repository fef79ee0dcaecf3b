"""Losses of one's own that configs add to scene models."""

import pytest
import torch

from mmcity.models.citygsx import CityGSXObjective
from mmcity.models.losses import build_losses, gaussian_loss
from mmcity.registry import MODELS
from tests.models.citygsx.test_switches import losses, objective, plane_view


@MODELS.register_module(force=True)
class LargestScale(torch.nn.Module):
    applies_to = "scales"

    def forward(self, scales):
        return scales.amax()


def test_extra_losses_count_beside_the_others_by_their_own_weights():
    extra = dict(
        loss_again=dict(type="L1Loss", loss_weight=3.0), loss_largest=dict(type="LargestScale")
    )
    plain, found = losses(objective()), losses(objective(extra_losses=extra))
    view = plane_view()
    expected = 3 * (view["image"] - view["target"]).abs().mean()
    torch.testing.assert_close(found.pop("loss_again"), expected)
    torch.testing.assert_close(found.pop("loss_largest"), view["scales"].max())
    assert found.keys() == plain.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, plain[name])


def test_losses_of_gaussians_get_what_they_ask_for():
    opacities, scales = torch.tensor([0.25, 0.75]), torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    built = build_losses(
        dict(
            loss_opacity=dict(type="OpacityLoss", loss_weight=2.0),
            loss_scale=dict(type="ScaleLoss", loss_weight=2.0),
            loss_l1=dict(type="L1Loss"),
        )
    )
    values = [gaussian_loss(loss, opacities, scales, 7.0) for loss in built.values()]
    assert values[0].item() == pytest.approx(1.0) and values[1].item() == pytest.approx(1.0)
    assert values[2] is None


@pytest.mark.parametrize(
    ("name", "message"),
    [("mine", "expected names with 'loss'.*'loss_mine'"), ("loss_ssim", "got 'loss_ssim'")],
)
def test_a_name_that_would_be_left_out_or_is_taken_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        CityGSXObjective(extra_losses={name: dict(type="L1Loss")})


def test_a_subject_that_no_model_knows_is_refused(monkeypatch):
    monkeypatch.setattr(LargestScale, "applies_to", "colours")
    with pytest.raises(ValueError, match="loss_x: applies_to: expected .*opacities.*'colours'"):
        build_losses(dict(loss_x=dict(type="LargestScale")))
