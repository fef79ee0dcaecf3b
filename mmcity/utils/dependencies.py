"""Saying clearly which library is missing or of a wrong version."""

import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from mmcity.utils.fileio import read_text

from .cli import UserError

__all__ = ["DependencyError", "check_dependencies", "runtime_requirements"]


class DependencyError(UserError, ImportError):
    """Libraries are missing or have a version that does not work."""


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
        name, bounds = _parse(line)
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            problems.append(f"{name} is missing (needed: {line})")
            wanted.append(line)
            continue
        if not all(_satisfies(found, operator, version) for operator, version in bounds):
            problems.append(f"{name} {found} does not fit (needed: {line})")
            wanted.append(line)
    if problems:
        install = " ".join(f"'{line}'" for line in wanted)
        raise DependencyError("; ".join(problems) + f". Install with: pip install {install}")


def _parse(line: str) -> tuple[str, list[tuple[str, str]]]:
    requirement = line.split(";")[0]
    match = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    if match is None:
        raise ValueError(f"expected a requirement, got {line!r}")
    return match.group(1), re.findall(r"(>=|<=|==|!=|<|>)\s*([0-9][\w.]*)", requirement)


def _release(version: str) -> tuple[int, ...]:
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in numbers.group(0).split(".")) if numbers else (0,)


def _satisfies(found: str, operator: str, bound: str) -> bool:
    ours, theirs = _release(found), _release(bound)
    width = max(len(ours), len(theirs))
    ours += (0,) * (width - len(ours))
    theirs += (0,) * (width - len(theirs))
    return {
        ">=": ours >= theirs,
        "<=": ours <= theirs,
        "==": ours == theirs,
        "!=": ours != theirs,
        "<": ours < theirs,
        ">": ours > theirs,
    }[operator]
