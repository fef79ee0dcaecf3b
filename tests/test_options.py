"""Every option of a registered class has a user."""

import ast
import importlib
import inspect
import re
from functools import cache
from pathlib import Path

from mmengine.registry import Registry

from mmcity import registry
from mmcity.utils.setup_env import register_all_modules

REPO = Path(__file__).resolve().parent.parent
PLACES = ("configs", "docs", "tests", "tools", "projects", "README.md")


@cache
def named_options(path: Path) -> frozenset[str]:
    """Words of a file that may name an option of a class."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return frozenset(re.findall(r"\w+", " ".join(re.findall(r"```.*?```|`[^`]+`", text, re.S))))
    if path.suffix != ".py" or "configs" in path.parts:  # comments of configs tell of options
        return frozenset(re.findall(r"(\w+)(?:=|:| = )", text))
    names, is_test = set(), "tests" in path.parts
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword):
            names.add(node.arg)
        elif is_test and isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)  # cfg.model.option = ...
        elif isinstance(node, ast.Constant) and re.fullmatch(r"[\w.]+(=.*)?", str(node.value)):
            names.update(str(node.value).partition("=")[0].split("."))
    return frozenset(names)


def test_every_option_is_named_by_a_config_page_test_or_other_module():
    register_all_modules()
    importlib.import_module("mmcity.apis")
    files = [path for place in PLACES for path in [REPO / place, *(REPO / place).rglob("*")]]
    suffixes = (".py", ".md", ".sh", ".yml", ".yaml")
    outside = [path for path in files if path.is_file() and path.suffix in suffixes]
    modules = [path for path in (REPO / "mmcity").rglob("*.py") if ".mim" not in path.parts]
    known = frozenset().union(*map(named_options, outside))

    classes = {
        kind
        for group in vars(registry).values()
        if isinstance(group, Registry) and group.scope == "mmcity"
        for kind in group.module_dict.values()
        if inspect.isclass(kind) and kind.__module__.startswith("mmcity.")
    }
    unnamed = []
    for kind in sorted(classes, key=lambda kind: (kind.__module__, kind.__name__)):
        if "__init__" not in vars(kind):
            continue
        options = inspect.signature(kind.__init__).parameters.values()
        rare = {option.name for option in options if option.default is not option.empty} - known
        if rare:
            own = Path(inspect.getsourcefile(kind)).resolve()
            rare.difference_update(*(named_options(path) for path in modules if path != own))
        unnamed += [f"{kind.__name__}.{name}" for name in sorted(rare)]

    assert len(classes) > 100
    assert not unnamed, f"use these options somewhere, or delete them: {', '.join(unnamed)}"
