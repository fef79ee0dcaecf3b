"""What a process does about others when it ends."""

import subprocess
import sys

import pytest

ENDS = """
import atexit, sys
import torch.distributed as dist
from mmcity.engine.distributed import lost_processes_told

def start():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)

atexit.register(lambda: print("at the end", dist.is_initialized()))
if sys.argv[1] == "before":
    start()
with lost_processes_told("training"):
    if sys.argv[1] == "inside":
        start()
print("afterwards", dist.is_initialized())
"""


@pytest.mark.parametrize(("where", "stays"), [("inside", False), ("before", True)])
def test_a_group_of_its_own_is_left_at_the_end(where, stays):
    done = subprocess.run(
        [sys.executable, "-c", ENDS, where], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["afterwards", "True", "at", "the", "end", str(stays)]
