"""Configs by the names that the metafiles give them."""

import difflib
import os
from dataclasses import dataclass, field
from pathlib import Path

from mmcity.utils.fileio import read_text

from .cli import find_root


@dataclass
class ConfigSystem:
    """Configs of one system.

    Attributes:
        name: Folder below ``configs``.
        paper: Title of the paper; empty where there is none.
        configs: Path of each config relative to the root, by the name of its model.
    """

    name: str
    paper: str
    configs: dict[str, str] = field(default_factory=dict)


def read_config_index(root: Path | None = None) -> list[ConfigSystem]:
    """Systems and their configs, in the order of ``model-index.yml``.

    Args:
        root: Folder with ``model-index.yml``. Defaults to :func:`~mmcity.utils.cli.find_root`.
    """
    import yaml

    root = root or find_root()
    systems = []
    for file in yaml.safe_load(read_text(root / "model-index.yml"))["Import"]:
        content = yaml.safe_load(read_text(root / file))
        paper = content["Collections"][0].get("Paper", {}).get("Title", "")
        system = ConfigSystem(Path(file).parent.name, paper)
        system.configs = {model["Name"]: model["Config"] for model in content["Models"]}
        systems.append(system)
    return systems


def config_file(path: str | os.PathLike) -> Path:
    """Full path of a config: a file from here or from the root of the toolbox, or a name.

    Raises:
        FileNotFoundError: If there is none, see :func:`find_config`.
    """
    places = [place for place in (Path(path), find_root() / path) if place.is_file()]
    return (places[0] if places else find_config(str(path))).resolve()


def find_config(name: str) -> Path:
    """Config of a name that ``mmcity list`` prints; upper and lower case are the same.

    Raises:
        FileNotFoundError: If there is none of this name.
    """
    root = find_root()
    configs = {n.lower(): c for s in read_config_index(root) for n, c in s.configs.items()}
    if name.lower() not in configs:
        alike = difflib.get_close_matches(name.lower(), configs, n=3)
        hint = f": did you mean {' or '.join(alike)}? (`mmcity list` prints all)" if alike else ""
        raise FileNotFoundError(f"config {name}: expected a file, found none{hint}")
    return root / configs[name.lower()]
