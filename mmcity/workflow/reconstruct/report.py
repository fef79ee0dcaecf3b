"""Report of a reconstruction: what was made, what failed and why."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmcity.datasets.io.colmap_model import find_colmap_model, read_colmap_model
from mmcity.utils.fileio import read_json, write_json, write_text
from mmcity.utils.markdown import markdown_table
from mmcity.utils.picture_names import picture_name
from mmcity.utils.progress import time_left
from mmcity.workflow.manifest import Manifest

from .pictures import NOTES

_SHOWN = 10
_FEW_PLACED = 0.8
#: dB on held-out pictures, below which a scene is poor, and iterations that are few.
_POOR, _FEW_ITERATIONS = 20.0, 1000


@dataclass
class Report:
    """Account of a reconstruction: what was made, and what failed.

    Attributes:
        source: Folder or film.
        ok: Whether a scene was made.
        message: What the chain broke off with; empty if it did not.
        pictures: Numbers of pictures ``found``, ``used`` and ``placed`` (with a pose).
        left_out: Reason by name of each picture that is not in the scene.
        doubts: What is weak, with what to do.
        numbers: Measurements, with units and what they are measured against.
        files: Path by what it holds.
        seconds: By step.
    """

    source: str
    ok: bool
    message: str = ""
    pictures: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    numbers: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [self._sentence()]
        if self.message:
            lines += ["", self.message.strip()]
        if self.left_out:
            lines += ["", f"Not in the scene ({len(self.left_out)}):"]
            lines += [f"- {name}: {why}" for name, why in list(self.left_out.items())[:_SHOWN]]
            if len(self.left_out) > _SHOWN:
                lines.append(f"- and {len(self.left_out) - _SHOWN} more, see report.json")
        if self.doubts:
            lines += ["", "Weak points:", *(f"- {doubt}" for doubt in self.doubts)]
        if self.files:
            lines += ["", "Files:", *(f"- {what}: {path}" for what, path in self.files.items())]
        return "\n".join(lines)

    def _sentence(self) -> str:
        counts = self.pictures
        parts = [f"{counts['found']} found"] if "found" in counts else []
        parts += [f"{counts[name]} {name}" for name in ("used", "placed") if name in counts]
        made = "A scene was made" if self.ok else "No scene was made"
        text = f"{made} of {self.source}: pictures: {', '.join(parts) or 'none'}"
        for number in self.numbers:
            if number["what"] == "PSNR":
                text += f"; PSNR {number['value']:.2f} dB on {number['against']}"
        return f"{text}; {time_left(sum(self.seconds.values()))}."


def make_report(manifest: Manifest, source: str, out: Path) -> Report:
    """Collect the report of a chain, also of one that broke off; write JSON and Markdown."""
    records = manifest.stages
    failed = [name for name, record in records.items() if record.status != "done"]
    report = Report(
        source=source,
        ok="scene" in records and records["scene"].status == "done",
        message="".join(
            f"Step {name} failed: {records[name].message}"
            for name in failed
            if records[name].status == "failed"
        ),
        seconds={name: round(record.seconds, 1) for name, record in records.items()},
        numbers=[asdict(f) for record in records.values() for f in record.findings],
    )
    notes = manifest.work_dir / "pictures" / NOTES
    if notes.is_file():
        _tell_pictures(report, manifest, read_json(notes))
    checks = manifest.work_dir / "checks" / "checks.json"
    if checks.is_file():
        report.doubts += [
            f"{check['what']}: {check['message']}"
            for check in read_json(checks)["checks"]
            if check["level"] != "ok"
        ]
    for number in report.numbers:
        if number["what"] == "iterations" and number["value"] < _FEW_ITERATIONS:
            report.doubts.append(
                f"the training had time for {number['value']:.0f} iterations: give more --minutes"
            )
        if number["what"] == "PSNR" and number["value"] < _POOR:
            report.doubts.append(
                f"PSNR {number['value']:.1f} dB: a poor scene: take more pictures, in which "
                "nothing moves, and light and exposure stay the same"
            )
    shown = ("scene", "mesh", "ortho")
    for name in (name for name in shown if name in records and records[name].status == "done"):
        for what, (path, _) in records[name].artefacts.items():
            report.files[what] = str((manifest.work_dir / path).resolve())
    write_json(out / "report.json", asdict(report), indent=1)
    rows = [
        (number["what"], f"{number['value']:.4g} {number['unit']}".strip(), number["against"])
        for number in report.numbers
    ]
    table = markdown_table(("what", "value", "against"), rows)
    times = markdown_table(("step", "seconds"), [(n, str(s)) for n, s in report.seconds.items()])
    picture = "\n\n![views](views.png)" if "views" in report.files else ""
    write_text(out / "report.md", f"# Reconstruction\n\n{report}{picture}\n\n{table}\n\n{times}\n")
    return report


def _tell_pictures(report: Report, manifest: Manifest, notes: dict[str, Any]) -> None:
    """Numbers of pictures, and the reasons of those that have no pose."""
    used, blurred = list(notes["used"]), set(notes["blurred"])
    report.left_out.update(notes["left_out"])
    if notes["kind"] == "film":
        report.left_out.update({name: "blurred, as all beside it" for name in notes["blurred"]})
    placed = None
    if manifest.stages.get("poses") and manifest.stages["poses"].status == "done":
        model = read_colmap_model(
            find_colmap_model(manifest.artefact("poses", "scene")),
            with_features=False,
            with_points=False,
        )
        placed = {picture_name(image.name) for image in model.images.values()}
    if notes["kind"] == "scene":
        report.pictures = {} if placed is None else dict(placed=len(placed))
        return
    report.pictures = dict(found=notes["found"], used=len(used))
    if placed is None:
        return
    report.pictures["placed"] = len(placed)
    for name in used:
        if name not in placed:
            why = "it is blurred" if name in blurred else "too little in common with the others"
            report.left_out[name] = f"no pose: {why}"
    if len(placed) < _FEW_PLACED * len(used):
        report.doubts.append(
            f"only {len(placed)} of {len(used)} pictures have a pose: take more between those that "
            "have none and the others"
        )
    kept = [name for name in used if name in blurred and name in placed]
    if kept:
        more = f" and {len(kept) - 5} more" if len(kept) > 5 else ""
        report.doubts.append(f"blurred, and used: {', '.join(kept[:5])}{more}")
