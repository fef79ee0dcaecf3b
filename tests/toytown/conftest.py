"""One tiny town for all tests of this folder."""

import pytest

from mmcity.toytown import Renderer, ToytownConfig, build_world


@pytest.fixture(scope="session")
def tiny_config():
    return ToytownConfig(seed=3, blocks=(1, 2))


@pytest.fixture(scope="session")
def tiny_world(tiny_config):
    return build_world(tiny_config)


@pytest.fixture(scope="session")
def tiny_renderer(tiny_world):
    return Renderer(tiny_world)
