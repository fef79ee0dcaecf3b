"""A toy town small enough to be trained on in a test."""

import pytest

from mmcity.toytown import ToytownConfig
from mmcity.toytown.writers import write_citygsx


@pytest.fixture(scope="session")
def tiny_town(tmp_path_factory):
    """Folder of 12 views, 96x72, in the CityGS-X layout."""
    return write_citygsx(
        tmp_path_factory.mktemp("town") / "citygsx",
        ToytownConfig(seed=3, size="tiny"),
        image_size=(96, 72),
        num_images=12,
        num_points=1500,
        test_every=4,
    )
