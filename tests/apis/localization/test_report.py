"""What a run reports, against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
import torch

from mmcity.apis import (
    LocalizationReport,
    LocalizationResult,
    localization_table,
    read_pose_file,
    read_report,
)
from mmcity.evaluation.functional.localization import confidence_auc
from mmcity.structures import Cameras

K = np.array([[100.0, 0, 50], [0, 100.0, 40], [0, 0, 1]])


def camera(x: float) -> Cameras:
    pose = np.eye(4)
    pose[0, 3] = -x
    return Cameras(K, pose, 100, 80)


def run(errors, confidences, regression=1.0, **fields) -> LocalizationReport:
    report = LocalizationReport(scene="street", scene_extent=10.0, **fields)
    for k, (error, confidence) in enumerate(zip(errors, confidences)):
        lost = math.isinf(error)
        result = LocalizationResult(
            f"q{k}.jpg",
            camera(0.0 if lost else error),
            status="failed" if lost else "ok",
            confidence=confidence,
            regressed=camera(regression),
            seconds={"regression": 0.01, "refinement": 0.5 + k},
        )
        report.add(result, camera(0.0))
    return report


def test_auc_counts_pairs():
    confidence = torch.tensor([0.9, 0.5, 0.5, 0.1])
    good = torch.tensor([True, True, False, False])
    # Pairs good > bad: (0.9, 0.5), (0.9, 0.1), (0.5, 0.1) and half of (0.5, 0.5).
    assert confidence_auc(confidence, good) == 3.5 / 4
    assert math.isnan(confidence_auc(confidence, torch.ones(4, dtype=torch.bool)))


def test_summary_of_a_run(tmp_path):
    report = run([0.1, 0.3, math.inf], [0.9, 0.2, 0.0], unmapped=["q2.jpg"], unit_scale=2.0)
    summary = report.write(tmp_path, good=(0.25, 2.0))
    assert summary["ok"] == 2 and summary["failed"] == 1
    assert summary["refined"]["median_trans"] == pytest.approx(0.6)  # metres: twice the units
    assert summary["refined_mapped"]["median_trans"] == pytest.approx(0.4)
    assert summary["refined_mapped"]["median_trans_of_extent"] == pytest.approx(0.02)
    assert summary["regression"]["median_trans"] == pytest.approx(2.0)
    assert summary["confidence_auc"] == 1.0 and summary["good_poses"] == 1
    assert summary["ms_refinement"] == pytest.approx(1500)
    again = read_report(tmp_path)
    assert again["queries"][1]["error_translation"] == pytest.approx(0.6)
    lines = (tmp_path / "poses.txt").read_text().splitlines()
    assert lines[1].split()[0] == "q0.jpg" and len(lines) == 4
    for path in report.plot(tmp_path, up=(0, 0, 1)):
        assert path.stat().st_size > 5000


def test_deviations_are_measured_against_errors():
    """Normal errors with twice the predicted deviation along each axis."""
    rng = np.random.default_rng(0)
    report = LocalizationReport(scene="street", unit_scale=10.0)
    for k in range(2000):
        pose = np.eye(4)
        pose[:3, 3] = rng.normal(0, 0.2 / np.sqrt(3), 3)
        result = LocalizationResult(
            f"{k}", Cameras(K, pose, 100, 80), status="ok",
            details={"sigma_translation": 0.1, "sigma_rotation": 0.0},
        )  # fmt: skip
        report.add(result, camera(0.0))
    # Whatever the unit; deviations of rotation are not given.
    assert report.summary()["sigma_factor"] == {"translation": pytest.approx(2.0, rel=0.05)}


def test_written_poses_are_first_poses_of_another_run(tmp_path):
    run([0.1, 0.3], [0.9, 0.2]).write(tmp_path)
    poses = read_pose_file(tmp_path / "poses.txt")
    assert list(poses) == ["q0.jpg", "q1.jpg"]
    np.testing.assert_allclose(poses["q1.jpg"], camera(0.3).viewmats[0], atol=1e-6)
    (tmp_path / "short.txt").write_text("\nq0.jpg 1 0 0 0 1 2\n")
    with pytest.raises(ValueError, match="short.txt, line 2: expected name qw"):
        read_pose_file(tmp_path / "short.txt")


def test_table_joins_seeds_and_averages_scenes(tmp_path):
    reports = []
    for scene, seed, error in (("a", 0, 0.1), ("a", 1, 0.3), ("b", 0, 0.6)):
        report = run([error] * 3, [0.5] * 3, seed=seed, label="full")
        report.scene = scene
        report.write(tmp_path / f"{scene}{seed}")
        reports.append(read_report(tmp_path / f"{scene}{seed}"))
    table = localization_table(reports, recalls=[(0.25, 2.0)])
    rows = {
        tuple(cell.strip() for cell in line.split("|")[1:6]): line for line in table.split("\n")
    }
    line = rows["a", "full", "refined", "3", "2"]
    assert "0.2 +- 0.14 m" in line and "50 +- 71 %" in line
    assert "0.6 m" in rows["b", "full", "refined", "3", "1"]
    (average,) = [
        row for key, row in rows.items() if key[:3] == ("average of 2", "full", "refined")
    ]
    cells = [cell.strip() for cell in average.split("|")]
    assert "0.4 m" in cells and "25 %" in cells


def test_positions_without_metres_are_named_so(tmp_path):
    report = run([0.1, 0.3], [0.9, 0.2], metric=False)
    summary = report.write(tmp_path)
    assert summary["refined"]["recall_0.25units_2deg"] == 0.5
    assert "recall_0.25m_2deg" not in summary["refined"]
    table = localization_table([read_report(tmp_path)], recalls=[(0.25, 2.0)])
    assert "within 0.25, 2 deg" in table and "0.2 units" in table and "50 %" in table


def test_rows_of_too_few_seeds_are_refused(tmp_path):
    reports = []
    for seed in (0, 1, 1):
        run([0.1], [0.9], seed=seed, label="full").write(tmp_path / str(len(reports)))
        reports.append(read_report(tmp_path / str(len(reports))))
    assert "full" in localization_table(reports, min_seeds=2)
    with pytest.raises(ValueError, match="expected runs of 3 seeds, got .'0', '1'"):
        localization_table(reports, min_seeds=3)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="mmcity localize"):
        read_report(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({"scene": "x"}))
    with pytest.raises(ValueError, match="mmcity localize"):
        read_report(tmp_path)
