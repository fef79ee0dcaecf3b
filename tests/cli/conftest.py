"""Running the commands that a user types."""

import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from mmcity.cli.main import run_command_line

REPO = Path(__file__).resolve().parents[2]
TOY = Path(__file__).resolve().parent / "toy"
TOY_CONFIG = TOY / "toy_cpu.py"


def command_of(script: str | Path) -> tuple[str, str]:
    """Place and name of the command whose shell a script of ``tools/`` is."""
    text = (REPO / script).read_text(encoding="utf-8")
    found = re.search(r'shell\("([\w-]+)"(?:, (?:place=)?"([\w.]+)")?[,)]', text)
    assert found, f"{script} is not a shell of a command"
    return found[2] or "verbs", found[1]


def call_tool(script: str | Path, *args: object) -> None:
    """Run a script of ``tools/`` in this process: quick, and exceptions arrive here."""
    place, name = command_of(script)
    first = re.search(r'words=\["([\w-]+)"\]', (REPO / script).read_text(encoding="utf-8"))
    words = [first[1]] if first else []
    run_command_line(place, name, [*words, *map(str, args)], str(script))


@pytest.fixture
def run_tool(monkeypatch):
    """Call ``tools/<name>.py`` with options of its config."""
    monkeypatch.syspath_prepend(str(TOY))

    def run(name: str, *args, **options) -> None:
        # Loggers and message hubs are found by the name of the experiment.
        options.setdefault("experiment_name", f"test_{uuid.uuid4().hex}")
        pairs = [f"{key}={value}" for key, value in options.items()]
        call_tool(f"tools/{name}.py", *args, "--cfg-options", *pairs)

    return run


@pytest.fixture
def command_env():
    """Environment of a command in a process of its own."""
    paths = [str(TOY), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHON": sys.executable,
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def run_command(command_env, tmp_path):
    """Run a command line to its end and return the finished process."""

    def run(*args, cwd=None, env=None, check=True) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [str(arg) for arg in args],
            cwd=cwd or tmp_path,
            env={**command_env, **(env or {})},
            capture_output=True,
            text=True,
            timeout=600,
        )
        if check and done.returncode:
            pytest.fail(f"{args} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    return run


@pytest.fixture
def mim() -> str:
    """The mim command of this environment; skips without it."""
    beside = Path(sys.executable).with_name("mim")
    found = str(beside) if beside.is_file() else shutil.which("mim")
    if not found:
        pytest.skip("mim is not installed (requirements/mim.txt, requirements/mim-nodeps.txt)")
    return found


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the files under version control."""
    folder = tmp_path_factory.mktemp("wheel")
    try:
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=REPO, capture_output=True, check=True, text=True,
        ).stdout.split("\0")  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, cannot tell which files belong to the package")
    for name in filter(None, tracked):
        if name.startswith("tests/") or not (REPO / name).is_file():
            continue
        (folder / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPO / name, folder / "src" / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
         "-w", folder, folder / "src"],
        check=True,
    )  # fmt: skip
    return next(folder.glob("mmcity-*.whl"))
