"""The benchmarks: plain forms are the same maths, figures arrive where they are asked for."""

import json
import os
from pathlib import Path

import pytest

from mmcity.cli.main import load_command
from mmcity.utils.cli import UserError
from mmcity.utils.fileio import read_json
from mmcity.workflow.benchmarks import (
    generation,
    measure_localization,
    measure_ops,
    scenes,
    streaming,
)
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


def report_of(scale=1.0, **figures):
    """Three seeds of one scene, 0.1 apart in PSNR."""
    same = dict(ssim=0.9, psnr_cc=31.0, gaussians=1000, strays=0, spz_psnr=56.0, cpu_seconds=40.0)
    runs = [
        {"scene": "fox", "seed": seed, "psnr": 30.0 + 0.1 * seed, **same, **figures}
        for seed in range(3)
    ]
    for run in runs:
        run["psnr"] += figures.get("psnr_shift", 0.0)
    return {"protocol": dict(config="a", options={"x": scale}, threads=1), "runs": runs}


def test_reports_of_scenes_tell_what_moved_beyond_the_seeds(tmp_path, capsys):
    old, new = report_of(strays=500), report_of(psnr_shift=0.1, gaussians=990)
    rows = {row["figure"]: row for row in scenes.compare_reports(old, new)}
    # Standard deviation 0.1, three seeds each: twice sqrt(2 * 0.01 / 3) is 0.163.
    assert rows["psnr"]["spread"] == pytest.approx(0.1633, abs=1e-4)
    verdicts = {name: row["verdict"] for name, row in rows.items()}
    assert verdicts == {
        **dict.fromkeys(("psnr", "ssim", "psnr_cc", "spz_psnr", "cpu_seconds"), "same"),
        "gaussians": "changed",
        "strays": "better",
    }
    falls = scenes.compare_reports(old, report_of(psnr_shift=-0.2, cpu_seconds=50.0))
    assert {r["figure"]: r["verdict"] for r in falls}["psnr"] == "worse"
    assert {r["figure"]: r["verdict"] for r in falls}["cpu_seconds"] == "worse"

    for name, report in (("old", old), ("new", new)):
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
    call_tool("tools/benchmark.py", "compare", tmp_path / "old.json", tmp_path / "new.json")
    shown = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in shown[2].split("|")][1:-1] == [
        "fox", "PSNR (dB)", "30.10", "30.20", "+0.10", "0.16", "same",
    ]  # fmt: skip
    assert scenes.scenes_table(old).splitlines()[2].split("|")[3].strip() == "30.10 ± 0.10"


def test_reports_of_two_protocols_or_of_one_seed_are_not_compared():
    with pytest.raises(UserError, match="expected one protocol"):
        scenes.compare_reports(report_of(), report_of(scale=2.0))
    short = report_of()
    short["runs"] = short["runs"][:1]
    with pytest.raises(UserError, match="fox: expected two runs or more"):
        scenes.compare_reports(report_of(), short)


def test_a_missing_capture_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MMCITY_DATA", str(tmp_path))
    assert scenes.find_scene("caliterra").name == "caliterra_aerial"  # of the source tree
    with pytest.raises(UserError, match="expected the capture fox, found none"):
        next(scenes.train_scenes(tmp_path / "work", ["fox"]))


def test_scenes_are_trained_and_measured(toytown_citygsx, tmp_path, monkeypatch):
    monkeypatch.setenv("MMCITY_DATA", str(toytown_citygsx.parent))
    monkeypatch.setitem(scenes.SCENES, "town", toytown_citygsx.name)
    options = {
        **{key: value for key, value in scenes.OPTIONS.items() if not key.endswith("long_side")},
        **{"train_cfg.max_iters": 2, "train_cfg.val_interval": 2, "model.sh_degree": 1},
    }
    (report,) = scenes.train_scenes(tmp_path, ["town"], [3], options=options)
    (run,) = report["runs"]
    assert (run["scene"], run["seed"], run["strays"]) == ("town", 3, 0)
    assert 10 < run["psnr"] < 30 and 0 < run["ssim"] < 1 and run["gaussians"] > 1000
    assert run["spz_psnr"] > 40 and run["cpu_seconds"] > 1


def test_the_page_shows_the_files_that_are_kept():
    folder = Path(__file__).resolve().parents[2] / "docs"
    old, new = (read_json(folder / "benchmarks" / f"scenes_{n}.json") for n in ("before", "after"))
    assert {run["scene"] for run in new["runs"]} == set(scenes.SCENES)
    assert {run["seed"] for run in new["runs"]} == {0, 1, 2}
    table = scenes.comparison_table(scenes.compare_reports(old, new))
    assert table in (folder / "benchmarks.md").read_text(encoding="utf-8")
    assert new["protocol"]["options"] == scenes.OPTIONS
