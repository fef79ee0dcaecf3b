"""The Slurm scripts, with a stand-in for ``srun`` that says what it was asked for."""

import pytest

from .conftest import REPO

STAND_IN = '#!/bin/bash\nprintf "%s\\n" "$@"\necho "PYTHONPATH=$PYTHONPATH"\n'


@pytest.fixture
def with_srun(run_command, command_env, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "srun").write_text(STAND_IN)
    (folder / "srun").chmod(0o755)
    path = f"{folder}:{command_env['PATH']}"

    def run(script, *args, **env) -> list[str]:
        done = run_command(REPO / "tools" / script, *args, env={"PATH": path, **env})
        return done.stdout.splitlines()

    return run


def test_gpus_of_several_machines(with_srun):
    words = with_srun(
        "slurm_train.sh", "gpu", "town", "CONFIG.py", "--resume", GPUS="16", GPUS_PER_NODE="8"
    )
    head, tail = words[: words.index("-u")], words[words.index("-u") :]
    assert head[:3] == ["-p", "gpu", "--job-name=town"]
    for word in ("--ntasks=16", "--ntasks-per-node=8", "--gres=gpu:8", "--kill-on-bad-exit=1"):
        assert word in head
    train = str(REPO / "tools" / "train.py")
    assert tail[:-1] == ["-u", train, "CONFIG.py", "--resume", "--launcher", "slurm"]
    assert tail[-1].startswith(f"PYTHONPATH={REPO}")


def test_processes_without_a_gpu(with_srun):
    words = with_srun(
        "slurm_test.sh", "cpu", "town", "CONFIG.py", "RUN.pth",
        GPUS="4", GPUS_PER_NODE="0", SRUN_ARGS="--mem=8G --exclusive",
    )  # fmt: skip
    assert not any(word.startswith("--gres") for word in words)
    assert {"--ntasks=4", "--mem=8G", "--exclusive"} <= set(words)
    test = str(REPO / "tools" / "test.py")
    assert words[words.index(test) :][:5] == [test, "CONFIG.py", "RUN.pth", "--launcher", "slurm"]


def test_missing_words_are_told(run_command):
    done = run_command(REPO / "tools" / "slurm_train.sh", "gpu", check=False)
    assert done.returncode == 2 and "PARTITION JOB_NAME CONFIG" in done.stderr
