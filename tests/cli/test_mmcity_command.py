"""The command ``mmcity``: its help, ``info``, ``list`` and ``demo``."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from mmcity.cli.main import GROUPS, command_names, dispatch
from mmcity.utils.cli import UserError
from tests.cli.conftest import REPO


def verbs() -> list[str]:
    """Every verb as it is typed, those of groups included."""
    names = [name for name in command_names("verbs") if name not in GROUPS]
    return names + [f"{group} {n}" for group in GROUPS for n in command_names(f"verbs.{group}")]


@pytest.mark.parametrize("verb", verbs())
def test_help_of_a_verb_shows_an_example_of_it(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        dispatch([*verb.split(), "--help"])
    assert stop.value.code == 0
    assert f"example: mmcity {verb} " in capsys.readouterr().out.replace("\n", " ") + " "


def test_help_lists_the_verbs(capsys):
    dispatch(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in command_names("verbs"))


def test_unknown_verb_is_named_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        dispatch(["no-such-verb"])
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert "'no-such-verb'" in shown and "train" in shown


def test_info_names_versions_and_operators(capsys):
    dispatch(["info"])
    shown = capsys.readouterr().out
    for word in ("mmcity", "PyTorch", "mmcity_ops", "viser", str(REPO)):
        assert word in shown


def test_list_shows_every_config_of_the_metafiles(capsys):
    dispatch(["list"])
    shown = capsys.readouterr().out
    for file in yaml.safe_load((REPO / "model-index.yml").read_text())["Import"]:
        for model in yaml.safe_load((REPO / file).read_text())["Models"]:
            assert model["Name"] in shown and model["Config"] in shown


def test_list_of_one_system_and_of_types(capsys):
    dispatch(["list", "citygsx"])
    shown = capsys.readouterr().out
    assert "citygsx_toytown_cpu" in shown and "rap_" not in shown
    dispatch(["list", "models", "--types"])
    assert "StreamVGGT" in capsys.readouterr().out
    with pytest.raises(UserError, match="gausstr"):
        dispatch(["list", "nothing-like-it"])


def test_demo_runs_the_commands_that_it_shows(tmp_path, toytown_citygsx, capsys):
    options = ["--out", str(tmp_path), "--max-iters", "3", "--no-toytown"]

    dispatch(["demo", "--scene", str(toytown_citygsx), *options])

    shown = capsys.readouterr().out
    assert "$ mmcity train 3dgs_colmap_cpu" in shown and "$ mmcity test 3dgs_colmap_cpu" in shown
    assert re.search(r"\| +citygsx \| +1 of 96x72 \| +\d+\.\d\d dB", shown), shown
    assert {"scene.ply", "fly_through.mp4", "test.json"} <= {
        file.name for file in (tmp_path / "3dgs_colmap_cpu").iterdir()
    }


def test_demo_refuses_a_missing_scene(tmp_path):
    with pytest.raises(UserError, match="no-scene: expected a folder with a COLMAP scene"):
        dispatch(["demo", "--scene", str(tmp_path / "no-scene"), "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("verb", "words", "name", "value"),
    [
        ("export", ["a.ply", "tiles", "--georeference", "-122.4,37.8,10"], "georeference", None),
        ("export", ["a.ply", "a.glb", "--up", "-y"], "up", "-y"),
        ("viewer", ["a.ply", "--up", "-y", "--check"], "up", "-y"),
        ("localize", ["scene", "--out", "o", "--up", "0", "-1", "-1.5e-3"], "up", None),
    ],
)
def test_values_may_begin_with_a_dash(verb, words, name, value):
    from mmcity.cli.main import build_parser

    args = build_parser("verbs", verb, f"mmcity {verb}").parse_args(words)

    found = getattr(args, name)
    assert found == value if value else len(found) == 3 and min(found) < 0


def test_a_misspelt_option_is_still_refused(capsys):
    from mmcity.cli.main import build_parser

    with pytest.raises(SystemExit):
        build_parser("verbs", "export", "mmcity export").parse_args(
            ["a.ply", "b.spz", "--upp", "z"]
        )
    assert "--upp" in capsys.readouterr().err


def test_output_that_nobody_reads_ends_quietly(command_env):
    """As in ``mmcity list | head``."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "mmcity.cli", "list"]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, env=command_env, check=False
    )
    os.close(writer)
    assert not done.stderr and done.returncode == 1
