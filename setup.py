"""Packaging beyond setup.cfg: the ``mmcity/.mim`` folder and editable installs for mim."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
MIM = ROOT / "mmcity" / ".mim"
#: What `mim` looks for below the package, and where it lies in the repository.
MIM_CONTENTS = ("tools", "configs", "model-index.yml", "ops/csrc")


class EditableWheel(editable_wheel):
    """Leaves ``mmcity.egg-info`` in the source tree, by which mim and mmengine find it.

    A PEP 660 install puts the metadata into site-packages, where no ``mmcity`` folder is.
    """

    def run(self) -> None:
        subprocess.run([sys.executable, "setup.py", "-q", "egg_info"], check=True, cwd=ROOT)
        super().run()


def fill_mim_folder(copy: bool) -> None:
    """Lay tools, configs and operator sources below the package.

    Args:
        copy: Copies for a wheel; relative links for a source tree, so that edits count.
    """
    if MIM.is_symlink() or MIM.is_file():
        MIM.unlink()
    shutil.rmtree(MIM, ignore_errors=True)
    MIM.mkdir()
    for name in MIM_CONTENTS:
        source, target = ROOT / name, MIM / name
        if not source.exists():
            raise FileNotFoundError(f"{source} is missing, cannot package it")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not copy:
            target.symlink_to(os.path.relpath(source, target.parent))
        elif source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)


def main() -> None:
    """Run setuptools with copies or links in place."""
    makes_archive = any(name in sys.argv for name in ("bdist_wheel", "sdist"))
    was_linked = (MIM / "tools").is_symlink()
    fill_mim_folder(copy=makes_archive)
    operators = ["mmcity_ops", *(f"mmcity_ops.{name}" for name in find_packages("ops"))]
    try:
        setup(
            packages=[*find_packages(include=["mmcity", "mmcity.*"]), *operators],
            cmdclass={"editable_wheel": EditableWheel},
        )
    finally:
        if makes_archive and was_linked:
            fill_mim_folder(copy=False)  # an editable install of this tree stays live


main()
