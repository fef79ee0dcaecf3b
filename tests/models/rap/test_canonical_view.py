"""One scene through cameras of several focal lengths and resolutions is one input."""

import pytest
import torch

from mmcity.models.rap import LocalizationPreprocessor
from mmcity.models.rap.canonical_view import canonical_K, canonical_view
from mmcity.structures import Cameras, LocalizationDataSample
from tests.models.rap.textured_room import render_room, room_camera

EYE, TARGET = (0.2, 0.1, -0.2), (1.6, 0.1, 2.0)
SIZE, FOCAL = (48, 64), 52.0  # as a picture of 160x120 px and 130 px focal length


def photograph(width, height, focal, shift=(0.0, 0.0)):
    """A picture of the room; ``shift`` moves the principal point, px."""
    camera = room_camera(EYE, TARGET, width, height, focal)
    K = camera.Ks[0].clone()
    K[0, 2], K[1, 2] = K[0, 2] + shift[0], K[1, 2] + shift[1]
    camera = Cameras(K, camera.viewmats, width, height)
    return render_room(camera)["rgb"].float(), camera


def sample(camera, name="query"):
    out = LocalizationDataSample(metainfo=dict(img_name=name))
    out.camera = camera.to(torch.float32)
    return out


def fitted(**options) -> LocalizationPreprocessor:
    out = LocalizationPreprocessor(size=SIZE, normalize_focal=True, **options).eval()
    out.fit_focal(photograph(160, 120, 130.0)[1])
    return out


@pytest.mark.parametrize(
    ("width", "height", "focal", "shift"),
    [
        (320, 240, 260.0, (0, 0)),  # twice the resolution
        (240, 180, 130.0, (0, 0)),  # a wider lens
        (400, 240, 210.0, (0, 0)),  # other proportions
        (240, 180, 150.0, (9.0, -7.0)),  # a principal point beside the middle
        (133, 101, 99.7, (0, 0)),  # nothing even
    ],
)
def test_same_scene_other_camera_same_input(width, height, focal, shift):
    reference, camera = photograph(160, 120, 130.0)
    want = fitted()({"inputs": [reference], "data_samples": [sample(camera)]})["inputs"]
    other, camera = photograph(width, height, focal, shift)
    got = fitted()({"inputs": [other], "data_samples": [sample(camera)]})["inputs"]
    assert got.shape == want.shape == (1, 3, *SIZE)
    # The texture changes from pixel to pixel, so that resampling by other fractions of a pixel
    # differs by a part of its contrast; another view differs by all of it.
    stretched = LocalizationPreprocessor(size=SIZE).eval()({"inputs": [other]})["inputs"]
    apart = (got - want).abs().mean()
    assert apart < 0.22 * want.std()
    if (width, height, focal) != (320, 240, 260.0):
        assert apart < 0.3 * (stretched - want).abs().mean()


def test_pixels_land_where_the_cameras_say():
    """A picture whose colours are its ray directions shows those of the new camera."""
    camera = room_camera(EYE, TARGET, 200, 140, 190.0)
    K = camera.Ks[0].float()
    K[0, 2] += 6.0
    v, u = torch.meshgrid(torch.arange(140) + 0.5, torch.arange(200) + 0.5, indexing="ij")
    rays = torch.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], torch.ones_like(u)])
    got, seen = canonical_view(rays, K, (48, 64), 80.0)
    want = canonical_K((48, 64), 80.0)
    v, u = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    torch.testing.assert_close(got[0], (u - 32) / want[0, 0], atol=2e-3, rtol=0)
    torch.testing.assert_close(got[1], (v - 24) / want[1, 1], atol=2e-3, rtol=0)
    assert seen == 1.0


def test_narrow_pictures_say_how_much_they_show():
    picture, camera = photograph(100, 75, 130.0)
    # Five eighths of the width and of the height.
    _, seen = canonical_view(picture, camera.Ks[0], SIZE, FOCAL)
    assert seen == pytest.approx((5 / 8) ** 2, abs=0.02)
    lenient = fitted(min_seen=0.3)
    assert lenient.view(picture, camera).shape == (3, *SIZE)
    with pytest.raises(ValueError, match="narrow.png: shows 3.% of the field of view"):
        fitted()({"inputs": [picture], "data_samples": [sample(camera, "narrow.png")]})


def test_what_is_not_known_is_refused():
    picture, camera = photograph(160, 120, 130.0)
    fresh = LocalizationPreprocessor(size=SIZE, normalize_focal=True)
    with pytest.raises(ValueError, match="PoseFrameHook"):
        fresh.view(picture, camera)
    with pytest.raises(ValueError, match="size: expected"):
        LocalizationPreprocessor(normalize_focal=True)
    with pytest.raises(ValueError, match="cameras of the images"):
        fitted()({"inputs": [picture]})
    # What was measured on training cameras stays.
    pre = fitted()
    pre.fit_focal(photograph(160, 120, 300.0)[1])
    assert float(pre.focal) == pytest.approx(FOCAL)
    assert pre.view_cameras(camera).Ks[0, 0, 0] == pytest.approx(FOCAL)


def test_other_resolution_at_test_time_is_brought_to_that_of_training():
    pre = LocalizationPreprocessor()
    small, _ = photograph(160, 120, 130.0)
    large, _ = photograph(320, 240, 260.0)
    want = pre({"inputs": [small]}, training=True)["inputs"]
    pre.eval()
    got = pre({"inputs": [large]})["inputs"]
    assert got.shape == want.shape
    assert (got - want).abs().mean() < 0.1 * want.std()
    again = LocalizationPreprocessor()
    again.load_state_dict(pre.state_dict())
    assert again.eval()({"inputs": [large]})["inputs"].shape == want.shape
    # In training, sizes must agree.
    pre.train()
    with pytest.raises(ValueError, match="one size"):
        pre({"inputs": [small, large]}, training=True)
