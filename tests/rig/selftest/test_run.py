"""Options of the rig end where the job begins; what follows belongs to the job."""

import pytest

from tests.rig import run


def test_settings_end_at_the_job():
    found = run.parse(["--set", "CHECK=1", "SEED=7", "pytest", "tests/ops", "--set", "x"])
    assert found.set == ["CHECK=1", "SEED=7"] and found.what == "pytest"
    assert found.args == ["tests/ops", "--set", "x"]


def test_options_stand_in_any_order():
    found = run.parse(["--set", "CHECK=1", "--devices", "2", "--set", "SEED=7", "full", "--resume"])
    assert found.set == ["CHECK=1", "SEED=7"]
    assert (found.devices, found.args) == (2, ["--resume"])


@pytest.mark.parametrize("words", [["--set", "CHECK", "quick"], ["--devices", "2"], ["slow"]])
def test_what_is_no_setting_or_no_job_is_an_error(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.parse(words)
    assert "error" in capsys.readouterr().err
