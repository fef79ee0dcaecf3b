"""Saying clearly which library is missing or of a wrong version."""

import importlib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from types import ModuleType

from packaging.requirements import Requirement

from mmcity.utils.fileio import read_text

from .cli import UserError


class DependencyError(UserError, ImportError):
    """Libraries are missing or have a version that does not work."""


def import_library(name: str, user: str, hint: str | None = None) -> ModuleType:
    """Import a library that only one feature asks for.

    Args:
        name: What is imported.
        user: Option or file that asks for it, named in the error.
        hint: How to get it. Defaults to ``pip install NAME``.

    Raises:
        DependencyError: If it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = hint or f"pip install {name}"
        raise DependencyError(f"{user}: expected {name}, got '{error}': {hint}") from error


def runtime_requirements() -> list[str]:
    """Requirements of the core, from the installed package or from a source tree."""
    source = Path(__file__).resolve().parents[2] / "requirements" / "runtime.txt"
    if source.is_file():
        lines = read_text(source).splitlines()
        return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]
    try:
        required = metadata.requires("mmcity") or []
    except metadata.PackageNotFoundError as error:
        raise DependencyError(
            "mmcity: expected an installed package or a source tree, found neither: pip install "
            "-e . --no-build-isolation --no-deps"
        ) from error
    return [line for line in required if "extra ==" not in line]


def check_dependencies(requirements: Iterable[str] | None = None) -> None:
    """Check installed versions against requirements like ``torch>=2.11``.

    Args:
        requirements: Requirement lines. Defaults to those of the core.

    Raises:
        DependencyError: Listing every library that is missing, too old or too new, and
            the command that installs them.
    """
    problems, wanted = [], []
    for line in runtime_requirements() if requirements is None else requirements:
        requirement = Requirement(line)
        try:
            found = metadata.version(requirement.name)
            if requirement.specifier.contains(found, prereleases=True):
                continue
            problems.append(f"{requirement.name} {found} does not fit (needed: {line})")
        except metadata.PackageNotFoundError:
            problems.append(f"{requirement.name} is missing (needed: {line})")
        wanted.append(line)
    if problems:
        install = " ".join(f"'{line}'" for line in wanted)
        raise DependencyError("; ".join(problems) + f". Install with: pip install {install}")
