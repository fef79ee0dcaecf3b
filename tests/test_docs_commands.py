"""Every command of README, docs and configs is run by a test, or the docs say what it needs.

Options of all of them are checked against the script, so that a renamed option is noticed in
the page that still tells of it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmcity.cli.main import GROUPS, build_parser, command_names
from tests.cli.conftest import command_of

REPO = Path(__file__).resolve().parent.parent
PAGES = [
    REPO / "README.md",
    *sorted((REPO / "docs").rglob("*.md")),
    *sorted((REPO / "configs").rglob("*.md")),
    *sorted((REPO / "projects").rglob("*.md")),
]
FENCE = re.compile(r"^```(?:bash|sh|shell|console)[^\n]*\n(.*?)^```", re.S | re.M)


INLINE = re.compile(
    r"(?<!`)`((?:python |make |mim |mmcity |torchrun |(?:[A-Z_]+=\S+ )+)?[^`\n]*?"
    r"(?<![\w/])(?:(?:tools|projects)/\S+\.(?:py|sh)|^make |^mim |^mmcity )[^`\n]*)`(?!`)"
)
OPTION = re.compile(r"(?<=\s)(--[a-z][a-z-]*|-[a-zA-Z])(?=[\s=]|$)")
TABLE = REPO / "docs" / "user_guides" / "commands.md"


@dataclass
class Row:
    """What the page of commands says of one."""

    needs: str
    test: str


def table() -> dict[str, Row]:
    """Rows of the page of commands, by script or program."""
    found = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for name in re.findall(r"`([^`]+)`", cells[0]) if len(cells) == 4 else []:
            found[name.removeprefix("python -m ")] = Row(cells[2], cells[3].strip("`"))
    return found


ROWS = table()


def lines_of(page: Path) -> list[str]:
    """Command lines of a page: those of its shell blocks, and those within its text."""
    text = page.read_text(encoding="utf-8")
    blocks = [block.replace("\\\n", " ").splitlines() for block in FENCE.findall(text)]
    inline = INLINE.findall(re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))
    return [line for block in blocks for line in block] + inline


def commands() -> dict[str, set[str]]:
    """Command lines, with the pages that hold them."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        for line in lines_of(page):
            line = re.sub(r"(^|\s)#.*$", "", line).strip()
            line = re.sub(r"\s+", " ", line).removeprefix("$ ")
            if line:
                found.setdefault(line, set()).add(str(page.relative_to(REPO)))
    return found


COMMANDS = commands()
#: Of the shell itself.
SHELL = ("cd", "export", "for", "do", "done", "git", "source", "python -m venv", "ssh")


def is_command(file: Path) -> bool:
    """Whether a file is run rather than imported."""
    return file.suffix == ".sh" or "__main__" in file.read_text(encoding="utf-8")


def script_of(command: str) -> str | None:
    """Script, module or program of a command line; None for what the shell brings."""
    command = re.sub(r"^([A-Z_]+=(\"[^\"]*\"|\S+) )+", "", command)
    if re.match(rf"({'|'.join(SHELL)})\b", command):
        return None
    words = command.split()
    for word in words[:3]:
        if re.match(r"^(tools|projects|demo|tests/rig)/.*\.(py|sh)$", word):
            file = REPO / word
            return word if not file.is_file() or is_command(file) else None
    if words[:2] == ["python", "-m"]:
        return words[2]
    if words[0] == "mmcity":
        return " ".join(words[: 3 if {*words[1:2]} & {*GROUPS} else 2])
    return " ".join(words[:2]) if words[0] in ("make", "pip") else words[0]


@pytest.mark.parametrize("command", [c for c in sorted(COMMANDS) if script_of(c)])
def test_command_is_run_by_a_test_or_says_what_it_needs(command):
    script = script_of(command)
    where = f"`{command}` in {sorted(COMMANDS[command])}"
    assert script in ROWS, f"{where}: {TABLE.name} does not tell what {script} needs"


@pytest.mark.parametrize("name", sorted(ROWS))
def test_row_names_a_need_or_a_test_that_calls_it(name):
    row = ROWS[name]
    assert row.test or row.needs, f"{name}: no test runs it; add one, or what it needs"
    if row.test:
        text = (REPO / row.test).read_text(encoding="utf-8")
        assert Path(name).stem in text or name.split()[-1] in text, f"{row.test} lacks {name}"
    if "/" in name:
        assert (REPO / name).is_file(), f"{name} does not exist"


def verbs() -> list[str]:
    """Every verb as it is typed, without the groups."""
    names = [name for name in command_names("verbs") if name not in GROUPS]
    names += [f"{group} {n}" for group in GROUPS for n in command_names(f"verbs.{group}")]
    return [f"mmcity {name}" for name in names]


@pytest.mark.parametrize("verb", verbs())
def test_verb_is_run_by_the_test_of_its_row(verb):
    assert verb in ROWS, f"{TABLE.name} does not tell what {verb} needs"
    assert ROWS[verb].test, f"no test runs {verb}"
    text = (REPO / ROWS[verb].test).read_text(encoding="utf-8")
    words = verb.split()[1:]
    place = "verbs" if len(words) == 1 else f"verbs.{words[0]}"
    shells = [
        f"{script.relative_to(REPO / 'tools').with_suffix('')}"
        for script in (REPO / "tools").rglob("*.py")
        if command_of(script.relative_to(REPO)) == (place, words[-1])
    ]
    typed = r'",\s+"'.join(words)
    calls = [rf'dispatch\(\s*\["{typed}"', rf'"mmcity(\.cli)?",\s+"{typed}"']
    calls += [rf'call_tool\(\s*(\*\()?"tools/{shell}\.py"' for shell in shells]
    calls += [rf'run_tool\(\s*"{shell}"' for shell in shells]
    assert any(re.search(call, text) for call in calls), f"{ROWS[verb].test} does not run {verb}"


def test_no_command_is_left_out():
    scripts = [*(REPO / "tools").rglob("*.py"), *(REPO / "tools").rglob("*.sh")]
    names = {str(file.relative_to(REPO)) for file in scripts if is_command(file)}
    assert not names - set(ROWS)


@pytest.mark.parametrize("command", [c for c in sorted(COMMANDS) if c.startswith("mmcity ")])
def test_verb_and_options_exist(command):
    words = command.split()
    place, name = ("verbs", words[1])
    if name in GROUPS:
        place, name = f"verbs.{name}", words[2]
    known = build_parser(place, name, prog="mmcity")._option_string_actions
    for option in re.findall(OPTION, command):
        assert option in known, f"`{command}` in {sorted(COMMANDS[command])}: no {option}"


@pytest.mark.parametrize(
    "command", [c for c in sorted(COMMANDS) if (script_of(c) or "").endswith((".py", ".sh"))]
)
def test_script_and_options_exist(command):
    script = REPO / script_of(command)
    assert script.is_file(), f"`{command}` in {sorted(COMMANDS[command])}: no {script.name}"
    if script.suffix == ".sh":
        return  # passes its options on
    text = script.read_text(encoding="utf-8")
    if 'shell("' in text:
        parser = build_parser(*command_of(script), prog=script.name)
        text = "".join(f'"{option}"' for option in parser._option_string_actions)
    if script.name == "benchmark.py":  # the options are those of its parts
        text += (REPO / "mmcity" / "cli" / "scripts" / "benchmark.py").read_text(encoding="utf-8")
    for option in re.findall(OPTION, command):
        assert f'"{option}"' in text, f"`{command}` in {sorted(COMMANDS[command])}: no {option}"
