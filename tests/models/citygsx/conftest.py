"""The tiny town in the layouts of published captures."""

import pytest


@pytest.fixture(scope="session")
def tiny_matrixcity(tiny_town, tmp_path_factory):
    """The same views laid out as MatrixCity's aerial block."""
    root = tmp_path_factory.mktemp("matrixcity") / "aerial"
    for part, names in (
        ("train/block_all", {"images": "train/rgbs", "depth": "train/depths"}),
        ("test/block_all_test", {"images": "train/rgbs"}),
    ):
        (root / part).mkdir(parents=True)
        for new, old in {**names, "sparse": "sparse"}.items():
            (root / part / new).symlink_to(tiny_town / old)
    return root
