"""Old import paths lead to the modules that took their place."""

import importlib
import subprocess
import sys

import pytest

from mmcity.compat.moved_modules import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_old_path_is_the_module_at_the_new_path(old):
    new = MOVED[old]

    module = importlib.import_module(old)

    assert module is importlib.import_module(new)
    assert module.__name__ == module.__spec__.name == new


def test_modules_of_a_moved_package_are_not_read_twice():
    code = (
        "import mmcity.datasets.toytown.writers.common as old\n"
        "import mmcity.toytown.writers.common as new\n"
        "from mmcity.datasets.toytown.world import World\n"
        "from mmcity.toytown.world.town import World as Town\n"
        "assert old is new and World is Town\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_modules_below_a_moved_package_are_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mmcity.datasets.toytown.no_such_module")
