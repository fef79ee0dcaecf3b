"""The frame of a model in its checkpoints."""

import pytest
import torch

from mmcity.engine.checkpointing import CheckpointError, check_matches_model, load_weights
from mmcity.models.layers import frame_in_state
from mmcity.structures import SceneFrame
from tests.models.gaussian_splatting.helpers import make_model

FRAMES = [
    SceneFrame(origin=(452310.25, 5411872.75, 213.5)),
    SceneFrame(crs="ENU", lla=(48.5, 8.25, 310.0), scale=2.5, translation=(1.0, 2.0, 3.0)),
    SceneFrame(crs='PROJCS["Größe"]', unit="ft"),
]


@pytest.mark.parametrize("frame", FRAMES)
def test_the_frame_travels_in_the_state_dict(frame):
    model = make_model()
    model.placement.frame = frame
    state = model.to(torch.float16).state_dict()  # which is for the parameters alone
    assert state["placement.origin"].dtype == torch.float64
    assert frame_in_state(state) == frame
    other = make_model()
    load_weights(other, state, "scene.pth")
    check_matches_model(other, state, "scene.pth")
    assert other.placement.frame == frame == other.to_gaussians().frame


def test_checkpoints_without_a_frame_mean_the_identity():
    plain = make_model()
    state = plain.state_dict()
    assert not any(key.startswith("placement") for key in state)
    model = make_model()
    model.placement.frame = FRAMES[0]
    check_matches_model(model, state, "old.pth")
    load_weights(model, state, "old.pth")
    assert model.placement.frame.is_identity and model.to_gaussians().frame is None
    with pytest.raises(CheckpointError, match="unknown to the model: other"):
        check_matches_model(model, {**state, "other": torch.zeros(1)}, "old.pth")
