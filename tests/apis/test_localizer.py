"""Localising pictures in a room that is rendered exactly."""

import numpy as np
import pytest
import torch

from mmcity.apis import Localizer
from mmcity.evaluation.functional.localization import localization_errors
from mmcity.structures import Cameras
from tests.models.rap.textured_room import render_room, room_camera


class MappedRoom:
    """The part of a dataset of posed images that the localiser reads."""

    def __init__(self):
        angles = np.arange(0, 360, 30)
        turns = [(np.sin(np.radians(a)), 0.0, np.cos(np.radians(a))) for a in angles]
        self.cameras = Cameras.cat([room_camera((0.0, 0.0, 0.0), turn) for turn in turns])
        self.img_names = [f"map_{a:03d}.jpg" for a in angles]

    def __len__(self):
        return len(self.cameras)

    def load(self, row):
        return {"img": picture(self.cameras[row])}


def picture(camera: Cameras) -> np.ndarray:
    return (render_room(camera)["rgb"] * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.fixture(scope="module")
def localizer():
    return Localizer(render_room, MappedRoom())


def test_picture_between_mapped_ones(localizer):
    truth = room_camera((0.2, 0.1, -0.2), (1.6, 0.1, 2.0))
    (result,) = localizer(picture(truth))
    metres, degrees = localization_errors(result.camera.cam_to_world, truth.cam_to_world)
    assert result.status == "ok" and result.source.startswith("mapped:map_0")
    assert float(metres) < 0.01 and float(degrees) < 0.1
    assert result.details["sigma_translation"] < 0.01
    assert result.seconds["refinement"] > 0


def test_unreadable_file_does_not_stop_the_others(localizer, tmp_path):
    from PIL import Image

    (tmp_path / "a.jpg").write_bytes(b"no picture")
    Image.fromarray(picture(room_camera((0.0, 0.1, 0.0), (0.1, 0.0, 2.0)))).save(tmp_path / "b.png")
    broken, good = localizer(tmp_path)
    assert broken.status == "failed" and "a.jpg" in broken.reason and broken.camera is None
    assert good.status == "ok" and good.name == "b.png"


def test_another_place_is_not_ok(localizer):
    noise = np.random.RandomState(0).randint(0, 255, (120, 160, 3), np.uint8)
    (result,) = localizer(noise)
    assert result.status == "failed" and result.confidence == 0 and result.reason


def test_proportions_without_intrinsics_are_refused(localizer):
    with pytest.raises(ValueError, match="give its intrinsics"):
        localizer.localize(np.zeros((120, 120, 3), np.uint8))


def test_something_must_give_a_first_pose():
    with pytest.raises(ValueError, match="pose network"):
        Localizer(render_room)


def test_regression_alone_is_not_called_ok(tmp_path):
    config = dict(
        type="RAPTrainer",
        network=dict(
            type="RAPNet",
            backbone=dict(width=0.25),
            hidden_dim=16,
            num_heads=2,
            feedforward_dim=16,
            num_encoder_layers=1,
        ),
        data_preprocessor=dict(type="LocalizationPreprocessor", size=(48, 64)),
    )
    from mmcity.registry import MODELS
    from mmcity.utils.setup_env import register_all_modules

    register_all_modules()
    model = MODELS.build(config).eval()
    path = tmp_path / "net.pth"
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)
    localizer = Localizer(config=config, checkpoint=path)
    K = np.array([[130.0, 0, 80], [0, 130.0, 60], [0, 0, 1]])
    (result,) = localizer(np.zeros((120, 160, 3), np.uint8), K)
    assert result.status == "low_confidence" and "not verified" in result.reason
    assert torch.allclose(result.camera.viewmats, result.regressed.viewmats)
