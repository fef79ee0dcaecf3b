"""Poses of the images, as a COLMAP scene that the next stages take."""

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmcity.datasets.alignment import align_positions, geodetic_to_enu, read_positions
from mmcity.datasets.converters import map_pictures
from mmcity.datasets.io.colmap_model import (
    find_colmap_model,
    frame_of_model,
    read_colmap_model,
    write_colmap_model,
)
from mmcity.datasets.io.colmap_types import ColmapModel
from mmcity.evaluation.functional.localization import localization_errors
from mmcity.structures import Sim3
from mmcity.structures.geometry import rotmat_to_quat, se3_inverse
from mmcity.structures.scene_frame import FRAME_FILE, read_frame, write_frame
from mmcity.utils.fileio import write_text
from mmcity.utils.images import list_images
from mmcity.utils.picture_names import match_names, read_names
from mmcity.workflow import STAGES, Finding, Stage, StageContext, stem_to_pose, true_poses

_TEST_EVERY = 8


def transform_model(model: ColmapModel, sim3: Sim3) -> None:
    """Carry the poses and points of a model by a similarity, in place."""
    for image in model.images.values():
        pose = torch.from_numpy(np.linalg.inv(image.viewmat))
        view = se3_inverse(sim3.transform_poses(pose)).numpy()
        image.qvec = rotmat_to_quat(torch.from_numpy(view[:3, :3])).numpy()
        image.tvec = view[:3, 3]
    model.points3D.xyz = sim3(torch.from_numpy(model.points3D.xyz)).numpy()


def _lay_out(context: StageContext, images: Path, model: ColmapModel, held: set[str]) -> Path:
    """A scene in the CityGS-X layout that links the pictures; held-out ones by name."""
    scene = context.folder / "scene"
    shutil.rmtree(scene, ignore_errors=True)
    (scene / "train").mkdir(parents=True)
    (scene / "train" / "rgbs").symlink_to(images, target_is_directory=True)
    names = sorted(image.name for image in model.images.values())
    meant = set(match_names(held, names, "held-out pictures").values())
    tests = [n for n in names if n in meant] if held else names[::_TEST_EVERY]
    for name in tests:
        link = scene / "val" / "rgbs" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(images / name)
    write_text(scene / "list_test.txt", "\n".join(tests) + "\n")
    write_colmap_model(model, scene / "sparse" / "0")
    return scene


def _held_out(source: Path) -> set[str]:
    """Names of the pictures that a capture holds out itself."""
    folder, listed = source / "val" / "rgbs", source / "list_test.txt"
    if folder.is_dir():
        return {file.relative_to(folder).as_posix() for file in list_images(folder, True)}
    if listed.is_file():
        return set(read_names(listed))
    return set()


@STAGES.register_module()
class GivenPoses(Stage):
    """Poses that the capture brings: its COLMAP model."""

    needs = ("images",)

    def run(self, context: StageContext) -> dict[str, Path]:
        """``scene`` with the poses that the capture brings."""
        source = context.artefact("images", "source")
        folder = find_colmap_model(source)
        images = context.artefact("images", "images")
        scene = _lay_out(context, images, read_colmap_model(folder), _held_out(source))
        write_frame(scene / FRAME_FILE, read_frame(source) or frame_of_model(folder))
        return {"scene": scene}

    def check(self, context: StageContext) -> list[Finding]:
        """The number of poses; they are those that exact ones would be taken from."""
        return _pose_findings(context)[:1]


