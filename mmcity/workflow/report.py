"""The table of hand-over errors, and a page with pictures."""

import base64
import html
import io
from pathlib import Path

from PIL import Image

from mmcity.utils.fileio import write_text
from mmcity.utils.images import IMAGE_SUFFIXES
from mmcity.utils.markdown import markdown_table
from mmcity.utils.picture_files import read_image

from .manifest import Manifest, StageRecord

_PICTURE_SUFFIXES = (*IMAGE_SUFFIXES, ".gif")
_MOST_PIXELS = 900
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { border-bottom: 1px solid #ccc; padding: .25rem .8rem; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap }
img { max-width: 100%; margin: .4rem 0 }
code { background: #f2f2f2; padding: 0 .2rem; overflow-wrap: anywhere }
.failed { color: #b00 } .skipped { color: #777 }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818 }
  code { background: #2a2a2a } td, th { border-color: #444 }
}
"""


def _rows(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, record in manifest.stages.items():
        for finding in record.findings:
            value = f"{_number(finding.value)} {finding.unit}".strip()
            rows.append((name, finding.what, value, finding.against))
    return rows


def _number(value: float) -> str:
    """Four digits; whole numbers from a thousand on in full."""
    is_count = value >= 1000 and float(value).is_integer()
    return f"{value:,.0f}" if is_count else f"{value:.4g}"


def handover_table(manifest: Manifest) -> str:
    """All findings as a Markdown table."""
    return markdown_table(("stage", "what", "value", "against"), _rows(manifest))


def write_report(manifest: Manifest, title: str) -> Path:
    """Write ``report.html`` (one file, pictures inside) and ``report.md``; gives the page."""
    parts = [f"<h1>{html.escape(title)}</h1>", "<h2>Stages</h2>", _stage_table(manifest)]
    parts += ["<h2>Hand-over errors</h2>", "<table><tr><th>stage<th>what<th>value<th>against</tr>"]
    for row in _rows(manifest):
        stage, what, value, against = map(html.escape, row)
        parts.append(
            f"<tr><td>{stage}<td>{what}<td class=number>{value}<td>{against or '&ndash;'}</tr>"
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
    write_text(manifest.work_dir / "report.md", handover_table(manifest) + "\n")
    return page


def _stage_table(manifest: Manifest) -> str:
    rows = ["<table><tr><th>stage<th>state<th>wall<th>CPU<th>artefacts</tr>"]
    for name, record in manifest.stages.items():
        made = ", ".join(f"<code>{html.escape(p)}</code>" for p, _ in record.artefacts.values())
        state = f"<span class={record.status}>{record.status}</span> {html.escape(record.message)}"
        rows.append(
            f"<tr><td>{name}<td>{state}<td class=number>{record.seconds:.0f} s"
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
    parts = [f"<h2>{html.escape(name)}</h2>"]
    for what, path in pictures:
        if path.is_file():
            parts.append(f"<figure><img alt='{html.escape(what)}' src='{_data_url(path)}'>")
            parts.append(f"<figcaption>{html.escape(what)}</figcaption></figure>")
    if record.commands:
        lines = "<br>".join(f"<code>{html.escape(command)}</code>" for command in record.commands)
        parts.append(f"<p>{lines}</p>")
    return "\n".join(parts)


def _data_url(path: Path) -> str:
    if path.suffix.lower() == ".gif":
        return "data:image/gif;base64," + base64.b64encode(path.read_bytes()).decode()
    picture = Image.fromarray(read_image(path))
    picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
