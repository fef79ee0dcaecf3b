import numpy as np
import pytest

from mmcity.datasets.occupancy_labels import CARLASC_TO_UNIFIED
from mmcity.toytown import TAXONOMY, WorldClass, label_map


def test_every_class_has_a_row_and_a_colour_of_its_own():
    assert set(TAXONOMY) == set(WorldClass)
    assert len({tuple(TAXONOMY[c].color) for c in WorldClass}) == len(WorldClass)


@pytest.mark.parametrize(
    "target, free, highest",
    [("carlasc", 0, 22), ("unified", 0, 11), ("occ3d_nuscenes", 17, 16), ("occ3d_waymo", 15, 14)],
)
def test_only_the_sky_is_free(target, free, highest):
    ids = label_map(target)
    assert ids[WorldClass.SKY] == free
    assert (ids[1:] != free).all()
    assert ids[1:].max() <= highest


def test_carlasc_and_unified_columns_agree_except_for_two_wheelers_and_cones():
    """CarlaSC has no bicycle class, and counts cones as static things."""
    apart = {
        WorldClass.BICYCLE,
        WorldClass.MOTORCYCLE,
        WorldClass.BICYCLIST,
        WorldClass.MOTORCYCLIST,
        WorldClass.TRAFFIC_CONE,
    }
    remapped = np.asarray(CARLASC_TO_UNIFIED)[label_map("carlasc")]
    for c in WorldClass:
        if c not in apart:
            assert remapped[c] == label_map("unified")[c], c.name