@dataclass(eq=False)
class _EstimatedPoses(Stage):
    """Poses from the pictures alone, made metric by known camera positions."""

    position_noise: float = 0.3
    positions: str | None = None
    threshold: float = math.inf

    def lay_out(self, context: StageContext, images: Path, model: ColmapModel) -> dict[str, Path]:
        """The scene of an estimated model, in the frame of the known positions."""
        known = self._positions(context)
        meant = match_names(known, [image.name for image in model.images.values()], "positions")
        places = {name: known[entry] for entry, name in meant.items()}
        rows = [(i, places[i.name]) for i in model.images.values() if i.name in places]
        if known:
            centers = [np.linalg.inv(image.viewmat)[:3, 3] for image, _ in rows]
            similarity, _ = align_positions(
                np.reshape(centers, (-1, 3)),
                np.reshape([position for _, position in rows], (-1, 3)),
                self.threshold,
                context.seed,
            )
            transform_model(model, similarity)
        held = _held_out(context.artefact("images", "source"))
        return {"scene": _lay_out(context, images, model, held)}

    def _positions(self, context: StageContext) -> dict[str, np.ndarray]:
        if self.positions is not None:
            table, kind = read_positions(os.path.expanduser(self.positions))
            if kind == "geodetic":
                places = np.stack(list(table.values()))
                table = dict(zip(table, geodetic_to_enu(places, places.mean(0))))
            return table
        truth = true_poses(context)
        if truth is None:
            return {}
        rng = np.random.default_rng(context.seed)
        return {
            stem: pose[:3, 3].numpy() + rng.normal(0, self.position_noise, 3)
            for stem, pose in sorted(truth.items())
        }

    def check(self, context: StageContext) -> list[Finding]:
        """Errors of the poses, where exact ones are known."""
        return _pose_findings(context)


@STAGES.register_module()
@dataclass(eq=False)
class StructureFromMotion(_EstimatedPoses):
    """Poses by structure from motion (pycolmap), made metric by known camera positions.

    Args:
        max_features: Per picture. Defaults to 4096.
        position_noise: For toy towns: standard deviation of the positions that stand for a
            drone's satellite navigation, in metres. Defaults to 0.3.
        positions: CSV of real captures, with ``name,x,y,z`` or
            ``name,latitude,longitude,height``. Defaults to none: not metric.
        threshold: Metres above which a position counts as wrong. Defaults to infinity.
    """

    needs = ("images",)

    max_features: int = 4096

    def run(self, context: StageContext) -> dict[str, Path]:
        """``scene`` with poses of structure from motion."""
        mapped = context.folder / "mapped"
        context.call(
            map_pictures,
            context.artefact("images", "images"),
            mapped,
            max_features=self.max_features,
            seed=context.seed,
        )
        images = next(p for p in (mapped / "images", mapped / "train" / "rgbs") if p.is_dir())
        return self.lay_out(context, images, read_colmap_model(find_colmap_model(mapped)))


@STAGES.register_module()
class StreamedPoses(_EstimatedPoses):
    """Poses and points of the streaming network, made metric by known camera positions.

    It asks for a network with trained weights: errors of the poses are errors of all that
    follows.

    Args:
        position_noise: For toy towns: standard deviation of the positions that stand for a
            drone's satellite navigation, in metres. Defaults to 0.3.
        positions: CSV of real captures, with ``name,x,y,z`` or
            ``name,latitude,longitude,height``. Defaults to none: not metric.
        threshold: Metres above which a position counts as wrong. Defaults to infinity.
    """

    needs = ("images", "geometry")

    def run(self, context: StageContext) -> dict[str, Path]:
        """``scene`` with poses of the stream."""
        model = read_colmap_model(context.artefact("geometry", "sparse"))
        return self.lay_out(context, context.artefact("images", "images"), model)


def _pose_findings(context: StageContext) -> list[Finding]:
    found = stem_to_pose(context.artefact(context.name, "scene") / "sparse" / "0")
    findings = [Finding("posed images", float(len(found)))]
    truth = true_poses(context)
    if truth is not None:
        stems = sorted(set(found) & set(truth))
        translation, rotation = localization_errors(
            torch.stack([found[s] for s in stems]), torch.stack([truth[s] for s in stems])
        )
        findings += [
            Finding(
                "median position error",
                float(translation.median()),
                "m",
                "exact poses",
                (0.25, 5.0),
            ),  # fmt: skip
            Finding(
                "median rotation error", float(rotation.median()), "deg", "exact poses", (2.0, 10.0)
            ),  # fmt: skip
        ]
    return findings
