"""``tools/`` and ``projects/`` are shells: the package neither imports nor runs them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import REPO, command_of

SOURCES = [
    path
    for folder in ("mmcity", "projects")
    for path in sorted((REPO / folder).rglob("*.py"))
    if ".mim" not in path.parts
]
PLACE = re.compile(r"\b(?:tools|projects)(?:/(?!.*configs)|$)")
SCRIPT = re.compile(r"\btools/[\w/]+\.py\b")
BY_POSITION = re.compile(r"\bcustom_hooks(?:\.|\[)-?\d")
_BODIES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def name(path: Path) -> str:
    return str(path.relative_to(REPO))


def faults(source: str) -> Iterator[str]:
    """What ties a module of the package to scripts."""
    tree = ast.parse(source)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                  if isinstance(node, _BODIES) and ast.get_docstring(node)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                modules = [] if node.level else [node.module or ""]
            yield from (f"imports {m}" for m in modules if m.split(".")[0] in ("tools", "projects"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value.strip()
            is_word = id(node) not in docstrings and len(text.split()) == 1
            if is_word and PLACE.match(text):
                yield f"names {text}"
        elif isinstance(node, ast.keyword) and node.arg == "shell":
            yield "runs a shell"
        elif isinstance(node, (ast.Name, ast.Attribute)):
            if ast.unparse(node) in ("os.system", "os.popen", "runpy"):
                yield f"uses {ast.unparse(node)}"
    if BY_POSITION.search(source):
        yield "addresses a hook by position"


@pytest.mark.parametrize(
    "source",
    [
        "import tools.train",
        "from projects.city_twin import run",
        "run('tools/train.py', config)",
        "run(f'tools/{name}.py')",
        "run(root / 'tools' / 'train.py')",
        "subprocess.run('python tools/train.py CONFIG', shell=True)",
        "os.system(command)",
        "values = {'custom_hooks.1.map': scene}",
        "cfg.custom_hooks[0].map = scene",
    ],
)
def test_ties_are_noticed(source):
    assert list(faults(source))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_package_stands_without_its_shells(path):
    """Docstrings and messages may tell of scripts."""
    assert not list(faults(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_messages_name_the_verb_where_there_is_one(path):
    for script in SCRIPT.findall(path.read_text(encoding="utf-8")):
        place, verb = command_of(script)
        group = " data" if place == "verbs.data" else ""
        assert place == "scripts", f"{name(path)}: {script} is `mmcity{group} {verb}`"
