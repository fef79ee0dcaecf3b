"""Classes can be told apart by their colours, by people who see fewer of them too."""

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from mmcity.datasets.occupancy_labels import (
    OCC3D_NUSCENES_CLASSES,
    OCC3D_NUSCENES_TO_UNIFIED,
    UNIFIED_CLASSES,
)
from mmcity.structures.palettes import OCC3D_NUSCENES_PALETTE, UNIFIED_PALETTE

#: What the three kinds of dichromats see of linear RGB (Machado et al. 2009, severity 1).
SIGHTS = {
    "normal": np.eye(3),
    "protan": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deutan": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritan": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9309, 0.1476], [0.0047, 0.6914, 0.3039]],
}


def least_difference(palette, sight):
    """Smallest CIEDE2000 difference of two colours."""
    rgb = np.array(palette) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.transpose(SIGHTS[sight]), 0, 1)
    seen = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen)
    first, second = np.triu_indices(len(lab), 1)
    return float(deltaE_ciede2000(lab[first], lab[second]).min())


@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_stay_apart(sight):
    assert least_difference(UNIFIED_PALETTE, sight) > 9
    assert least_difference(OCC3D_NUSCENES_PALETTE, sight) > 6.9


def test_label_sets_agree_on_the_classes_that_they_share():
    assert len(UNIFIED_PALETTE) == len(UNIFIED_CLASSES)
    assert len(OCC3D_NUSCENES_PALETTE) == len(OCC3D_NUSCENES_CLASSES)
    shared = ("barrier", "bicycle", "pedestrian", "sidewalk", "vegetation", "free")
    for name in shared:
        label = OCC3D_NUSCENES_CLASSES.index(name)
        assert UNIFIED_CLASSES[OCC3D_NUSCENES_TO_UNIFIED[label]] == name
        assert OCC3D_NUSCENES_PALETTE[label] == UNIFIED_PALETTE[UNIFIED_CLASSES.index(name)]
