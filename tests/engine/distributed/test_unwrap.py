"""One way from a runner's model to the model itself."""

from pathlib import Path

from torch import nn
from torch.nn.parallel import DataParallel

import mmcity
from mmcity.engine.distributed import ReplicatedScene, unwrap


def test_wrappers_are_taken_off_and_other_models_left_as_they_are():
    model = nn.Linear(1, 1)
    model.module = nn.Identity()  # a part of that name does not make it a wrapper
    assert unwrap(model) is model
    assert unwrap(ReplicatedScene(model)) is model
    assert unwrap(DataParallel(model)) is model


def test_nothing_else_in_the_package_takes_wrappers_off():
    folder = Path(mmcity.__file__).parent
    names = [p.name for p in folder.rglob("*.py") if "is_model_wrapper" in p.read_text()]
    assert names == ["unwrap.py"]
