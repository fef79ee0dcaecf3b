"""The table of hand-over errors, and a page with pictures that begins with what they say."""

import base64
import html
import io
import shlex
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from mmcity.datasets.occupancy_labels import UNIFIED_CLASSES
from mmcity.structures.palettes import UNIFIED_PALETTE
from mmcity.utils.fileio import write_text
from mmcity.utils.images import IMAGE_SUFFIXES
from mmcity.utils.markdown import markdown_table
from mmcity.utils.picture_files import read_image

from .manifest import Finding, Manifest, StageRecord

_PICTURE_SUFFIXES = (*IMAGE_SUFFIXES, ".gif")
_MOST_PIXELS = 900
#: Stages in plain words; others by their name.
_TITLES = {
    "images": "Pictures",
    "poses": "Where the pictures were taken",
    "stream_model": "Training of the streaming network",
    "geometry": "Poses and depth by the streaming network",
    "reconstruction": "Reconstruction of the place",
    "baked": "Scene for viewers",
    "pose_network": "Training of the pose network",
    "localization": "Finding new pictures in the place",
    "occupancy": "Labelled voxels",
    "future_model": "Training of the generator",
    "future": "Generated future",
    "tour": "Flight through the place",
}
#: Results whose pictures show classes.
_OF_CLASSES = ("occupancy", "future")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { border-bottom: 1px solid #ccc; padding: .25rem .8rem; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap }
img { max-width: 100%; margin: .4rem 0 }
code { background: #f2f2f2; padding: 0 .2rem; overflow-wrap: anywhere }
.failed, .weak { color: #b00 } .skipped { color: #777 } .good { color: #070 }
.legend span { display: inline-block; margin-right: .8rem }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .3rem }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818 }
  code { background: #2a2a2a } td, th { border-color: #444 }
  .failed, .weak { color: #f77 } .good { color: #7c7 } a { color: #8bf }
}
"""


def _title(stage: str) -> str:
    return _TITLES.get(stage, stage.replace("_", " ").capitalize())


def _value(finding: Finding) -> str:
    return f"{_number(finding.value)} {finding.unit}".strip()


def _rows(manifest: Manifest) -> list[tuple[str, str, str, str, str]]:
    return [
        (name, finding.what, _value(finding), finding.against, finding.verdict)
        for name, record in manifest.stages.items()
        for finding in record.findings
    ]


def summary(manifest: Manifest) -> list[str]:
    """Three sentences: what was made, how good it is, what is weak."""
    stages = manifest.stages
    made = [_title(name) for name, record in stages.items() if record.status == "done"]
    lost = [f"{_title(n)} ({r.status})" for n, r in stages.items() if r.status != "done"]
    judged = [
        (finding.verdict, f"{_title(name)}: {finding.what} {_value(finding)}")
        for name, record in stages.items()
        for finding in record.findings
    ]
    by = {word: [text for verdict, text in judged if verdict == word] for word in ("good", "weak")}
    n_judged = sum(bool(verdict) for verdict, _ in judged)
    return [
        f"Made: {', '.join(made) or 'nothing'}" + (f"; not: {', '.join(lost)}." if lost else "."),
        f"Good: {len(by['good'])} of {n_judged} figures that are judged"
        + (f" ({'; '.join(by['good'])})." if by["good"] else "."),
        f"Weak: {'; '.join(by['weak']) or 'none of them'}.",
    ]


def _number(value: float) -> str:
    """Four digits; whole numbers from a thousand on in full."""
    is_count = value >= 1000 and float(value).is_integer()
    return f"{value:,.0f}" if is_count else f"{value:.4g}"


def handover_table(manifest: Manifest) -> str:
    """All findings as a Markdown table."""
    return markdown_table(("stage", "what", "value", "against", "verdict"), _rows(manifest))


def write_report(manifest: Manifest, title: str) -> Path:
    """Write ``report.html`` (one file, pictures inside) and ``report.md``; gives the page."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    parts += [f"<p>{html.escape(sentence)}</p>" for sentence in summary(manifest)]
    look = html.escape(f"mmcity viewer {shlex.quote(str(manifest.work_dir))}")
    parts.append(f"<p>All of it in the browser: <code>{look}</code></p>")
    parts += ["<h2>Stages</h2>", _stage_table(manifest), "<h2>Figures</h2>"]
    parts.append("<table><tr><th>stage<th>what<th>value<th>against<th>verdict</tr>")
    for stage, *row in _rows(manifest):
        what, value, against, verdict = map(html.escape, row)
        parts.append(
            f"<tr><td>{html.escape(_title(stage))}<td>{what}<td class=number>{value}"
            f"<td>{against or '&ndash;'}<td class='{verdict}'>{verdict or '&ndash;'}</tr>"
        )
    parts.append("</table>")
    for name, record in manifest.stages.items():
        parts.append(_stage_section(manifest, name, record))
    page = manifest.work_dir / "report.html"
    body = "\n".join(parts)
    write_text(
        page,
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style>\n{body}\n",
    )
    text = [*summary(manifest), handover_table(manifest)]
    write_text(manifest.work_dir / "report.md", "\n\n".join(text) + "\n")
    return page


def _stage_table(manifest: Manifest) -> str:
    rows = ["<table><tr><th>stage<th>state<th>wall<th>CPU<th>files</tr>"]
    for name, record in manifest.stages.items():
        made = ", ".join(
            f"<a href='{html.escape(quote(p))}'>{html.escape(p)}</a>"
            for p, _ in record.artefacts.values()
        )
        state = f"<span class={record.status}>{record.status}</span> {html.escape(record.message)}"
        rows.append(
            f"<tr><td>{html.escape(_title(name))}<td>{state}<td class=number>{record.seconds:.0f} s"
            f"<td class=number>{record.cpu_seconds:.0f} s<td>{made}</tr>"
        )
    wall = sum(record.seconds for record in manifest.stages.values())
    cpu = sum(record.cpu_seconds for record in manifest.stages.values())
    rows.append(
        f"<tr><th>all<td><td class=number>{wall:.0f} s<td class=number>{cpu:.0f} s<td></tr>"
    )
    return "\n".join([*rows, "</table>"])


def _stage_section(manifest: Manifest, name: str, record: StageRecord) -> str:
    pictures = [
        (what, manifest.work_dir / path)
        for what, (path, _) in record.artefacts.items()
        if path.lower().endswith(_PICTURE_SUFFIXES)
    ]
    parts = [f"<h2>{html.escape(_title(name))}</h2>"]
    for finding in record.findings:
        if finding.verdict == "weak":
            said = html.escape(f"Weak: {finding.what} {_value(finding)}")
            parts.append(f"<p class=weak>{said}</p>")
    if pictures and any(what in record.artefacts for what in _OF_CLASSES):
        parts.append(_legend())
    for what, path in pictures:
        if path.is_file():
            parts.append(f"<figure><img alt='{html.escape(what)}' src='{_data_url(path)}'>")
            parts.append(f"<figcaption>{html.escape(what)}</figcaption></figure>")
    if record.commands:
        lines = "<br>".join(f"<code>{html.escape(command)}</code>" for command in record.commands)
        parts.append(f"<p>{lines}</p>")
    return "\n".join(parts)


def _legend() -> str:
    swatches = [
        f"<span><i style='background: rgb{tuple(color)}'></i>{html.escape(name)}</span>"
        for name, color in zip(UNIFIED_CLASSES[1:], UNIFIED_PALETTE[1:])
    ]
    return f"<p class=legend>{''.join(swatches)}</p>"


def _data_url(path: Path) -> str:
    if path.suffix.lower() == ".gif":
        return "data:image/gif;base64," + base64.b64encode(path.read_bytes()).decode()
    picture = Image.fromarray(read_image(path))
    picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
