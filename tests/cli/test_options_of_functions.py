"""Options that are read from the signature and the docstring of a function."""

import argparse
import math
import subprocess
import sys

import pytest

from mmcity.cli import options
from mmcity.cli.main import GROUPS, build_parser, command_names
from mmcity.cli.options import add_function, command

MODULE = '''
import math

raise ImportError("the module must not be imported")


def draw(
    scene: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    every: int = 2,
    max_depth: float = math.inf,
    size: tuple[int, int] | None = None,
    names: Sequence[str] = ("a",),
    show: bool = False,
    pages: bool = True,
    mode: str | None = None,
    device: str = "cpu",
    cfg_options: Mapping[str, object] | None = None,
    style_options: Mapping[str, object] | None = None,
    parser: str = "",
) -> None:
    """Draw.

    Args:
        scene, out_dir: Folders, see :class:`~a.b.Scene`.
        every: Every n-th, 10 % of them
            at most. Defaults to 2.
        pages: Write ``.html`` pages. Defaults to True.
        mode: COLMAP's or :data:`a.OURS`. Defaults to the scene's. More.
        size: Defaults to None: as it is.
        names: Not more than 1.5. Defaults to ("a",).

    Returns:
        mode: This is no argument.
    """


class Pen:
    """A pen.

    Args:
        width: Pixels.
    """

    def __init__(self, width: float, colour=None) -> None: ...
'''


@pytest.fixture
def parser(tmp_path, monkeypatch):
    (tmp_path / "drawing.py").write_text(MODULE)
    monkeypatch.setattr(options, "_ROOT", tmp_path)
    return argparse.ArgumentParser()


def actions(parser):
    return {action.dest: action for action in parser._actions if action.dest != "help"}


def test_signature_gives_names_kinds_and_defaults(parser):
    add_function(parser, "drawing:draw", "scene")
    found = actions(parser)
    assert parser.parse_args(["x", "--out-dir", "y"]) == argparse.Namespace(
        scene="x", out_dir="y", every=2, max_depth=math.inf, size=None, names=["a"], show=False,
        pages=True, mode=None, device="cpu", cfg_options=None, style_options=None, parser="",
    )  # fmt: skip
    words = "x --out-dir y --every 3 --max-depth 1.5 --size 4 5 --names b c --show --no-pages"
    given = parser.parse_args([*words.split(), "--style-options", "a=1", "b=2"])
    assert (given.every, given.max_depth, given.size) == (3, 1.5, [4, 5])
    assert (given.names, given.show, given.pages) == (["b", "c"], True, False)
    assert given.style_options == ["a=1", "b=2"]
    assert found["out_dir"].required and not found["mode"].required
    with pytest.raises(SystemExit):
        parser.parse_args(["x", "--out-dir", "y", "--size", "4"])


def test_docstring_gives_help_and_what_none_means(parser):
    add_function(parser, "drawing:draw", "scene")
    shown = {name: action.help for name, action in actions(parser).items()}
    assert shown["scene"] == shown["out_dir"] == "folders"
    assert shown["every"] == "every n-th, 10 %% of them at most"
    assert shown["pages"] == "do not write .html pages"
    assert shown["mode"] == "COLMAP's or OURS. More; default: the scene's"
    assert shown["size"] == "default: as it is"
    assert shown["names"] == "not more than 1.5"
    assert shown["show"] is None
    assert shown["device"] == "cpu or cuda[:N]; default: cpu"
    assert "10 % of them" in parser.format_help()


def test_changes_stand_over_the_signature(parser):
    add_function(
        parser, "drawing:draw", "scene",
        out_dir="-o --out", mode=("fast", "slow"), device=None, pages="--plain", show=None,
        every=dict(nargs="?", const=7, help="some"), cfg_options=dict(example="a=b"),
        max_depth=dict(default=3.0), parser=dict(metavar="WORDS"),
    )  # fmt: skip
    given = parser.parse_args(["x", "-o", "y", "--every", "--mode", "slow", "--plain"])
    assert (given.out_dir, given.every, given.mode, given.pages) == ("y", 7, "slow", False)
    assert given.max_depth == 3.0 and "show" not in given and "device" not in given
    assert "a=b" in actions(parser)["cfg_options"].help
    with pytest.raises(SystemExit):
        parser.parse_args(["x", "-o", "y", "--mode", "other"])


def test_constructor_of_a_class_and_unknown_names(parser):
    add_function(parser, "drawing:Pen")
    assert parser.parse_args(["--width", "2"]) == argparse.Namespace(width=2.0)
    assert actions(parser)["width"].help == "pixels"
    with pytest.raises(ValueError, match="drawing:Pen: expected its arguments, got length, size"):
        add_function(parser, "drawing:Pen", "length", size=None)


def test_command_calls_the_function_and_shows_what_it_returns(capsys):
    add, run = command("mmcity.utils.markdown:markdown_table", "head", rows=None)
    parser = argparse.ArgumentParser()
    add(parser)
    args = parser.parse_args(["a", "b"])
    args.rows = [(1, 2)]
    run(args)
    shown = capsys.readouterr().out
    assert "| a" in shown and "| 1" in shown
    for show, expected in ((None, ""), (lambda text, args: print(len(args.head)), "2\n")):
        command("mmcity.utils.markdown:markdown_table", "head", show)[1](args)
        assert capsys.readouterr().out == expected


@pytest.mark.parametrize("place", ["verbs", *(f"verbs.{group}" for group in GROUPS), "scripts"])
def test_help_names_no_function_that_a_user_cannot_see(place):
    for name in command_names(place):
        if name in GROUPS:
            continue
        for action in build_parser(place, name, name)._actions:
            text = action.help or ""
            assert ":`" not in text and " see " not in f" {text.lower()} ", (name, action.dest)


def test_help_is_quick():
    code = """
import sys
from mmcity.cli.main import GROUPS, build_parser, command_names
for place in ("verbs", *(f"verbs.{group}" for group in GROUPS), "scripts"):
    for name in command_names(place):
        if name not in GROUPS:
            build_parser(place, name, name).format_help()
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
