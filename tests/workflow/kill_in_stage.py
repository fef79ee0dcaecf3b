"""Runs the city twin once for every stage, killed in that stage where most is at stake.

``python kill_in_stage.py CONFIG WORK_DIR LOGS``: a stage that trains dies once there is a
checkpoint; any other when its work is done and nothing of it is in the manifest yet. LOGS gets
the output (``STAGE.txt``), the manifest that was left (``STAGE.json``) and ``statuses.json``.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from mmcity.engine.launch import load_config
from mmcity.workflow import Chain
from mmcity.workflow.city_twin import run_city_twin

TRAINS = ("stream_model", "reconstruction", "pose_network", "future_model")


def kill() -> None:
    """End this process and the command that it runs, as a lost machine would."""
    os.killpg(0, signal.SIGKILL)


def kill_at_checkpoint(folder: Path) -> None:
    while not list(folder.rglob("last_checkpoint")):
        time.sleep(0.02)
    kill()


def run_until_killed(victim: str, config: str, work_dir: str, log: Path) -> None:
    os.setpgrp()
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
    run_stage = Chain._run

    def run_and_die(chain, stage, context, record) -> None:
        if context.name == victim and victim in TRAINS:
            threading.Thread(target=kill_at_checkpoint, args=(context.folder,), daemon=True).start()
        elif context.name == victim:
            stage.run(context)
            kill()
        run_stage(chain, stage, context, record)

    Chain._run = run_and_die
    run_city_twin(config, work_dir, until=victim)


def main() -> None:
    config, work_dir, logs = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    logs.mkdir()
    statuses = {}
    for stage in load_config(config).stages:
        child = os.fork()  # what is imported already need not be imported 13 times
        if child == 0:
            try:
                run_until_killed(stage, config, work_dir, logs / f"{stage}.txt")
            finally:
                os._exit(1)
        statuses[stage] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        shutil.copyfile(Path(work_dir) / "manifest.json", logs / f"{stage}.json")
    (logs / "statuses.json").write_text(json.dumps(statuses))


if __name__ == "__main__":
    main()
