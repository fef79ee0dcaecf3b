"""What a stage calls in a process of its own: result, output, errors."""

import importlib
import os
from pathlib import Path

import pytest

from mmcity.utils.cli import UserError
from mmcity.workflow import Manifest, StageContext, StageRecord, cfg_options

MODULE = """
import os, signal, sys

def work(folder, number=1):
    print("working", file=sys.stderr)
    return os.getpid(), os.getcwd(), folder / str(number)

def fail():
    raise OSError("nothing there")

def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that only this process is told of."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "work_of_a_stage.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    return importlib.import_module("work_of_a_stage")


@pytest.fixture
def context(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.stages["first"] = StageRecord()
    context = StageContext(manifest, "first", seed=0)
    context.folder.mkdir()
    return context


def test_a_call_gives_the_result_of_another_process(context, module, tmp_path):
    process, folder, path = context.call(module.work, tmp_path, number=2)
    assert process != os.getpid() and (Path(folder) / "model-index.yml").is_file()
    assert path == tmp_path / "2"
    line = f"work_of_a_stage.work('{tmp_path}', number=2)"
    assert context.manifest.stages["first"].commands == [line]
    assert (context.folder / "log.txt").read_text() == f"> {line}\nworking\n"
    assert os.listdir(context.folder) == ["log.txt"]


@pytest.mark.parametrize(
    "name, text", [("fail", "status 1; .*error: OSError: nothing there"), ("die", "status -9")]
)
def test_a_call_that_fails_says_what_it_printed_last(context, module, name, text):
    with pytest.raises(UserError, match=rf"(?s)work_of_a_stage.{name} ended with {text}"):
        context.call(getattr(module, name))


def test_text_among_values_is_read_as_on_the_command_line():
    values = {
        "steps": "[8, 9]",
        "flag": "None",
        "path": Path("/a, b"),
        "rate": 0.1,
        "part": {"x": 1},
    }
    assert cfg_options(values) == {
        "steps": [8, 9], "flag": None, "path": "/a, b", "rate": 0.1, "part": {"x": 1},
    }  # fmt: skip
