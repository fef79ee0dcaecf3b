"""Stage that chooses the pictures of a scene, and says what is wrong with the others."""

import os
from collections import Counter
from pathlib import Path

import numpy as np

from mmcity.datasets.converters import is_film, sharpness, take_frames
from mmcity.datasets.converters.film_frames import BLURRED
from mmcity.datasets.io.colmap_model import find_colmap_model
from mmcity.utils.cli import UserError
from mmcity.utils.failures import ItemFailures
from mmcity.utils.fileio import read_json, write_json
from mmcity.utils.images import list_images
from mmcity.utils.picture_files import read_image
from mmcity.utils.picture_names import picture_name
from mmcity.utils.progress import report_progress
from mmcity.workflow.chain import STAGES, Stage, StageContext
from mmcity.workflow.manifest import Finding

#: File of the stage's folder with what was found.
NOTES = "pictures.json"
_FEWEST = 3


@STAGES.register_module()
class ChoosePictures(Stage):
    """Pictures of one size that can be decoded, or sharp frames of a film.

    Args:
        source: Folder of pictures or of a COLMAP scene, or a film.
        max_frames: Most frames of a film. Defaults to 150.
        fingerprint: Digest of the source; where it changes, the stage runs anew.
    """

    def __init__(self, source: str, max_frames: int = 150, fingerprint: str = "") -> None:
        self.source, self.max_frames, self.fingerprint = Path(source), max_frames, fingerprint

    def run(self, context: StageContext) -> dict[str, Path]:
        """``pictures``, and ``notes`` on those that were left out."""
        if self.source.is_dir() and _has_poses(self.source):
            pictures = choose_pictures(self.source, context.folder)
        else:
            pictures = context.call(
                choose_pictures, self.source, context.folder, max_frames=self.max_frames
            )
        return {"pictures": pictures, "notes": context.folder / NOTES}

    def check(self, context: StageContext) -> list[Finding]:
        """Numbers of pictures."""
        notes = read_json(context.artefact(context.name, "notes"))
        counts = dict(found=notes["found"], used=len(notes["used"]), blurred=len(notes["blurred"]))
        return [Finding(f"pictures {name}", float(count)) for name, count in counts.items()]


def choose_pictures(
    source: str | os.PathLike, folder: str | os.PathLike, *, max_frames: int = 150
) -> Path:
    """Choose pictures, and write ``pictures.json`` with the reasons for which others are out.

    Args:
        source: Folder of pictures or of a COLMAP scene (whose pictures all count), or a film.
        folder: For the notes, links to the pictures or frames of the film.
        max_frames: Most frames of a film. Defaults to 150.

    Returns:
        Folder of the pictures.

    Raises:
        UserError: If there are fewer than three.
    """
    source, folder = Path(source), Path(folder)
    if not source.is_dir() and not is_film(source):
        raise UserError(f"{source}: expected a folder of pictures or a film, found none")
    if is_film(source):
        report_progress("looking through the film", 0, 0)
        frames = take_frames(source, folder / "pictures", max_frames=max_frames)
        notes = dict(kind="film", found=frames.count, used=frames.names, left_out={})
        notes["blurred"] = [f"frame {number}" for number in frames.blurred]
        pictures = frames.folder
    elif _has_poses(source):
        notes = dict(kind="scene", found=0, used=[], left_out={}, blurred=[])
        pictures = source
    else:
        notes = dict(kind="folder", **_look_through(source))
        pictures = _link(source, folder / "pictures", notes["used"])
    write_json(folder / NOTES, dict(source=str(source), **notes), indent=1)
    if notes["kind"] != "scene" and len(notes["used"]) < _FEWEST:
        count = f"{len(notes['used'])} of {notes['found']}"
        raise UserError(
            f"{source}: expected at least {_FEWEST} pictures of one size, got {count}: take more, "
            "from places a step apart, each with two thirds of the one before in it"
        )
    return pictures


def _has_poses(folder: Path) -> bool:
    try:
        return find_colmap_model(folder) is not None
    except FileNotFoundError:
        return False


def _look_through(folder: Path) -> dict:
    """Names of usable and of blurred pictures, and why others are out."""
    files = list_images(folder, recursive=True)
    failures = ItemFailures("pictures")
    sizes: dict[str, tuple[int, int]] = {}
    sharp: dict[str, float] = {}
    for number, file in enumerate(files):
        name = picture_name(file.relative_to(folder))
        report_progress("looking at picture", number + 1, len(files))
        with failures.item(name):
            pixels = read_image(file)
            sizes[name], sharp[name] = (pixels.shape[1], pixels.shape[0]), sharpness(pixels)
    left_out = dict(failures.reasons)
    usual = Counter(sizes.values()).most_common(1)[0][0] if sizes else None
    for name, size in sizes.items():
        if size != usual:
            left_out[name] = (
                f"{size[0]}x{size[1]} px, most have {usual[0]}x{usual[1]}: one camera is fitted to "
                "all pictures"
            )
    used = [name for name in sizes if name not in left_out]
    level = BLURRED * np.median([sharp[name] for name in used]) if used else 0.0
    blurred = [name for name in used if sharp[name] < level]
    return dict(found=len(files), used=used, left_out=left_out, blurred=blurred)


def _link(source: Path, folder: Path, names: list[str]) -> Path:
    """Folder of links to pictures, under their names."""
    folder.mkdir(exist_ok=True)
    for name in names:
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to((source / name).resolve())
    return folder
