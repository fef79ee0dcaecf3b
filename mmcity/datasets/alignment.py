"""Scenes in metres: similarities from GPS positions or control points."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log

from mmcity.structures import SceneFrame, Sim3, read_frame, write_frame
from mmcity.structures.scene_frame import FRAME_FILE
from mmcity.utils.fileio import damage_told, read_json, read_table, write_json
from mmcity.utils.picture_names import check_once, match_names

from .io.colmap_model import find_colmap_model, read_colmap_model

#: WGS 84: semi-major axis in metres and first eccentricity squared.
_SEMI_MAJOR = 6378137.0
_ECCENTRICITY2 = 6.69437999014e-3
_RANSAC_ROUNDS = 500


def geodetic_to_enu(geodetic: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Metres east, north and up of an origin.

    Args:
        geodetic (np.ndarray): ``(N, 3)`` latitude and longitude in degrees, height in metres
            above the ellipsoid of WGS 84.
        origin (np.ndarray): ``(3,)`` likewise.

    Returns:
        np.ndarray: ``(N, 3)``.
    """
    offset = _to_ecef(np.atleast_2d(geodetic)) - _to_ecef(np.atleast_2d(origin))
    lat, lon = np.radians(np.asarray(origin, float)[:2])
    axes = np.array(
        [
            [-math.sin(lon), math.cos(lon), 0],
            [-math.sin(lat) * math.cos(lon), -math.sin(lat) * math.sin(lon), math.cos(lat)],
            [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)],
        ]
    )
    return offset @ axes.T


def _to_ecef(geodetic: np.ndarray) -> np.ndarray:
    lat, lon = np.radians(geodetic[:, :2].astype(float)).T
    height = geodetic[:, 2].astype(float)
    normal = _SEMI_MAJOR / np.sqrt(1 - _ECCENTRICITY2 * np.sin(lat) ** 2)
    return np.stack(
        [
            (normal + height) * np.cos(lat) * np.cos(lon),
            (normal + height) * np.cos(lat) * np.sin(lon),
            (normal * (1 - _ECCENTRICITY2) + height) * np.sin(lat),
        ],
        -1,
    )


def align_positions(
    source: np.ndarray, target: np.ndarray, threshold: float = math.inf, seed: int = 0
) -> tuple[Sim3, np.ndarray]:
    """Similarity from scene positions to known ones, and its residuals.

    Args:
        source (np.ndarray): ``(N, 3)`` scene units, at least three not on a line.
        target (np.ndarray): ``(N, 3)`` metres.
        threshold (float): Metres above which a position counts as wrong; found by RANSAC on
            triples. Defaults to infinity: all count.
        seed (int): Defaults to 0.

    Returns:
        tuple[Sim3, np.ndarray]: The similarity and ``(N,)`` residuals in metres.

    Raises:
        ValueError: If the positions fix no similarity, or fewer than three agree.
    """
    source, target = np.asarray(source, float), np.asarray(target, float)
    if len(source) < 3:
        raise ValueError(f"alignment: expected at least 3 known positions, got {len(source)}")

    def residuals(similarity: Sim3) -> np.ndarray:
        s = similarity.to(torch.float64)
        moved = float(s.scale) * source @ s.rotation.numpy().T + s.translation.numpy()
        return np.linalg.norm(moved - target, axis=1)

    keep = np.ones(len(source), bool)
    if math.isfinite(threshold):
        rng, best = np.random.RandomState(seed), np.zeros(len(source), bool)
        for _ in range(_RANSAC_ROUNDS):
            rows = rng.choice(len(source), 3, replace=False)
            try:
                trial = Sim3.from_points(
                    torch.from_numpy(source[rows]), torch.from_numpy(target[rows])
                )
            except ValueError:
                continue
            near = residuals(trial) < threshold
            if near.sum() > best.sum():
                best = near
        keep = best
        if keep.sum() < 3:
            raise ValueError(
                f"alignment: expected three of {len(source)} positions that agree within "
                f"{threshold} m, found none: raise the threshold, or check the positions"
            )
    similarity = Sim3.from_points(torch.from_numpy(source[keep]), torch.from_numpy(target[keep]))
    return similarity, residuals(similarity)


@dataclass
class SceneAlignment:
    """A scene in metres.

    Attributes:
        path: File that :func:`read_alignment` takes.
        similarity: From the scene to metres.
        residuals: ``(N,)`` metres of the known positions.
        threshold: Metres above which a position counts as wrong.
    """

    path: Path
    similarity: Sim3
    residuals: np.ndarray
    threshold: float

    @property
    def agreeing(self) -> int:
        """Number of positions that do not count as wrong."""
        return int((self.residuals < self.threshold).sum())

    @property
    def rms(self) -> float:
        """Root mean square of their residuals in metres."""
        return float(np.sqrt((self.residuals[self.residuals < self.threshold] ** 2).mean()))

    def __str__(self) -> str:
        return (
            f"{self.agreeing} of {len(self.residuals)} positions agree within "
            f"{self.threshold:g} m, rms {self.rms:.3f} m; one scene unit is "
            f"{float(self.similarity.scale):.6g} m\nwrote {self.path}"
        )


