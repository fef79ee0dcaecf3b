"""Colour changes that all frames of a clip share."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmcity.utils.images import to_grey


@dataclass(frozen=True)
class ClipColorJitter:
    """Random brightness, contrast, saturation and hue, in random order.

    Attributes:
        strength: Factors of the first three are uniform in 1 - strength .. 1 + strength.
        hue: Hue moves by up to this share of the colour circle.
    """

    strength: float = 0.5
    hue: float = 0.1

    def draw(self, rng: np.random.Generator) -> list[tuple[str, float]]:
        """Operations of one clip, in their order."""
        low, high = 1 - self.strength, 1 + self.strength
        values = {name: rng.uniform(low, high) for name in ("brightness", "contrast", "saturation")}
        values["hue"] = rng.uniform(-self.hue, self.hue)
        return [(name, values[name]) for name in rng.permutation(sorted(values))]

    def apply(self, image: Tensor, operations: list[tuple[str, float]]) -> Tensor:
        """Change ``(3, H, W)`` in [0, 1]."""
        for name, value in operations:
            if name == "brightness":
                image = image * value
            elif name == "contrast":
                image = image * value + to_grey(image).mean() * (1 - value)
            elif name == "saturation":
                image = image * value + to_grey(image) * (1 - value)
            else:
                image = _turn_hue(image, value)
            image = image.clamp(0, 1)
        return image


def _turn_hue(image: Tensor, share: float) -> Tensor:
    """Move the hue by a share of the circle, value and chroma unchanged."""
    value, index = image.max(dim=0)
    chroma = value - image.min(dim=0).values
    safe = chroma.clamp_min(1e-12)
    r, g, b = image
    sector = torch.stack([(g - b) / safe, (b - r) / safe + 2, (r - g) / safe + 4])
    hue = sector.gather(0, index[None])[0] + 6 * share
    offsets = image.new_tensor([5.0, 3.0, 1.0]).view(3, 1, 1)
    phase = (offsets + hue) % 6
    return value - chroma * torch.minimum(phase, 4 - phase).clamp(0, 1)
