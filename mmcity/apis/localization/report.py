"""Report of a run of the localiser: files, tables and pictures."""

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmcity.evaluation.functional.localization import (
    confidence_auc,
    localization_errors,
    summarize_localization,
)
from mmcity.structures import Cameras, SceneFrame
from mmcity.structures.geometry import quat_to_rotmat, rotmat_to_quat, se3_from_rt
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import read_json, read_rows, split_name, write_json, write_text
from mmcity.utils.markdown import markdown_table
from mmcity.utils.picture_names import check_once, picture_name

from .result import LocalizationResult

_INFINITE = (math.inf, math.inf)
#: Median length of normal errors along three axes whose variances add up to 1.
_MEDIAN_OF_UNIT_ERROR = 0.888


def _errors(camera: Cameras | None, truth: Cameras) -> tuple[float, float]:
    if camera is None:
        return _INFINITE
    found = localization_errors(camera.cam_to_world, truth.cam_to_world)
    return float(found[0]), float(found[1])


@dataclass
class LocalizationReport:
    """Collects results of one run over the queries of one scene.

    Attributes:
        scene (str): Name of the scene.
        label (str): What was run, such as ``regression start``.
        scene_extent (float): 1.1 times the radius of the mapped cameras, scene units.
        unit_scale (float): Metres per scene unit; errors are written in metres then.
        metric (bool): Whether ``unit_scale`` makes metres; else errors are in scene units.
        mapped_centers (np.ndarray): ``(M, 3)``, in the coordinates of the mapped files, as all
            poses that are written.
        frame (SceneFrame | None): From these to the world, where that is known.
        unmapped (Sequence[str]): Names of queries that show places which the map leaves out.
        seed (int | None): Of the training.
        failures (ItemFailures): Queries that could not be tried; their rows are ``failed``.
    """

    scene: str
    label: str = ""
    scene_extent: float = 0.0
    unit_scale: float = 1.0
    metric: bool = True
    mapped_centers: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    unmapped: Sequence[str] = ()
    seed: int | None = None
    frame: SceneFrame | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: ItemFailures = field(default_factory=lambda: ItemFailures("queries"))
    pose_lines: list[str] = field(default_factory=list)

    @property
    def unit(self) -> str:
        """Of the positions."""
        return "m" if self.metric else "units"

    def add(self, result: LocalizationResult, truth: Cameras | None = None) -> dict[str, Any]:
        """Note one query; returns its row."""
        row: dict[str, Any] = {
            "name": result.name,
            "status": result.status,
            "confidence": result.confidence,
            "reason": result.reason,
            "source": result.source,
            "seconds": result.seconds,
            "is_unmapped": result.name in set(self.unmapped),
            **result.details,
        }
        if result.camera is not None:
            self.pose_lines.append(_pose_line(result))
            row["cam_to_world"] = result.cam_to_world.tolist()
        if result.regressed is not None:
            row["regressed_cam_to_world"] = result.pose_of(result.regressed).tolist()
        if result.covariance is not None:
            row["covariance"] = np.asarray(result.covariance).tolist()
        if truth is not None:
            row["true_cam_to_world"] = result.pose_of(truth).tolist()
            # A failed query counts as not localised, whatever first guess it kept.
            found = _INFINITE if result.status == "failed" else _errors(result.camera, truth)
            row["error_translation"], row["error_rotation"] = self._metres(found)
            if result.regressed is not None:
                pair = self._metres(_errors(result.regressed, truth))
                row["regression_error_translation"], row["regression_error_rotation"] = pair
        self.rows.append(row)
        return row

    def _metres(self, pair: tuple[float, float]) -> tuple[float, float]:
        return pair[0] * self.unit_scale, pair[1]

    def _sigma_factors(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        """Ratios of errors to predicted deviations, by medians; 1: calibrated."""
        out = {}
        units = {"translation": self.unit_scale, "rotation": 1.0}
        for key, unit in units.items():
            ratios = [
                row[f"error_{key}"] / (unit * row[f"sigma_{key}"])
                for row in rows
                if row["status"] != "failed" and 0 < row.get(f"sigma_{key}", 0.0) < math.inf
            ]
            if ratios:
                out[key] = statistics.median(ratios) / _MEDIAN_OF_UNIT_ERROR
        return out

    def summary(self, good: tuple[float, float] = (0.25, 2.0)) -> dict[str, Any]:
        """Numbers over all queries with a known pose.

        Args:
            good (tuple): Metres and degrees below which a pose is good, for the area under
                the ROC curve of the confidence. Defaults to (0.25, 2).
        """
        known = [row for row in self.rows if "error_translation" in row]
        out: dict[str, Any] = {"queries": len(self.rows)}
        status = [row["status"] for row in self.rows]
        out.update({name: status.count(name) for name in ("ok", "low_confidence", "failed")})
        for part in ("regression", "refinement"):
            times = [row["seconds"][part] for row in self.rows if part in row["seconds"]]
            if times:
                out[f"ms_{part}"] = 1000 * statistics.median(times)
        if not known:
            return out
        mapped = [row for row in known if not row["is_unmapped"]]
        parts = {"refined": ("error_", known), "refined_mapped": ("error_", mapped)}
        regressed = [row for row in known if "regression_error_translation" in row]
        if regressed:
            inside = [row for row in regressed if not row["is_unmapped"]]
            parts["regression"] = ("regression_error_", regressed)
            parts["regression_mapped"] = ("regression_error_", inside)
        for name, (prefix, rows) in parts.items():
            if rows and (name.endswith("_mapped") is False or len(rows) < len(known)):
                pair = [
                    torch.tensor([row[prefix + key] for row in rows], dtype=torch.float64)
                    for key in ("translation", "rotation")
                ]
                out[name] = summarize_localization(*pair, unit=self.unit)
                if self.scene_extent:
                    extent = self.scene_extent * self.unit_scale
                    out[name]["median_trans_of_extent"] = out[name]["median_trans"] / extent
        factors = self._sigma_factors(known)
        if factors:
            out["sigma_factor"] = factors
        confidence = torch.tensor([row["confidence"] for row in known], dtype=torch.float64)
        is_good = torch.tensor(
            [
                row["error_translation"] < good[0] and row["error_rotation"] < good[1]
                for row in known
            ]
        )
        out["confidence_auc"] = confidence_auc(confidence, is_good)
        out["good_below"] = list(good)
        out["good_poses"] = int(is_good.sum())
        return out

    def write(self, folder: str | os.PathLike, good: tuple[float, float] = (0.25, 2.0)) -> dict:
        """Write ``poses.txt`` and ``results.json``; returns the summary."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        summary = self.summary(good)
        content = {
            "scene": self.scene,
            "label": self.label,
            "seed": self.seed,
            "unit": self.unit,
            "scene_extent": self.scene_extent,
            "mapped_centers": np.asarray(self.mapped_centers).tolist(),
            "summary": summary,
            "queries": self.rows,
        }
        if self.frame is not None and not self.frame.is_identity:
            content["frame"] = self.frame.to_dict()
        header = "# name qw qx qy qz tx ty tz (world to camera)"
        write_text(folder / "poses.txt", "\n".join([header, *self.pose_lines]) + "\n")
        write_json(folder / "results.json", content)
        return summary

    def plot(self, folder: str | os.PathLike, up: Sequence[float] | None = None) -> list[Path]:
        """Write ``trajectories.png`` and ``error_cdf.png``; needs known poses."""
        from mmcity.visualization.localization import plot_error_cdf, plot_trajectories

        known = [row for row in self.rows if "true_cam_to_world" in row]
        if not known:
            return []
        folder = Path(folder)
        truth = np.array([row["true_cam_to_world"] for row in known])[:, :3, 3]
        nothing = np.full((4, 4), np.nan).tolist()
        estimates, errors = {}, {}
        if any("regressed_cam_to_world" in row for row in known):
            poses = [row.get("regressed_cam_to_world", nothing) for row in known]
            estimates["regression"] = np.array(poses)[:, :3, 3]
            errors["regression"] = _columns(known, "regression_error_")
        poses = [
            nothing if row["status"] == "failed" else row.get("cam_to_world", nothing)
            for row in known
        ]
        estimates["refined"] = np.array(poses)[:, :3, 3]
        errors["refined"] = _columns(known, "error_")
        centers = np.asarray(self.mapped_centers)
        centers = centers if len(centers) else truth
        plot_trajectories(folder / "trajectories.png", centers, truth, estimates, up, self.unit)
        plot_error_cdf(folder / "error_cdf.png", errors, self.unit)
        return [folder / "trajectories.png", folder / "error_cdf.png"]


def _columns(rows: list[dict], prefix: str) -> tuple[np.ndarray, ...]:
    return tuple(
        np.array([row.get(prefix + key, math.inf) for row in rows], dtype=float)
        for key in ("translation", "rotation")
    )


def _pose_line(result: LocalizationResult) -> str:
    """World to camera, in the coordinates of the mapped files."""
    name, viewmat, digits = result.name, result.camera.viewmats[0].double().cpu(), 9
    quat, tvec = rotmat_to_quat(viewmat[:3, :3]), viewmat[:3, 3]
    if result.offset.any():  # far from the origin every digit of the rotation counts
        digits, center = 17, torch.from_numpy(result.cam_to_world[:3, 3])
        tvec = -quat_to_rotmat(quat) @ center
    quoted = f'"{name}"' if name.startswith(("#", '"')) else name
    return " ".join([quoted, *(f"{n:.{digits}g}" for n in (*quat.tolist(), *tvec.tolist()))])


def read_pose_file(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """World-to-camera matrices ``(4, 4)`` by name, from a ``poses.txt`` as written here.

    Raises:
        ValueError: If a line is something else, or a name has two; names file and line.
    """
    poses, names = {}, []
    for number, line in read_rows(path):
        name, words = split_name(line, 7)
        try:
            values = torch.tensor([float(word) for word in words], dtype=torch.float64)
        except ValueError:
            values = torch.empty(0)
        if len(values) != 7 or not values.isfinite().all() or not values[:4].any():
            raise ValueError(
                f"{path}, line {number}: expected name qw qx qy qz tx ty tz (world to camera), "
                f"got {line!r}"
            )
        poses[picture_name(name)] = se3_from_rt(quat_to_rotmat(values[:4]), values[4:]).numpy()
        names.append(name)
    check_once(names, path)
    return poses


# ---- one table for all runs


def read_report(path: str | os.PathLike) -> dict[str, Any]:
    """Content of a ``results.json`` (or of the one in a folder).

    Raises:
        FileNotFoundError, ValueError: If there is none, or it is something else.
    """
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a results.json of mmcity localize")
    content = read_json(path)
    if not isinstance(content, dict) or {"scene", "summary", "queries"} - set(content):
        raise ValueError(f"{path}: expected the results of mmcity localize")
    return content


def localization_table(
    reports: Sequence[dict[str, Any]],
    recalls: Sequence[tuple[float, float]] = ((0.05, 5.0), (0.25, 2.0)),
    min_seeds: int = 1,
) -> str:
    """Markdown table: a row per scene, label and stage, seeds together, then the averages.

    Medians of several seeds are given as mean and standard deviation over the seeds. The
    average over scenes of one label is that of their medians, as papers report it. Positions are
    in the unit that stands beside them, and so are thresholds.

    Raises:
        ValueError: If a row has fewer than ``min_seeds`` different seeds.
    """
    head = ["scene", "run", "stage", "queries", "seeds", "median t", "median r [deg]"]
    head += ["mean t", "mean r [deg]"]
    head += [f"within {t:g}, {r:g} deg" for t, r in recalls] + ["ms per query"]
    table: list[list[str]] = []
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for report in reports:
        for stage in ("regression", "refined", "regression_mapped", "refined_mapped"):
            if stage in report["summary"]:
                key = (report.get("label", ""), stage, report["scene"])
                groups.setdefault(key, []).append(report)
    averages: dict[tuple[str, str], list[tuple[list[float], str]]] = {}
    for (label, stage, scene), members in groups.items():
        parts = [member["summary"][stage] for member in members]
        seeds = {member.get("seed") for member in members}
        if len(seeds) < min_seeds:
            raise ValueError(
                f"{scene}, {label or 'no label'}: expected runs of {min_seeds} seeds, got "
                f"{sorted(map(str, seeds))}: train with others, and give --seed to "
                "mmcity localize"
            )
        unit = members[0].get("unit", "m")
        keys = ["median_trans", "median_rot", "mean_trans", "mean_rot"]
        keys += [f"recall_{t:g}{unit}_{r:g}deg" for t, r in recalls]
        # JSON has no infinity: null stands for it.
        values = {
            key: [math.inf if part[key] is None else part[key] for part in parts] for key in keys
        }
        cells = [_spread(values["median_trans"], unit), _spread(values["median_rot"])]
        cells += [_spread(values["mean_trans"], unit), _spread(values["mean_rot"])]
        cells += [_spread([100 * v for v in values[key]], "%", 3) for key in keys[4:]]
        time_key = "ms_refinement" if stage.startswith("refined") else "ms_regression"
        times = [m["summary"][time_key] for m in members if time_key in m["summary"]]
        cells.append(_spread(times) if times else "")
        count = str(members[0]["summary"]["queries"])
        row = [scene, label, stage.replace("_", ", "), count, str(len(members)), *cells]
        table.append(row)
        means = [statistics.fmean(values[key]) for key in keys]
        averages.setdefault((label, stage), []).append((means, unit))
    for (label, stage), rows in averages.items():
        if len(rows) < 2:
            continue
        units = {unit for _, unit in rows}
        unit = units.pop() if len(units) == 1 else "mixed units"
        mean = [statistics.fmean(column) for column in zip(*(row for row, _ in rows))]
        cells = [_number(mean[0], unit), _number(mean[1]), _number(mean[2], unit), _number(mean[3])]
        cells += [_number(100 * v, "%", 3) for v in mean[4:]]
        row = [f"average of {len(rows)}", label, stage.replace("_", ", "), "", "", *cells, ""]
        table.append(row)
    return markdown_table(head, table)


def _number(value: float, unit: str = "", digits: int = 3) -> str:
    text = "inf" if math.isinf(value) else f"{value:.{digits}g}"
    return f"{text} {unit}".strip()


def _spread(values: Sequence[float], unit: str = "", digits: int = 3) -> str:
    if len(values) == 1 or not all(map(math.isfinite, values)):
        return _number(statistics.fmean(values), unit, digits)
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    return f"{mean:.{digits}g} +- {deviation:.2g} {unit}".strip()
