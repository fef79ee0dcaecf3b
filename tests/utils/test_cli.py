"""Errors of commands: one line for what the user can mend, a traceback for a defect."""

import re

import pytest
from mmengine import Registry

from mmcity.structures import Cameras
from mmcity.utils.cli import UserError, run_command

REGISTRY = Registry("things of the test of the command line")


@REGISTRY.register_module()
class Thing:
    def __init__(self, size=1):
        self.size = size


def refuse_argument():
    Cameras(Ks=[[1.0]], viewmats=[[1.0]], widths=1, heights=1, camera_model="box")


def take_unknown_key():
    REGISTRY.build(dict(type="Thing", colour="red"))


def take_unknown_type():
    REGISTRY.build(dict(type="Thingy"))


def refuse_file():
    open("/no/such/file")


def refuse_input():
    raise UserError("expected a town, got a village")


@pytest.mark.parametrize(
    ("main", "message"),
    [
        (refuse_file, "error: FileNotFoundError: .*/no/such/file"),
        (refuse_input, "error: UserError: expected a town, got a village"),
        (refuse_argument, "error: ValueError: camera_model: expected one of"),
        (take_unknown_key, "error: TypeError: the config has an argument .*'colour'"),
        (take_unknown_type, "error: KeyError: .*Thingy is not in the"),
    ],
)
def test_what_the_user_can_mend_is_one_error(main, message, capsys, monkeypatch):
    monkeypatch.delenv("MMCITY_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as stop:
        run_command(main)
    assert stop.value.code == 1
    printed = capsys.readouterr().err
    assert re.match(message, printed), printed
    assert "Traceback" not in printed


def test_the_traceback_can_be_had(monkeypatch):
    monkeypatch.setenv("MMCITY_TRACEBACK", "1")
    with pytest.raises(UserError):
        run_command(refuse_input)


@pytest.mark.parametrize("error", [ValueError("x"), TypeError("x"), KeyError("x"), IndexError("x")])
def test_defects_keep_their_traceback(error):
    def main():
        raise error  # not raised by the toolbox's own code

    with pytest.raises(type(error)):
        run_command(main)


@pytest.mark.parametrize("kind", [RuntimeError, ImportError, NotImplementedError])
def test_whatever_the_toolbox_raises_itself_is_one_line(kind, capsys, monkeypatch):
    from mmcity.utils import checks

    monkeypatch.delenv("MMCITY_TRACEBACK", raising=False)
    with pytest.raises(SystemExit):
        run_command(lambda: checks.check_choice("--model", "x", ["y"], kind))
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {kind.__name__}: --model: expected one of 'y', got 'x'")


def test_a_defect_tells_where_to_report_it(capsys, monkeypatch):
    monkeypatch.delenv("MMCITY_TRACEBACK", raising=False)
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)
    assert "most likely a defect of mmcity" in capsys.readouterr().err
