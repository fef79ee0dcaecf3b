"""From photographs to a scene: chosen pictures, and reports of what failed and why."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from mmcity.datasets.colmap import ColmapDataset
from mmcity.structures import read_gaussians
from mmcity.utils.cli import UserError
from mmcity.visualization import write_image
from mmcity.workflow import reconstruct
from mmcity.workflow.reconstruct import choose_pictures

#: As small as can be: what is tested is that the steps fit together.
SHORT = dict(max_iters=20, cfg_options={"default_hooks.growth.strategy.max_gaussians": 2000})


def write_noise(folder, count: int, size=(64, 48), seed: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        picture = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        write_image(folder / f"{seed}_{number}.png", picture)


def test_pictures_of_one_camera_are_chosen(tmp_path):
    source = tmp_path / "source"
    write_noise(source, 4)
    write_noise(source / "more", 2, seed=1)
    write_noise(source, 1, (48, 64), seed=2)  # upright among wide ones
    (source / "broken.jpg").write_bytes(b"no picture")
    soft = cv2.resize(np.random.default_rng(3).integers(0, 256, (3, 4, 3), np.uint8), (64, 48))
    write_image(source / "soft.png", soft)
    out = tmp_path / "stage"
    out.mkdir()

    folder = choose_pictures(source, out)

    notes = json.loads((out / "pictures.json").read_text())
    assert notes["kind"] == "folder" and notes["found"] == 9
    names = ["0_0.png", "0_1.png", "0_2.png", "0_3.png", "more/1_0.png", "more/1_1.png", "soft.png"]
    assert sorted(notes["used"]) == names and notes["blurred"] == ["soft.png"]
    assert set(notes["left_out"]) == {"2_0.png", "broken.jpg"}
    assert "48x64 px, most have 64x48" in notes["left_out"]["2_0.png"]
    assert (folder / "more" / "1_0.png").read_bytes() == (source / "more" / "1_0.png").read_bytes()


def test_a_scene_with_poses_is_taken_as_it_is(toytown_citygsx, tmp_path):
    assert choose_pictures(toytown_citygsx, tmp_path) == toytown_citygsx
    assert json.loads((tmp_path / "pictures.json").read_text())["kind"] == "scene"


def test_what_cannot_become_a_scene_is_refused_at_once(tmp_path):
    write_noise(tmp_path / "photos", 3)
    with pytest.raises(UserError, match="outside of the pictures"):
        reconstruct(tmp_path / "photos", tmp_path / "photos" / "out")
    with pytest.raises(UserError, match="nothing: expected a folder of pictures or a film"):
        reconstruct(tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="expected at least 3 pictures of one size, got 2 of 2"):
        write_noise(tmp_path / "two", 2)
        reconstruct(tmp_path / "two", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert not report["ok"] and report["message"].startswith("Step pictures failed: UserError:")
    assert report["pictures"] == dict(found=2, used=2)


def test_a_scene_is_trained_exported_and_told_of(toytown_citygsx, tmp_path, capsys):
    """The chain from poses that are there on: as fast as a chain of processes can be."""
    report = reconstruct(toytown_citygsx, tmp_path / "out", **SHORT)

    assert report.ok and not report.message and report.pictures == dict(placed=8)
    assert set(report.files) == {"page", "scene", "spz", "views"}
    assert json.loads((tmp_path / "out" / "report.json").read_text())["files"] == report.files
    numbers = {row["what"]: row for row in report.numbers}
    assert numbers["iterations"]["value"] == 20 and numbers["PSNR"]["against"].endswith("pictures")
    assert any("time for 20 iterations" in doubt for doubt in report.doubts)
    ply, spz = (read_gaussians(report.files[name]) for name in ("scene", "spz"))
    assert 0 < len(ply) == len(spz) <= 2000
    text = (tmp_path / "out" / "report.md").read_text()
    assert "A scene was made of" in text and "![views](views.png)" in text
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) < 60 and "> mmcity." not in shown


@pytest.mark.slow
def test_killed_while_it_trains_it_goes_on_to_the_same_scene(toytown_citygsx, tmp_path):
    code = (
        "from tests.workflow.test_reconstruct import SHORT, reconstruct; import sys;"
        "reconstruct(sys.argv[1], sys.argv[2], **SHORT)"
    )
    command = [sys.executable, "-c", code, str(toytown_citygsx)]
    paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    train = tmp_path / "killed" / "steps" / "training" / "train"
    with subprocess.Popen(
        [*command, str(tmp_path / "killed")], env=env, start_new_session=True
    ) as process:
        while not (train / "last_checkpoint").is_file() and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "killed" / "scene.ply").exists()
    for name in ("killed", "whole"):
        subprocess.run([*command, str(tmp_path / name)], env=env, check=True)
    assert "resumed epoch" in (train.parent / "log.txt").read_text()
    scenes = [(tmp_path / name / "scene.ply").read_bytes() for name in ("killed", "whole")]
    assert scenes[0] == scenes[1]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_pictures_without_poses_become_a_scene(tmp_path):
    from mmcity.toytown import ToytownConfig
    from mmcity.toytown.writers import write_citygsx

    town = write_citygsx(
        tmp_path / "town", ToytownConfig(seed=3, blocks=(1, 1)),
        image_size=(320, 240), num_images=20, num_points=500,
    )  # fmt: skip
    options = dict(max_iters=100, mesh=True, ortho=True)
    report = reconstruct(town / "train" / "rgbs", tmp_path / "out", **options)
    assert report.ok and report.pictures["placed"] >= 0.8 * report.pictures["used"]
    assert {"scene", "spz", "page", "views", "mesh", "glb", "ortho", "heights"} == set(report.files)
    # z is up: drones fly above what they see.
    scene = ColmapDataset(tmp_path / "out" / "steps" / "poses" / "scene", split="all")
    heights = scene.all_cameras.centers[:, 2]
    assert heights.min() > np.quantile(scene.points3D.xyz[:, 2], 0.95)
    down = scene.all_cameras.cam_to_world[:, :3, 2].mean(0)
    assert down[2] < -0.5
