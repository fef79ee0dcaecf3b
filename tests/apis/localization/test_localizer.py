"""Localising pictures in a room that is rendered exactly."""

import numpy as np
import pytest
import torch

from mmcity.apis import Localizer
from mmcity.apis.localization.report import LocalizationReport, read_pose_file, read_report
from mmcity.evaluation.functional.localization import localization_errors
from mmcity.structures import Cameras, SceneFrame, Sim3
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


def test_first_pose_from_elsewhere(localizer):
    truth = room_camera((0.2, 0.1, -0.2), (1.6, 0.1, 2.0))
    near = room_camera((0.3, 0.0, -0.2), (1.5, 0.1, 2.0)).viewmats[0].numpy()
    result = localizer.localize(picture(truth), start=near)
    metres, degrees = localization_errors(result.camera.cam_to_world, truth.cam_to_world)
    assert result.status == "ok" and result.source == "given"
    assert float(metres) < 0.01 and float(degrees) < 0.1
    away = room_camera((0.0, 0.0, 0.0), (-1.6, 0.1, -2.0)).viewmats[0].numpy()
    assert localizer.localize(picture(truth), start=away).status == "failed"


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


def distorted(camera: Cameras, k1: float) -> np.ndarray:
    """The picture that a lens with radial distortion takes, by tracing each pixel back."""
    import cv2

    width, height = camera.one_size()
    K = camera.Ks[0].double().numpy()
    y, x = np.mgrid[:height, :width] + 0.5
    pixels = np.stack([x, y], -1).reshape(-1, 1, 2)
    flat = cv2.undistortPoints(pixels, K, np.array([k1, 0, 0, 0]), None, None, K)[:, 0]
    source = picture(camera)
    table = (flat - 0.5).reshape(height, width, 2).astype(np.float32)
    return cv2.remap(source, table, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def test_query_of_another_camera_with_distortion(localizer):
    """Another size, focal length and lens than the mapped ones."""
    truth = room_camera((0.2, 0.1, -0.2), (1.6, 0.1, 2.0), width=200, height=140, focal=190.0)
    image, K = distorted(truth, -0.25), truth.Ks[0].numpy()
    result = localizer.localize(image, K, distortion=np.array([-0.25, 0, 0, 0]))
    straight = localizer.localize(image, K)
    error = [
        float(localization_errors(r.camera.cam_to_world, truth.cam_to_world)[0])
        for r in (result, straight)
    ]
    assert result.status == "ok" and error[0] < 0.02
    assert error[1] > 2 * error[0]


def test_mixed_queries_get_a_status_each(localizer, tmp_path):
    """Good, unreadable, of another place, and plain: no exception, in the order given."""
    from PIL import Image

    good = picture(room_camera((0.0, 0.1, 0.0), (0.1, 0.0, 2.0)))
    other = np.random.RandomState(1).randint(0, 255, good.shape, np.uint8)
    for name, pixels in (("a.png", good), ("c.png", other), ("d.png", np.zeros_like(good))):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8 cut off")
    results = list(localizer(tmp_path))
    assert [r.name[-5:] for r in results] == ["a.png", "b.jpg", "c.png", "d.png"]
    assert [r.status for r in results] == ["ok", "failed", "failed", "failed"]
    assert all(r.reason for r in results[1:])
    assert min(results[0].confidence, 1) > max(r.confidence for r in results[1:])


def test_photograph_is_matched_where_the_map_is_poor():
    """A map without texture has no key points; photographs with its depth still localise."""

    def gray(camera):
        picture = render_room(camera)
        return {**picture, "rgb": torch.full_like(picture["rgb"], 0.5)}

    truth = room_camera((0.1, 0.1, -0.1), (1.6, 0.1, 2.0))
    (with_photos,) = Localizer(gray, MappedRoom())(picture(truth))
    (without,) = Localizer(gray, MappedRoom(), match_photographs=False)(picture(truth))
    assert without.status == "failed"
    assert with_photos.status != "failed"
    assert float(localization_errors(with_photos.camera.cam_to_world, truth.cam_to_world)[0]) < 0.03


def test_aligned_pose_is_in_metres():
    from mmcity.structures import Sim3

    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))
    alignment = Sim3(torch.tensor(3.0).double(), half_turn, torch.tensor([1.0, 2, 3]).double())
    localizer = Localizer(render_room, MappedRoom(), alignment=alignment)
    truth = room_camera((0.2, 0.1, -0.2), (1.6, 0.1, 2.0))
    (result,) = localizer(picture(truth))
    x, y, z = result.cam_to_world[:3, 3]
    np.testing.assert_allclose(
        result.aligned_cam_to_world[:3, 3], [1 - 3 * x, 2 - 3 * y, 3 + 3 * z], atol=1e-9
    )
    turned = half_turn.numpy() @ result.cam_to_world[:3, :3]
    np.testing.assert_allclose(result.aligned_cam_to_world[:3, :3], turned, atol=1e-9)


