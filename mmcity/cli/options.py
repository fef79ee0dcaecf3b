"""Options of a command, read from the function that it calls.

Names, kinds and defaults stand in the signature, what they mean under "Args:" in the docstring.
The source is parsed and not imported, since the help of a command has to be quick.
"""

import argparse
import ast
import importlib
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmcity.utils import check_dependencies

from . import flags

_ROOT = Path(__file__).resolve().parents[2]
_SHARED: dict[str, Callable[..., None]] = {
    "amp": flags.add_amp,
    "cfg_options": flags.add_cfg_options,
    "device": flags.add_device,
    "work_dir": flags.add_work_dir,
}


def _print(found: object, _: object) -> None:
    print(found)


def command(
    function: str,
    positional: str = "",
    show: Callable[[Any, Any], object] | None = _print,
    /,
    **changes: Any,
) -> tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], None]]:
    """``add_arguments`` and ``run`` of a command that calls one function.

    Args:
        function, positional, changes: See :func:`add_function`.
        show: Called with what the function returns and with the options. Defaults to printing;
            None shows nothing.
    """

    def run(args: argparse.Namespace) -> None:
        check_dependencies()
        module, _, name = function.partition(":")
        found = getattr(importlib.import_module(module), name)(**flags.function_arguments(args))
        if show is not None:
            show(found, args)

    return lambda parser: add_function(parser, function, positional, **changes), run


def add_function(
    parser: argparse.ArgumentParser, function: str, positional: str = "", /, **changes: Any
) -> None:
    """Add an option for each argument of a function, or of a class's constructor.

    An argument ``max_depth: float = 3.0`` becomes ``--max-depth``, one without a default has to
    be given, ``pictures: bool = True`` becomes ``--no-pictures``, a sequence takes several words.
    Options that several commands share come from :mod:`mmcity.cli.flags`.

    Args:
        parser: Of the command.
        function: ``package.module:name``.
        positional: Arguments that are given by place. Defaults to none.
        changes: What differs, by argument: its choices (tuple), its flags (text), keywords of
            ``add_argument`` (dict; of :mod:`mmcity.cli.flags` for a shared option), or None to
            leave it out.

    Raises:
        ValueError: If the function lacks an argument that is named.
    """
    signature, doc = _read(function)
    arguments = dict(_arguments(signature))
    if unknown := {*positional.split(), *changes} - {*arguments}:
        raise ValueError(f"{function}: expected its arguments, got {', '.join(sorted(unknown))}")
    for name, (kind, default) in arguments.items():
        change = changes.get(name, {})
        if isinstance(change, (str, tuple)):
            change = {"flags" if isinstance(change, str) else "choices": change}
        if change is not None and name in _SHARED:
            own = {} if default in (None, "None", "False") else {"default": _value(default)}
            _SHARED[name](parser, **{**own, **change})
        elif change is not None:
            keywords = {"help": _help(doc, name, default), **_keywords(kind, default, change)}
            prefix = "--"
            if keywords.get("action") == "store_false":
                prefix, keywords["help"] = "--no-", f"do not {keywords['help']}"
            keywords = {"flags": prefix + name.replace("_", "-"), **keywords, **change}
            words = keywords.pop("flags").split()
            if name in positional.split():
                keywords.pop("required", None)
                parser.add_argument(name, **keywords)
            else:
                parser.add_argument(*words, dest=name, **keywords)


def _read(function: str) -> tuple[ast.arguments, str]:
    module, _, name = function.partition(":")
    text = _ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    (found,) = (node for node in ast.parse(text).body if getattr(node, "name", None) == name)
    doc = ast.get_docstring(found) or ""
    if isinstance(found, ast.ClassDef):
        (found,) = (node for node in found.body if getattr(node, "name", None) == "__init__")
    return found.args, doc


def _arguments(signature: ast.arguments) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Annotation and default of each argument, as they are written."""
    nodes = [*signature.args, *signature.kwonlyargs]
    missing = [None] * (len(signature.args) - len(signature.defaults))
    defaults = [*missing, *signature.defaults, *signature.kw_defaults]
    for node, default in zip(nodes, defaults, strict=True):
        if node.annotation is not None:  # self has none
            yield node.arg, (ast.unparse(node.annotation), default and ast.unparse(default))


def _value(text: str) -> Any:
    return math.inf if text == "math.inf" else ast.literal_eval(text)


def _keywords(kind: str, default: str | None, change: dict[str, Any]) -> dict[str, Any]:
    if kind == "bool" and default is not None:
        return {"action": f"store_{not _value(default)}".lower()}
    keywords: dict[str, Any] = {}
    if number := re.search(r"\b(int|float)\b", kind):
        keywords["type"] = {"int": int, "float": float}[number[1]]
    if several := kind.startswith(("Sequence", "Iterable", "Mapping")):
        keywords["nargs"] = "+"
    elif kind.startswith("tuple"):
        keywords["nargs"] = kind.count(",") + 1
    if kind.startswith("Mapping"):
        keywords["metavar"] = "KEY=VALUE"
    if default is None:
        return keywords if "default" in change else {**keywords, "required": True}
    if "default" not in change:
        value = _value(default)
        keywords["default"] = list(value) if isinstance(value, tuple) and several else value
    return keywords


def _help(doc: str, name: str, default: str | None) -> str | None:
    """Text of the docstring on an argument; of its default, only what None stands for."""
    entry = rf"^    (?:[\w, ]+, )?{name}(?:, [\w, ]+)?: (.*?)(?=^ {{,4}}\S|\Z)"
    found = re.search(entry, doc, re.M | re.S)
    if found is None:
        return None
    text = re.sub(r"[,;]? ?[Ss]ee :\w+:`[^`]*`", "", " ".join(found[1].split()))
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text).replace("``", "").replace("%", "%%")
    head, told, tail = re.match(r"(.*?)(?: ?Defaults? to (.*?)\.(?= |$)(.*))?$", text).groups("")
    parts = [re.sub(r"^[A-Z](?=[a-z ])", lambda m: m[0].lower(), f"{head}{tail}".rstrip("."))]
    told = re.sub(r"^None\W*", "", told).strip("()")
    if default == "None" and told not in ("", "none"):
        parts.append(f"default: {told}")
    return "; ".join(filter(None, parts))
