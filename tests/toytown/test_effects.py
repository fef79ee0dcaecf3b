"""Sensor effects against what their parameters promise."""

import numpy as np
import pytest

from mmcity.toytown import View, look_at
from mmcity.toytown.sensors.effects import SensorEffects, render_with_effects


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _linear(rgb):
    x = rgb / 255.0
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def test_defaults_change_nothing(rng):
    picture = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    assert np.array_equal(SensorEffects().apply(picture, rng), picture)


def test_exposure_and_white_balance_scale_the_light(rng):
    picture = np.full((4, 4, 3), 100, np.uint8)
    out = SensorEffects(exposure=1.5, white_balance=(1.0, 0.8, 1.2)).apply(picture, rng)
    ratio = _linear(out[0, 0].astype(float)) / _linear(np.full(3, 100.0))
    assert np.allclose(ratio, [1.5, 1.2, 1.8], rtol=0.02)


def test_vignetting_darkens_the_corners_only(rng):
    picture = np.full((101, 101, 3), 180, np.uint8)
    out = SensorEffects(vignetting=0.4).apply(picture, rng)
    assert out[50, 50, 0] == 180
    loss = _linear(out[0, 0].astype(float)) / _linear(np.full(3, 180.0))
    assert np.allclose(loss, 0.6, atol=0.02)


def test_noise_has_the_deviation_asked_for(rng):
    out = SensorEffects(noise=4.0).apply(np.full((200, 200, 3), 128, np.uint8), rng)
    assert abs(out.std() - 4.0) < 0.1 and abs(out.mean() - 128) < 0.2


def test_motion_blur_and_rolling_shutter_follow_the_path(tiny_renderer, rng):
    def view_at(time):
        pose = look_at([time * 4.0, 0, 30], [time * 4.0, 5, 0])
        return View.from_fov(pose, 64, 48, 60)

    def render(effects):
        frame = render_with_effects(tiny_renderer, view_at, lambda t: [], 0.0, effects, rng)
        return frame.rgb.astype(float)

    sharp = render(SensorEffects())
    blurred = render(SensorEffects(shutter=0.5))
    detail = [np.abs(np.diff(x, axis=1)).mean() for x in (sharp, blurred)]
    assert detail[1] < 0.8 * detail[0]
    assert abs(blurred.mean() - sharp.mean()) < 8
    # Each band of a rolling shutter is the band of the still picture of its own moment.
    rolled = render(SensorEffects(rolling=0.4, rolling_bands=4))
    for band in range(4):
        moment = 0.4 * ((band + 0.5) / 4 - 0.5)
        still = tiny_renderer.render(view_at(moment)).rgb.astype(float)
        rows = slice(12 * band + 1, 12 * band + 11)
        assert np.abs(rolled[rows] - still[rows]).mean() < 4


@pytest.mark.parametrize(
    "wrong", [{"exposure": 0}, {"vignetting": 1}, {"jpeg": 101}, {"noise": -1}]
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SensorEffects(**wrong)
