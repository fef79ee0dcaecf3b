"""The whole chain, killed once in every stage: it goes on from there."""

import json
import os
import subprocess
import sys

import pytest

from mmcity.workflow import Chain, report
from mmcity.workflow.city_twin import run_city_twin
from tests.cli.conftest import REPO
from tests.workflow.kill_in_stage import TRAINS

CONFIG = REPO / "tests" / "workflow" / "tiny_twin.py"


@pytest.mark.slow
@pytest.mark.ci_slow
@pytest.mark.timeout(2400)  # some 200 CPU-seconds, of many short processes
def test_killed_in_every_stage_the_chain_goes_on(tmp_path, monkeypatch, capsys):
    from mmcity.engine.launch import load_config

    monkeypatch.chdir(REPO)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    work, logs, stages = tmp_path / "twin", tmp_path / "logs", list(load_config(CONFIG).stages)
    assert len(stages) == 13
    script = REPO / "tests" / "workflow" / "kill_in_stage.py"
    paths = os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, *map(str, (script, CONFIG, work, logs))],
        env={**os.environ, "PYTHONPATH": paths},
        check=True,
    )
    statuses = json.loads((logs / "statuses.json").read_text())
    runs: dict[str, str] = {}
    for number, stage in enumerate(stages):
        output = (logs / f"{stage}.txt").read_text()
        assert statuses[stage] == -9, output
        left = json.loads((logs / f"{stage}.json").read_text())["stages"]
        assert {name: row["status"] for name, row in left.items()} == {
            **dict.fromkeys(stages[:number], "done"), stage: "running",
        }  # fmt: skip
        assert f"== {stage}\n" in output  # begun here, and only here
        if number:
            assert f"== {stages[number - 1]}: going on" in output
        for name in stages[: max(number - 1, 0)]:
            assert f"== {name}: done before" in output
        runs[stage] = left[stage]["run_id"]
    assert run_city_twin(CONFIG, work) == work / "report.html"
    assert f"== {stages[-1]}: going on" in capsys.readouterr().out
    chain = Chain(load_config(CONFIG).stages.to_dict(), work)
    finished = chain.manifest.stages
    assert {name: row.run_id for name, row in finished.items()} == runs
    for name, row in finished.items():
        assert row.status == "done" and row.artefacts and chain.manifest.is_intact(name), name
    calls = [command.partition("(")[0] for row in finished.values() for command in row.commands]
    functions = {call.rpartition(".")[2] for call in calls}
    assert {"train", "export_checkpoint_rollouts", "localize_queries"} <= functions
    for name in TRAINS:  # from the checkpoint, not from the first step
        assert "resumed epoch" in (work / name / "log.txt").read_text(), name
    page = (work / "report.html").read_text()
    assert page.count("data:image/") >= 8
    assert all(f"<h2>{report._title(name)}</h2>" in page for name in stages)
