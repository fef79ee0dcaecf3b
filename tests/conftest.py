"""Shared helpers of the tests: where golden vectors and real captures lie."""

import os
import threading
from pathlib import Path

import pytest

from tests.devices import DEVICE, on_the_suites_device
from tests.weights_server import WeightsServer

REPO = Path(__file__).resolve().parent.parent
RIG = REPO / "tests" / "rig"


def golden_dir(name: str) -> Path:
    """Folder of the golden vectors of one set (``ops``, ``citygsx``, ...).

    ``MMCITY_GOLDEN`` replaces the carried vectors; a folder given there that holds
    none of the set is an error, not a skip.
    """
    root = os.environ.get("MMCITY_GOLDEN")
    base = Path(root) if root else REPO / "tests" / "data" / "golden"
    folder = base / name if (base / name).is_dir() else base
    if not any(folder.glob("*.npz")) and not any(folder.glob("*.pt")):
        pytest.fail(f"{folder} holds no golden vectors of the set '{name}'")
    return folder


def real_data_dir(name: str) -> Path:
    """Folder of one real capture below ``MMCITY_DATA``; skips the test where it is absent."""
    root = Path(os.environ.get("MMCITY_DATA", REPO.parent / "shared" / "data"))
    if not (root / name).is_dir():
        pytest.skip(f"real data '{name}' not found below {root} (set MMCITY_DATA)")
    return root / name


def chooses_devices(node) -> bool:
    """Whether tests place their tensors themselves."""
    return bool(node.get_closest_marker("gpu")) or RIG in node.path.parents


@pytest.fixture(autouse=DEVICE != "cpu")
def suites_device(request):
    """Inputs and models of a test on the device, but of tests that choose devices themselves."""
    if chooses_devices(request.node):
        yield
        return
    with on_the_suites_device():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    """The same for what several tests share, which is made before."""
    if DEVICE == "cpu" or fixturedef.scope == "function" or chooses_devices(request.node):
        return (yield)
    with on_the_suites_device():
        return (yield)


@pytest.fixture(scope="session")
def toytown_citygsx(tmp_path_factory) -> Path:
    """Folder of a very small aerial toy scene (8 images of 96x72, one town block)."""
    from mmcity.toytown import ToytownConfig
    from mmcity.toytown.writers import write_citygsx

    return write_citygsx(
        tmp_path_factory.mktemp("toytown") / "citygsx",
        ToytownConfig(seed=3, blocks=(1, 1)),
        image_size=(96, 72),
        num_images=8,
        num_points=1500,
    )


@pytest.fixture
def weights_server():
    """A local server of one file, see :class:`tests.weights_server.WeightsServer`."""
    with WeightsServer() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def random_weights(monkeypatch):
    """Allow networks to run whose weights nobody has loaded."""
    monkeypatch.setenv("MMCITY_RANDOM_WEIGHTS", "1")
