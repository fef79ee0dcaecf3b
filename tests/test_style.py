"""Each fact of the code stands in one place, and calls can be read."""

import ast
import functools
import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
FOLDERS = ("mmcity", "ops", "tools", "projects")
FACTS = {
    "suffixes": {".png", ".jpg"},
    "grey": {0.299, 0.587, 0.114},
    "mean": {0.485, 0.456, 0.406},
    "deviation": {0.229, 0.224, 0.225},
    "mean of 255": {123.675, 116.28, 103.53},
    "deviation of 255": {58.395, 57.12, 57.375},
}


@functools.cache
def syntax() -> dict[str, ast.Module]:
    """The syntax trees of the package, the operators, scripts and projects, by file."""
    files = [file for folder in FOLDERS for file in (REPO / folder).rglob("*.py")]
    names = [str(f.relative_to(REPO)) for f in files if ".mim" not in f.parts]
    return {name: ast.parse((REPO / name).read_text()) for name in sorted(names)}


@pytest.mark.parametrize("fact", FACTS)
def test_facts_about_pictures_stand_once(fact):
    places = {
        name
        for name, tree in syntax().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Tuple | ast.List | ast.Set)
        and FACTS[fact] <= {e.value for e in node.elts if isinstance(e, ast.Constant)}
    }
    assert places <= {"mmcity/utils/images.py"}


def test_feed_forward_parts_share_one_class():
    names = re.compile(r"mlp|ffn|feed_?forward", re.IGNORECASE)
    bases = {
        node.name: [ast.unparse(base) for base in node.bases]
        for tree in syntax().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and names.search(node.name)
    }
    assert bases == {"Mlp": ["nn.Module"], "MLP": ["Mlp"]}


def test_docstrings_begin_with_the_thing_not_with_a_question():
    """ "Samplers of the next training views", not "Which views come next"."""
    questions = {"What", "Which", "How", "Where", "Who", "Whose", "When", "Why"}
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    riddles = [
        f"{name}: {text}"
        for name, tree in syntax().items()
        for node in ast.walk(tree)
        if isinstance(node, kinds)
        for text in [ast.get_docstring(node)]
        if text and text.split()[0] in questions
    ]
    assert not riddles


def test_calls_of_many_arguments_name_them():
    """At most seven stand by their place; a starred sequence counts as one."""
    calls = [
        f"{name}:{node.lineno} {ast.unparse(node.func)}"
        for name, tree in syntax().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and len(node.args) > 7
    ]
    assert not calls, calls
