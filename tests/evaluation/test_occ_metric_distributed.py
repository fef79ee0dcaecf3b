"""One and two gloo processes give the same table."""

import json
import math
import socket
import subprocess
import sys
from pathlib import Path

WORKER = Path(__file__).with_name("occ_metric_worker.py")


def run(processes, out):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, WORKER, out]
    if processes > 1:
        command = [
            sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}",
            f"--master_port={port}", WORKER, out, "distributed",
        ]  # fmt: skip
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


def test_one_and_two_processes_give_identical_tables(tmp_path):
    one, two = run(1, tmp_path / "one.json"), run(2, tmp_path / "two.json")

    def plain(table):  # NaN is unlike itself
        return {k: None if math.isnan(v) else v for k, v in table.items()}

    assert plain(one[0]) == plain(one[1])  # nothing is left over from the first evaluation
    assert [plain(t) for t in one] == [plain(t) for t in two]
    assert one[0]["frames"] == 7  # the frame that fills up the second process counts once
    assert {"miou", "miou15", "iou", "RayIoU", "miou_to_2m", "car"} <= set(one[0])
    assert 30 < one[0]["miou"] < 60
