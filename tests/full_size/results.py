"""Results of the stages: a file that runs add to, and the page that shows it."""

import fcntl
import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mmcity.utils.fileio import read_json, write_json

from .cases import REPO, Case
from .stages import Outcome


def digest_of_sources() -> str:
    """Sum over everything that decides what a config does."""
    found = hashlib.sha256()
    for folder, kinds in (("mmcity", ("py",)), ("configs", ("py",)), ("ops", ("py", "cpp", "h"))):
        for kind in kinds:
            for path in sorted((REPO / folder).rglob(f"*.{kind}")):
                if ".mim" not in path.parts:
                    found.update(path.read_bytes())
    return found.hexdigest()[:16]


class Results:
    """What is known of each config.

    Args:
        file: JSON ``{config: {"sources": digest, "stages": {stage: outcome}}}``.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> dict[str, dict]:
        """All that is known."""
        return read_json(self.file) if self.file.is_file() else {}

    def note(self, name: str, sources: str, found: Mapping[str, Outcome]) -> None:
        """Replace what is known of a config."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            stages = {stage: asdict(outcome) for stage, outcome in found.items()}
            write_json(self.file, {**self.read(), name: {"sources": sources, "stages": stages}})

    def known(self, case: Case, sources: str) -> dict[str, Outcome] | None:
        """Outcomes of a config, if all stages passed with these sources."""
        row = self.read().get(case.name)
        if row is None or row["sources"] != sources or set(row["stages"]) != set(case.stages):
            return None
        found = {stage: Outcome(**values) for stage, values in row["stages"].items()}
        return found if all(o.state == "passed" for o in found.values()) else None
