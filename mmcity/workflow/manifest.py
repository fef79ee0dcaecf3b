"""Record of each stage's artefacts, written to disk after every step."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmcity.utils.fileio import read_json, write_json

NAME = "manifest.json"


@dataclass
class Finding:
    """One number of the table of hand-over errors.

    Attributes:
        what: Quantity.
        value: Number.
        unit: Such as ``m``; empty for ratios.
        against: What it is measured against; empty for a size or a count.
        bounds: Values from which on it is good, and weak. Defaults to None: it is not judged.
    """

    what: str
    value: float
    unit: str = ""
    against: str = ""
    bounds: tuple[float, float] | None = None

    @property
    def verdict(self) -> str:
        """``good``, ``fair`` or ``weak``; empty for what is not judged."""
        if self.bounds is None:
            return ""
        good, weak = self.bounds
        sign = 1 if good > weak else -1
        if sign * (self.value - good) >= 0:
            return "good"
        return "fair" if sign * (self.value - weak) > 0 else "weak"


@dataclass
class StageRecord:
    """State of one stage.

    Attributes:
        status: ``running``, ``done``, ``skipped`` or ``failed``.
        key: Digest of the stage's settings and of the runs of the stages it takes from.
        run_id: Changes with every new run of the stage.
        artefacts: Path relative to the work folder and size in bytes (-1: a folder), by name.
        findings: Rows of the table.
        commands: Calls that ran, as lines of Python.
        seconds: Wall time of all its starts together.
        cpu_seconds: CPU time of all its starts, child processes included.
        message: Why it was skipped or failed.
        before: Record of an earlier run whose results are kept until this one is done.
    """

    status: str = "running"
    key: str = ""
    run_id: str = ""
    artefacts: dict[str, tuple[str, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    message: str = ""
    before: "StageRecord | None" = None


class Manifest:
    """Records of all stages in ``manifest.json`` of the work folder.

    Args:
        work_dir: Folder; an earlier manifest in it is read.

    Raises:
        ValueError: If the file there is not a manifest.
    """

    def __init__(self, work_dir: str | os.PathLike) -> None:
        self.work_dir = Path(work_dir)
        self.path = self.work_dir / NAME
        self.stages: dict[str, StageRecord] = {}
        if self.path.is_file():
            try:
                content = read_json(self.path)
                self.stages = {name: _record(row) for name, row in content["stages"].items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{self.path}: expected a manifest of a chain, got {error!r}; delete it "
                    "to start anew"
                ) from error

    def save(self, **notes: Any) -> None:
        """Write the file, whole or not at all."""
        content = {**notes, "stages": {name: asdict(row) for name, row in self.stages.items()}}
        write_json(self.path, content)

    def artefact(self, stage: str, name: str) -> Path:
        """Path of something that a stage has made.

        Raises:
            KeyError: If it has not.
        """
        record = self.stages.get(stage)
        if record is None or record.status != "done" or name not in record.artefacts:
            known = [] if record is None else list(record.artefacts)
            raise KeyError(f"stage {stage!r} has made no {name!r}, only {known}")
        return self.work_dir / record.artefacts[name][0]

    def is_intact(self, stage: str) -> bool:
        """Whether all artefacts of a finished stage still lie there, at their sizes."""
        for path, size in self.stages[stage].artefacts.values():
            full = self.work_dir / path
            if not full.exists() or (size >= 0 and full.stat().st_size != size):
                return False
        return True


def _record(row: dict[str, Any]) -> StageRecord:
    row = dict(row, findings=[Finding(**finding) for finding in row["findings"]])
    row["artefacts"] = {name: (path, size) for name, (path, size) in row["artefacts"].items()}
    row["before"] = _record(row["before"]) if row.get("before") else None
    return StageRecord(**row)
