"""What the repository says about its own files is true."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from mmcity.engine.config_check import check_config_keys

REPO = Path(__file__).resolve().parent.parent
CONFIGS = sorted(path for path in (REPO / "configs").rglob("*.py") if "_base_" not in path.parts)
METAFILES = sorted((REPO / "configs").rglob("metafile.yml"))
PAGES = [
    REPO / "README.md",
    *sorted((REPO / "docs").rglob("*.md")),
    *sorted((REPO / "configs").rglob("*.md")),
    *sorted((REPO / "projects").rglob("*.md")),
]


def name(path: Path) -> str:
    return str(path.relative_to(REPO))


def test_model_index_lists_exactly_the_metafiles():
    listed = yaml.safe_load((REPO / "model-index.yml").read_text())["Import"]
    assert sorted(listed) == sorted(name(path) for path in METAFILES)


@pytest.mark.parametrize("path", METAFILES, ids=name)
def test_metafile_names_existing_files(path):
    content = yaml.safe_load(path.read_text())
    models = content["Models"] if isinstance(content, dict) else content
    assert models, f"{path} lists no models"
    for model in models:
        config = REPO / model["Config"]
        assert config.is_file(), f"{name(path)}: {model['Name']} names missing {model['Config']}"
        readme = model.get("README")
        assert readme is None or (REPO / readme).is_file(), f"{name(path)}: missing {readme}"


def test_metafiles_list_every_config():
    contents = [yaml.safe_load(path.read_text()) for path in METAFILES]
    listed = [model["Config"] for content in contents for model in content["Models"]]
    assert sorted(listed) == sorted(name(path) for path in CONFIGS)


@pytest.mark.parametrize("path", METAFILES, ids=name)
def test_figures_of_metafiles_stand_in_a_readme(path):
    pages = " ".join(page.read_text() for page in (REPO / "configs").glob("*/README.md"))
    for model in yaml.safe_load(path.read_text())["Models"]:
        for result in model.get("Results", ()):
            for metric, value in result["Metrics"].items():
                number = str(value).split()[0]
                assert number in pages, f"{model['Name']}, {metric}: {number} is in no README"


@pytest.mark.parametrize("folder", sorted({p.parent for p in CONFIGS}), ids=name)
def test_config_folder_is_documented(folder):
    assert (folder / "README.md").is_file(), f"{name(folder)} has no README.md"
    assert (folder / "metafile.yml").is_file(), f"{name(folder)} has no metafile.yml"


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_config_is_read_and_its_names_are_known(path):
    cfg = Config.fromfile(path)
    check_config_keys(cfg)
    # Where mmdet3d is installed, configs that suit its tools too are built in its scope.
    bridged = "mmcity.compat.mmdet3d" in cfg.get("custom_imports", {}).get("imports", [])
    assert cfg.get("default_scope") == ("mmdet3d" if bridged else "mmcity")


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_of_pages_exist(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            continue
        assert (path.parent / target.split("#")[0]).exists(), f"{name(path)} links to {target}"


def test_optional_sets_are_not_extras():
    """An extra cannot be installed without dependencies, which these need."""
    assert "nodeps" not in (REPO / "setup.cfg").read_text()


def test_version_is_the_one_that_setup_reads():
    tree = ast.parse((REPO / "mmcity" / "version.py").read_text())
    values = [node.value.value for node in tree.body if isinstance(node, ast.Assign)]
    assert len(values) == 1 and re.fullmatch(r"\d+\.\d+\.\d+\S*", values[0])