def align_scene(
    scene: str | os.PathLike,
    positions: str | os.PathLike,
    *,
    points: str | os.PathLike | None = None,
    threshold: float = 10.0,
    out: str | os.PathLike | None = None,
) -> SceneAlignment:
    """Find the metric or geographic frame of a COLMAP scene from known positions.

    It is written as alignment, which localisation takes, and as ``frame.json`` beside it, which, in
    the scene folder, travels with all that is made from the scene; one that lay there is replaced.

    Args:
        scene: Scene folder.
        positions: CSV of known positions, see :func:`read_positions`; names are those of images or
            of ``points``.
        points: CSV of control points in scene units (``name,x,y,z``). Defaults to the centres
            of the cameras.
        threshold: Metres above which a position is wrong. Defaults to 10.
        out: Defaults to ``alignment.json`` in the scene.

    Raises:
        ValueError: If fewer than three positions have a name of the scene, or agree.
    """
    known, kind = read_positions(positions)
    if points is not None:
        have, points_kind = read_positions(points)
        if points_kind != "metric":
            raise ValueError(f"{points}: expected columns name,x,y,z in scene units")
    else:
        model = read_colmap_model(
            find_colmap_model(Path(scene)), with_features=False, with_points=False
        )
        have = {image.name: np.linalg.inv(image.viewmat)[:3, 3] for image in model.images.values()}
    means = match_names(known, have, str(positions))
    names = sorted(means)
    if len(names) < 3:
        raise ValueError(
            f"{positions}: expected at least 3 names of the scene such as "
            f"{sorted(have)[:3]}, got {len(names)} of {len(known)}"
        )
    source = np.stack([have[means[name]] for name in names])
    target, origin = np.stack([known[name] for name in names]), None
    if kind == "geodetic":
        origin = target.mean(0)
        target = geodetic_to_enu(target, origin)
    similarity, residuals = align_positions(source, target, threshold)
    result = SceneAlignment(
        Path(out or Path(scene) / "alignment.json"), similarity, residuals, threshold
    )
    write_alignment(
        result.path,
        similarity,
        origin,
        frame="east, north, up of the origin" if origin is not None else "as given",
        positions=len(names),
        agreeing=result.agreeing,
        rms_metres=result.rms,
    )
    place = {} if origin is None else {"crs": "ENU", "lla": origin}
    frame, path = SceneFrame.of_similarity(similarity, **place), result.path.with_name(FRAME_FILE)
    earlier = read_frame(path)
    if earlier is not None and earlier.crs not in ("", frame.crs):
        print_log(f"{path}: the frame in {earlier.crs[:60]} is replaced", "current", 30)
    write_frame(path, frame)
    return result


def read_positions(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], str]:
    """Known positions of a CSV file with a header line.

    Columns ``name,x,y,z`` in metres, or ``name,latitude,longitude,height``, parted by commas,
    semicolons or tabs.

    Returns:
        tuple[dict, str]: Positions ``(3,)`` by name, and ``metric`` or ``geodetic``.

    Raises:
        ValueError: If columns are missing, numbers are none, or a name stands there twice.
    """
    layouts = {"metric": ("x", "y", "z"), "geodetic": ("latitude", "longitude", "height")}
    rows = read_table(path, *(("name", *names) for names in layouts.values()))
    if not rows:
        raise ValueError(f"{path}: expected positions, got the names of the columns alone")
    kind = next(kind for kind, names in layouts.items() if set(names) <= set(rows[0][1]))
    table: dict[str, np.ndarray] = {}
    for number, row in rows:
        try:
            place = np.array([float(row[name]) for name in layouts[kind]])
        except ValueError as error:
            got = [row[name] for name in layouts[kind]]
            remedy = "with a point for decimals" if any("," in text for text in got) else "in all"
            raise ValueError(
                f"{path}, line {number}: expected numbers, got {got}: write them {remedy}"
            ) from error
        if not row["name"]:
            raise ValueError(f"{path}, line {number}: expected a name, got none")
        if kind == "geodetic" and (abs(place[0]) > 90 or abs(place[1]) > 360):
            raise ValueError(
                f"{path}, line {number}: expected latitude and longitude in degrees, got "
                f"{place[0]:g} and {place[1]:g}: projected coordinates have columns x,y,z"
            )
        table[row["name"]] = place
    check_once((row["name"] for _, row in rows), path)
    lost = [name for name, place in table.items() if not np.isfinite(place).all()]
    if lost:
        raise ValueError(
            f"{path}: expected finite numbers, got others for {', '.join(lost[:3])} "
            f"({len(lost)} in all): take their lines out"
        )
    return table, kind


def write_alignment(
    path: str | os.PathLike, similarity: Sim3, origin: np.ndarray | None = None, **notes
) -> None:
    """Write a similarity as JSON, with the geodetic origin of its frame if it has one."""
    similarity = similarity.to(torch.float64)
    content = {
        "scale": float(similarity.scale),
        "rotation": similarity.rotation.tolist(),
        "translation": similarity.translation.tolist(),
        "origin": None if origin is None else np.asarray(origin).tolist(),
        **notes,
    }
    write_json(path, content)


def read_alignment(path: str | os.PathLike) -> Sim3:
    """Similarity of :func:`write_alignment`.

    Raises:
        ValueError: If the file holds none.
    """
    with damage_told(path, "JSON with scale, rotation and translation"):
        content = read_json(path)
        return Sim3(
            torch.tensor(float(content["scale"]), dtype=torch.float64),
            torch.tensor(content["rotation"], dtype=torch.float64),
            torch.tensor(content["translation"], dtype=torch.float64),
        )
