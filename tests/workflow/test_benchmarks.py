"""The benchmarks: plain forms are the same maths, figures arrive where they are asked for."""

import json
import os

import pytest

from mmcity.cli.main import load_command
from mmcity.workflow.benchmarks import generation, measure_localization, measure_ops, streaming
from tests.cli.conftest import call_tool


def test_plain_pose_network_gives_the_same_poses():
    found = measure_localization((48, 64), batch=2, repeats=1, width=0.25)
    assert found["difference"] < 1e-5
    assert 0 < found["ms_net"] and 0 < found["ms_plain"]


def test_sizes_of_the_command_are_those_of_the_measurements(capsys):
    for part, sizes in (("generation", generation.SIZES), ("streaming", streaming.SIZES)):
        with pytest.raises(SystemExit):
            call_tool("tools/benchmark.py", part, "--help")
        shown = capsys.readouterr().out.split("--size {")[1].split("}")[0]
        assert set(shown.split(",")) == set(sizes)


def test_streaming_writes_its_numbers(tmp_path, capsys):
    out, plot = tmp_path / "numbers.json", tmp_path / "growth.png"
    call_tool(
        *("tools/benchmark.py", "streaming", "--frames", 3, "--policies", "window(2)", "naive"),
        *("--out", out, "--plot", plot),
    )
    numbers = json.loads(out.read_text())
    assert list(numbers) == ["window(2)", "naive"]
    assert all(len(rows["ms"]) == 3 for rows in numbers.values()) and plot.stat().st_size
    shown = capsys.readouterr().out
    assert "window(2): " in shown and "naive: 1.00 times" in shown


def test_operators_leave_tables_and_the_backend_that_was_chosen(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MMCITY_OPS_BACKEND", "reference")
    words = ("--json", tmp_path / "figures.json", "--markdown", tmp_path / "table.md")
    call_tool(
        *("tools/benchmark.py", "ops", "--device", "cpu", "--repeat", 1, "--against", "none"),
        *("--only", "10k-256-small", "knn_mean", *words),
    )
    report = json.loads((tmp_path / "figures.json").read_text())
    (row,) = report["raster"]
    assert (row["name"], row["box_isects"]) == ("10k-256-small", 25902)
    assert [entry["name"] for entry in report["other"]] == ["knn_mean_dist2 20 k"]
    assert report["training"] is None
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    cells = [cell.strip() for cell in table.splitlines()[4].split("|")]
    assert cells[1:5] == ["10k-256-small", "3", "10000", "25902"]
    assert os.environ["MMCITY_OPS_BACKEND"] == "reference"
    with pytest.raises(ValueError, match="expected cuda against gsplat, got cpu"):
        measure_ops(against="gsplat", device="cpu")


def test_waiting_threads_sleep_unless_wall_time_is_measured(monkeypatch):
    command = load_command("scripts", "benchmark")
    monkeypatch.setenv("OMP_WAIT_POLICY", "")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    seen = []

    class Options:
        clock = "wall"

        @staticmethod
        def show(_):
            seen.append(os.environ.get("OMP_WAIT_POLICY"))

    command.run(Options)
    Options.clock = "cpu"
    command.run(Options)
    assert seen == [None, "PASSIVE"]
