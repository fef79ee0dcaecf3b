"""Sensor effects: what a real camera does to a picture. All are off by default."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmcity.toytown.sensors.cameras import View
from mmcity.toytown.sensors.renderer import Body, Frame, Renderer
from mmcity.utils.srgb import srgb_to_linear


@dataclass(frozen=True)
class SensorEffects:
    """Parameters of the effects; the defaults change nothing.

    Args:
        exposure: Factor on the linear radiance. Defaults to 1.
        white_balance: Factors on linear red, green, blue. Defaults to (1, 1, 1).
        vignetting: Share of light lost in the corners (cos^4-like, r^2). Defaults to 0.
        noise: Standard deviation of the noise in grey levels (0-255). Defaults to 0.
        jpeg: Quality of a JPEG round trip, 0 for none. Defaults to 0.
        shutter: Seconds of exposure for motion blur. Defaults to 0.
        blur_samples: Moments that the blur averages. Defaults to 8.
        rolling: Seconds between the first and the last row. Defaults to 0.
        rolling_bands: Bands of rows that share a moment. Defaults to 12.
    """

    exposure: float = 1.0
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    vignetting: float = 0.0
    noise: float = 0.0
    jpeg: int = 0
    shutter: float = 0.0
    blur_samples: int = 8
    rolling: float = 0.0
    rolling_bands: int = 12

    def __post_init__(self) -> None:
        if self.exposure <= 0 or min(self.white_balance) <= 0:
            raise ValueError("exposure, white_balance: expected positive numbers, got others")
        if not 0 <= self.vignetting < 1:
            raise ValueError(f"vignetting: expected a number in [0, 1), got {self.vignetting}")
        if not 0 <= self.jpeg <= 100:
            raise ValueError(f"jpeg: expected 0-100, got {self.jpeg}")
        if self.shutter < 0 or self.rolling < 0 or self.noise < 0:
            raise ValueError("shutter, rolling, noise: expected at least 0, got less")

    def apply(self, rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Exposure, white balance, vignetting, noise and JPEG on (H, W, 3) uint8 sRGB."""
        out = rgb
        if self.exposure != 1 or self.vignetting or tuple(self.white_balance) != (1, 1, 1):
            linear = srgb_to_linear(rgb.astype(np.float32) / 255)
            linear = linear * (self.exposure * np.array(self.white_balance, np.float32))
            h, w = rgb.shape[:2]
            y, x = np.mgrid[:h, :w] + 0.5
            r2 = ((x / w - 0.5) ** 2 + (y / h - 0.5) ** 2) / 0.5
            linear = np.clip(linear * (1 - self.vignetting * r2)[..., None], 0, 1)
            srgb = np.where(
                linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
            )
            out = (srgb * 255 + 0.5).astype(np.uint8)
        if self.noise:
            noisy = out + rng.normal(0, self.noise, out.shape)
            out = np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
        if self.jpeg:
            buffer = io.BytesIO()
            Image.fromarray(out).save(buffer, "JPEG", quality=self.jpeg)
            out = np.asarray(Image.open(buffer).convert("RGB"))
        return out


def render_with_effects(
    renderer: Renderer,
    view_at: Callable[[float], View],
    bodies_at: Callable[[float], list[Body]],
    time: float,
    effects: SensorEffects,
    rng: np.random.Generator,
) -> Frame:
    """Render a picture through a camera with effects.

    Args:
        renderer: The town.
        view_at: The camera at a time, along its true path.
        bodies_at: Moving parts at a time.
        time: Middle of the exposure of the middle row; depth and labels belong to it.
        effects: What the sensor does.
        rng: For the noise.

    Returns:
        Frame: Of the moment ``time``, with the RGB that the sensor delivers.
    """
    renderer.set_bodies(bodies_at(time))
    frame = renderer.render(view_at(time))
    rgb = frame.rgb
    if effects.rolling or effects.shutter:
        rgb = _smeared(renderer, view_at, bodies_at, time, effects, rgb)
    frame.rgb = effects.apply(rgb, rng)
    return frame


def _smeared(
    renderer: Renderer,
    view_at: Callable[[float], View],
    bodies_at: Callable[[float], list[Body]],
    time: float,
    effects: SensorEffects,
    still: np.ndarray,
) -> np.ndarray:
    """Average over the shutter, in bands of rows that are read out one after the other."""
    height = len(still)
    bands = min(effects.rolling_bands, height) if effects.rolling else 1
    samples = effects.blur_samples if effects.shutter else 1
    edges = np.linspace(0, height, bands + 1).astype(int)
    out = np.empty_like(still)
    for a, b in zip(edges[:-1], edges[1:]):
        delay = effects.rolling * (0.5 * (a + b) / height - 0.5)
        total = np.zeros((b - a, *still.shape[1:]), dtype=np.float64)
        for k in range(samples):
            moment = time + delay + effects.shutter * ((k + 0.5) / samples - 0.5)
            renderer.set_bodies(bodies_at(moment))
            view = view_at(moment)
            K = view.K.copy()
            K[1, 2] -= a  # a window of the image: only its rows are rendered
            window = View(K, view.cam_to_world, view.width, int(b - a), view.distortion)
            # Pixels add up in light, not in grey levels.
            total += (renderer.render(window).rgb / 255.0) ** 2.2
        out[a:b] = (255 * (total / samples) ** (1 / 2.2) + 0.5).astype(np.uint8)
    return out
