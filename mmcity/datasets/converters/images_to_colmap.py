"""A COLMAP scene from a folder of pictures or a film, by structure from motion of pycolmap."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from mmcity.datasets.io.colmap_model import read_colmap_model
from mmcity.datasets.splits import write_held_out
from mmcity.structures.geometry import se3_inverse
from mmcity.structures.upright import guess_up, turn_upright
from mmcity.utils.checks import check_choice
from mmcity.utils.cli import UserError
from mmcity.utils.dependencies import import_library
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import scratch_folder
from mmcity.utils.images import list_images, tell_none
from mmcity.utils.picture_files import image_size
from mmcity.utils.progress import report_progress

from .film_frames import is_film, take_frames

#: ``auto`` matches exhaustively up to :data:`MOST_EXHAUSTIVE` pictures.
MATCHING = ("auto", "exhaustive", "sequential")
#: Exhaustive matching is quadratic; above this many pictures neighbours are matched.
MOST_EXHAUSTIVE = 250
_FEWEST = 3
_FEW_REGISTERED = 0.8
_LARGE_ERROR = 1.5


@dataclass
class MappedScene:
    """Scene that structure from motion made of a folder of pictures.

    Attributes:
        path: Folder of the scene.
        placed: Number of pictures with a pose.
        lost: Names of the others, sorted.
        points: Number of 3D points.
        error: Mean reprojection error in pixels.
    """

    path: Path
    placed: int
    lost: list[str]
    points: int
    error: float

    def __str__(self) -> str:
        count = self.placed + len(self.lost)
        lines = [
            f"{self.placed} of {count} pictures placed, {self.points} points, "
            f"mean reprojection error {self.error:.2f} px"
        ]
        if self.placed / count < _FEW_REGISTERED:
            more = " ..." if len(self.lost) > 10 else ""
            lines.append(f"! not placed: {', '.join(self.lost[:10])}{more}")
        if self.error > _LARGE_ERROR:
            lines.append("! large reprojection error: blurred pictures, moving things, or zoom?")
        lines.append(
            "z is up as far as the pictures tell, the scale is arbitrary: "
            "`mmcity data align-scene` makes metres"
        )
        return "\n".join([*lines, f"wrote {self.path}"])


def map_pictures(
    images: str | os.PathLike,
    out: str | os.PathLike,
    *,
    camera_model: str = "OPENCV",
    matching: str = "auto",
    overlap: int = 15,
    max_features: int = 4096,
    max_image_size: int = 1600,
    test_every: int = 0,
    threads: int = -1,
    seed: int = 0,
) -> MappedScene:
    """Place the pictures of a folder: features, matching, mapping, undistortion.

    The pictures share one camera. The scene is turned so that z is up, see
    :func:`~mmcity.structures.upright.guess_up`. What comes out is a COLMAP scene that every reader
    of the toolbox takes.

    Args:
        images: Folder of pictures, sub-folders included; or a film, of which frames are taken
            (see :func:`~mmcity.datasets.converters.take_frames`).
        out: Folder of the scene; new or empty.
        camera_model: COLMAP model that is fitted. Defaults to ``OPENCV``.
        matching: Which pairs are matched; ``auto`` takes all up to 250 pictures. Defaults to
            ``auto``.
        overlap: Neighbours that are matched sequentially. Defaults to 15.
        max_features: Per picture. Defaults to 4096.
        max_image_size: Pixels of the longer side, for features. Defaults to 1600.
        test_every: Hold out every n-th picture (``list_test.txt``); 0 holds out none.
            Defaults to 0.
        threads: -1 for all cores. Defaults to -1.
        seed: Of the mapping. Defaults to 0.

    Raises:
        DependencyError: If pycolmap is not installed.
        FileExistsError: If ``out`` holds something.
        FileNotFoundError: If there are fewer than three pictures.
        ValueError: If the pictures differ in size, or an argument is unknown.
        UserError: If no model could be made; or, once the others are placed, if pictures
            cannot be read.
    """
    pycolmap = _pycolmap()
    # Its log tells of every picture and step; what it warns of remains.
    pycolmap.logging.minloglevel = pycolmap.logging.Level.WARNING.value
    images, out = Path(images), Path(out)
    check_choice("matching", matching, MATCHING)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out}: expected a new or empty folder")
    pycolmap.set_random_seed(seed)
    with scratch_folder(out) as work:
        if is_film(images):
            images = take_frames(images, work / "frames").folder
        failures = ItemFailures("pictures")
        names = _sound_pictures(images, _find_pictures(images), failures)
        if matching == "auto":
            matching = "exhaustive" if len(names) <= MOST_EXHAUSTIVE else "sequential"
        extraction = pycolmap.FeatureExtractionOptions()
        extraction.max_image_size, extraction.num_threads = max_image_size, threads
        extraction.sift.max_num_features = max_features
        _say(f"1/4 features of {len(names)} pictures")
        pycolmap.extract_features(
            work / "database.db",
            images,
            image_names=names,
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=pycolmap.ImageReaderOptions(camera_model=camera_model),
            extraction_options=extraction,
        )
        _say(f"2/4 {matching} matching")
        options = pycolmap.FeatureMatchingOptions()
        options.num_threads = threads
        if matching == "exhaustive":
            pycolmap.match_exhaustive(work / "database.db", matching_options=options)
        else:
            pycolmap.match_sequential(
                work / "database.db",
                matching_options=options,
                pairing_options=pycolmap.SequentialPairingOptions(overlap=overlap),
            )
        _say("3/4 mapping")
        model, folder = _largest_model(images, work, threads, seed, len(names))
        _turn_upright(model, folder)
        _say("4/4 undistortion")
        scene = work / "scene"
        pycolmap.undistort_images(scene, folder, images, num_threads=threads)
        _tidy(scene)
        placed = sorted(image.name for image in model.images.values())
        write_held_out(scene, placed, test_every)
        if out.exists():
            out.rmdir()
        scene.rename(out)
    failures.check()
    return MappedScene(
        out,
        placed=len(placed),
        lost=sorted(set(names) - set(placed)),
        points=model.num_points3D(),
        error=model.compute_mean_reprojection_error(),
    )


def _pycolmap() -> ModuleType:
    return import_library("pycolmap", "folder", "pip install -r requirements/mapping.txt")


def _find_pictures(folder: Path) -> list[str]:
    names = [file.relative_to(folder).as_posix() for file in list_images(folder, recursive=True)]
    if len(names) < _FEWEST:
        raise FileNotFoundError(
            f"{folder}: expected at least 3 pictures, found {len(names)}{tell_none(folder, True)}"
        )
    return names


def _sound_pictures(folder: Path, names: list[str], failures: ItemFailures) -> list[str]:
    """Pictures that can be read; they must be of one size, since they share one camera."""
    sizes: dict[tuple[int, int], list[str]] = {}
    for name in names:
        with failures.item(name):
            sizes.setdefault(image_size(folder / name), []).append(name)
    if len(sizes) > 1:
        text = "; ".join(f"{w}x{h}: {len(n)}, e.g. {n[0]}" for (w, h), n in sizes.items())
        raise ValueError(
            f"{folder}: expected pictures of one size from one camera, got {text}: "
            "map each camera's pictures alone, or leave the odd ones out"
        )
    sound = [name for name in names if name not in failures.reasons]
    if len(sound) < _FEWEST:
        failures.check()
    return sound


def _say(step: str) -> None:
    print(step, flush=True)
    report_progress(step, 0, 0)


def _largest_model(images: Path, work: Path, threads: int, seed: int, count: int):
    """The largest model, as pycolmap's reconstruction, and the folder that holds it."""
    pycolmap = _pycolmap()
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed = threads, seed
    done = []

    def say() -> None:
        done.append(1)
        report_progress("3/4 mapping: picture", len(done) + 2, count)
        if len(done) % 10 == 0:
            print(f"    {len(done) + 2} pictures placed", flush=True)

    (work / "models").mkdir()
    models = pycolmap.incremental_mapping(
        work / "database.db", images, work / "models", options=options, next_image_callback=say
    )
    if not models:
        raise UserError(
            f"{images}: expected pictures that make a model, got none: take more pictures with "
            "more overlap (two thirds of each), of a scene with texture, and move between them"
        )
    number, model = max(models.items(), key=lambda item: item[1].num_reg_images())
    if len(models) > 1:
        print(f"    {len(models)} models that do not connect; the largest is kept", flush=True)
    return model, work / "models" / str(number)


def _turn_upright(model, folder: Path) -> None:
    """Let +z of a model, and of its files, be up."""
    pycolmap, found = _pycolmap(), read_colmap_model(folder, with_features=False)
    views = torch.from_numpy(np.stack([image.viewmat for image in found.images.values()]))
    up = guess_up(se3_inverse(views), torch.from_numpy(found.points3D.xyz))
    turn = pycolmap.Rotation3d(turn_upright(up).numpy())
    model.transform(pycolmap.Sim3d(1.0, turn, np.zeros(3)))
    model.write(folder)


def _tidy(scene: Path) -> None:
    """Leave ``images`` and ``sparse/0`` of what the undistortion wrote."""
    sparse = scene / "sparse" / "0"
    sparse.mkdir()
    for file in [p for p in (scene / "sparse").iterdir() if p.is_file()]:
        file.rename(sparse / file.name)
    for extra in [p for p in scene.iterdir() if p.name not in ("images", "sparse")]:
        shutil.rmtree(extra) if extra.is_dir() else extra.unlink()
