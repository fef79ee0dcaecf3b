"""One command from photographs to a scene, as a user types it."""

import json
import sys

import numpy as np

from mmcity.visualization import write_image

VERB = (sys.executable, "-m", "mmcity.cli", "reconstruct")


def test_useless_pictures_end_in_one_clear_report(run_command, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        picture = rng.integers(0, 256, (48, 64, 3), np.uint8)
        write_image(tmp_path / "photos" / f"{number}.png", picture)

    done = run_command(*VERB, tmp_path / "photos", tmp_path / "out", check=False)

    assert done.returncode == 1
    assert "No scene was made of" in done.stdout and "Step poses failed" in done.stdout
    assert "expected pictures that make a model, got none: take more pictures" in done.stdout
    assert len((done.stdout + done.stderr).splitlines()) < 40
    assert "Traceback" not in done.stdout + done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert not report["ok"] and report["pictures"] == dict(found=3, used=3)
    assert "take more pictures" in (tmp_path / "out" / "report.md").read_text()
    assert not (tmp_path / "out" / "scene.ply").exists()
