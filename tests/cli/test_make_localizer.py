"""One command from pictures to a localiser."""

import json
import sys

import pytest

from mmcity.apis import load_localizer, read_localizer_file, write_localizer_file
from mmcity.utils.cli import UserError
from mmcity.workflow import make_localizer
from tests.cli.conftest import REPO

VERB = (sys.executable, "-m", "mmcity.cli", "make-localizer")
#: As small as can be: what is tested is that the steps fit together.
SHORT = (
    "--long-side", "96", "--starts", "1",
    "--map-options", "train_cfg.max_iters=20", "train_cfg.val_interval=20",
    "default_hooks.checkpoint.interval=20", "train_dataloader.dataset.resize.long_side=96",
    "--network-options", "train_cfg.max_epochs=1", "train_cfg.val_interval=1",
    "default_hooks.checkpoint.interval=1", "default_hooks.view_synthesis.views_per_image=1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.ci_slow
def test_pictures_become_a_localiser(toytown_citygsx, run_command, tmp_path):
    command = (*VERB, toytown_citygsx, tmp_path / "out", "--metric", *SHORT)
    done = run_command(*command, "--until", "map")
    assert "ok      intrinsics: one camera" in done.stdout and "== pose_network" not in done.stdout
    done = run_command(*command)
    for step in ("poses", "checks", "map"):
        assert f"== {step}: done before" in done.stdout
    states = json.loads((tmp_path / "out" / "manifest.json").read_text())["stages"]
    assert [row["status"] for row in states.values()] == ["done"] * 6
    report = (tmp_path / "out" / "report.md").read_text()
    assert "| localization | localised queries" in report

    # The folder works from another place, through the API and the command of queries.
    (tmp_path / "out").rename(tmp_path / "moved")
    file = tmp_path / "moved" / "localizer.json"
    content = json.loads(file.read_text())
    assert not content["not_metric"] and content["long_side"] == 96
    assert not any(str(value).startswith("/") for value in content.values())
    localizer = load_localizer(file, num_starts=1)
    image = localizer.mapped.load(0)["img"]
    result = localizer.localize(image, name="known")
    assert result.regressed is not None and result.status in ("ok", "low_confidence", "failed")
    folder = tmp_path / "queries"
    folder.mkdir()
    picture = next((toytown_citygsx / "train" / "rgbs").iterdir())
    (folder / picture.name).write_bytes(picture.read_bytes())
    done = run_command(
        sys.executable, REPO / "tools" / "localize.py", file, "--queries", folder,
        "--out", tmp_path / "results", "--starts", "1", "--no-pictures",
    )  # fmt: skip
    assert "queries: 1" in done.stdout


def test_errors_of_the_checks_come_before_training(toytown_citygsx, run_command, tmp_path):
    model = tmp_path / "scene"
    model.mkdir()
    for name in ("train", "sparse"):
        (model / name).symlink_to(toytown_citygsx / name)
    pictures = sorted((toytown_citygsx / "train" / "rgbs").iterdir())
    (model / "list_test.txt").write_text("".join(f"{path.name}\n" for path in pictures[2:]))
    with pytest.raises(UserError, match="a map needs 3 at least"):
        make_localizer(model, tmp_path / "out")
    assert not (tmp_path / "out" / "map").exists()
    with pytest.raises(UserError, match="test_every: expected at least 2"):
        make_localizer(model, tmp_path / "out", test_every=1)
    done = run_command(*VERB, tmp_path / "nothing", tmp_path / "other", check=False)
    assert done.returncode == 1 and "expected a folder of pictures" in done.stderr


def test_localizer_file_names_what_is_gone(tmp_path):
    (tmp_path / "scene").mkdir()
    (tmp_path / "map.ply").write_bytes(b"")
    file = tmp_path / "localizer.json"
    parts = dict(scene=tmp_path / "scene", map=tmp_path / "map.ply", long_side=480)
    write_localizer_file(file, **parts, config=None)
    assert read_localizer_file(file) == {
        **{name: str(path) for name, path in parts.items() if name != "long_side"},
        "long_side": 480, "config": None,
    }  # fmt: skip
    (tmp_path / "map.ply").unlink()
    with pytest.raises(FileNotFoundError, match="expected its map .*map.ply, found none"):
        read_localizer_file(file)
    file.write_text("[]")
    with pytest.raises(ValueError, match="mmcity make-localizer"):
        read_localizer_file(file)
    with pytest.raises(ValueError, match="weights_file"):
        write_localizer_file(file, **parts, weights_file="x")
