"""Two processes read one scene: who touches the disk, who keeps what, and what all get."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.devices import need_devices

from .scenes import HEIGHT, WIDTH, picture, write_scene
from .storage_worker import ROWS

WORKER = Path(__file__).with_name("storage_worker.py")
ONE = WIDTH * HEIGHT * 3  # bytes of a picture

#: Rows of the pictures that process 0 and process 1 read themselves.
READERS = {
    "replicated": ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
    "first_rank": ([0, 1, 2, 3, 4, 5], []),
    "sharded": ([0, 2, 4], [1, 3, 5]),
}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of two processes got."""
    need_devices(2)
    folder = tmp_path_factory.mktemp("storage")
    write_scene(folder / "scene")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", WORKER, folder / "scene", folder]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("storage", READERS)
def test_all_get_the_same_pictures_from_those_who_keep_them(storage, preload, both):
    expected = np.stack([picture(row) for row in ROWS]).transpose(0, 3, 1, 2)
    for rank, results in enumerate(both):
        got = results[storage, preload]
        np.testing.assert_array_equal(got["images"], expected)
        assert got["names"] == [f"{row:03d}.png" for row in ROWS]
        assert torch.equal(got["viewmats"], both[0]["replicated", False]["viewmats"])
        own = READERS[storage][rank]
        assert got["read"] == own  # each picture once, whoever asks for it and how often
        assert got["preloaded"] == (own if preload else [])
        assert got["cached_bytes"] == ONE * len(own)