def test_wider_query_is_cropped_to_what_the_network_knows(tmp_path):
    from mmcity.registry import MODELS
    from mmcity.utils.setup_env import register_all_modules

    register_all_modules()
    config = dict(
        type="RAPTrainer",
        network=dict(type="RAPNet", backbone=dict(width=0.25), hidden_dim=16, num_heads=2,
                     feedforward_dim=16, num_encoder_layers=1),
        data_preprocessor=dict(type="LocalizationPreprocessor", size=(48, 64)),
    )  # fmt: skip
    model = MODELS.build(config).eval()
    model.focal_ratio.fill_(130 / 160)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, tmp_path / "net.pth")
    localizer = Localizer(config=config, checkpoint=tmp_path / "net.pth")
    known = room_camera((0.2, 0.1, -0.2), (1.6, 0.1, 2.0))
    wide = room_camera((0.2, 0.1, -0.2), (1.6, 0.1, 2.0), width=240, height=180)
    results = [localizer.localize(picture(c), c.Ks[0].numpy()) for c in (known, wide)]
    # The same focal length in a larger picture: its middle is the known picture.
    # (Antialiasing sees beyond the border of the known picture.)
    torch.testing.assert_close(
        results[1].camera.viewmats, results[0].camera.viewmats, rtol=0, atol=1e-3
    )
    narrow = room_camera((0.2, 0.1, -0.2), (1.6, 0.1, 2.0), width=100, height=75)
    result = localizer.localize(picture(narrow), narrow.Ks[0].numpy())
    assert result.status == "failed" and "needs to see as much" in result.reason


def test_poses_are_in_the_coordinates_of_the_mapped_files(tmp_path):
    """The room stands in UTM coordinates; inside, all is about its own origin."""
    place = np.array([452310.25, 5411872.75, 213.5])
    mapped = MappedRoom()
    mapped.offset, mapped.file_frame = place, SceneFrame()
    turn = Sim3(scale=2.0, translation=torch.tensor([1.0, 0, 0], dtype=torch.float64))
    localizer = Localizer(render_room, mapped, alignment=turn)
    truth = room_camera((0.2, 0.1, -0.2), (1.6, 0.1, 2.0))
    near = room_camera((0.3, 0.0, -0.2), (1.5, 0.1, 2.0)).viewmats[0].double().numpy()
    near[:3, 3] -= near[:3, :3] @ place
    result = localizer.localize(picture(truth), start=near, name="q.png")
    assert result.status == "ok" and abs(near[:3, 3]).max() > 1e5
    found = result.cam_to_world[:3, 3]
    np.testing.assert_allclose(found, place + [0.2, 0.1, -0.2], rtol=0, atol=0.01)
    np.testing.assert_allclose(
        result.aligned_cam_to_world[:3, 3], 2 * found + [1, 0, 0], rtol=0, atol=1e-8
    )
    report = LocalizationReport(scene="room", frame=SceneFrame(crs="EPSG:25832"))
    row = report.add(result, truth)
    assert row["error_translation"] < 0.01
    report.write(tmp_path)
    # What is written is read again as it was: the centre to a micrometre.
    again = np.linalg.inv(read_pose_file(tmp_path / "poses.txt")["q.png"])
    np.testing.assert_allclose(again[:3, 3], found, rtol=0, atol=1e-6)
    written = read_report(tmp_path)
    assert written["frame"]["crs"] == "EPSG:25832"
    np.testing.assert_array_equal(written["queries"][0]["cam_to_world"], result.cam_to_world)
    true = np.array(written["queries"][0]["true_cam_to_world"])[:3, 3]
    np.testing.assert_allclose(true, place + [0.2, 0.1, -0.2], rtol=0, atol=1e-6)
