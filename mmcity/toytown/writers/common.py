"""Shared parts of all writers: resuming, parallel rendering, checksums, small image files."""

import functools
import hashlib
import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from mmcity.toytown.world.config import ToytownConfig
from mmcity.utils.fileio import (
    atomic_path,
    is_temporary,
    read_json,
    to_json,
    write_json,
    write_text,
)

_SEEDS = ("seed", "sequence_seed")
_UNFINISHED = ".toytown-unfinished.json"
_MANIFEST = "toytown.json"


def default_workers() -> int:
    """Number of worker processes when the caller names none."""
    return min(os.cpu_count() or 1, 8)


def save_image(path: Path, array: np.ndarray, quality: int = 98) -> None:
    """Write uint8 grey or RGB, or uint16 grey, as PNG or JPEG by the suffix."""
    image = Image.fromarray(np.ascontiguousarray(array))
    buffer = io.BytesIO()
    if path.suffix.lower() in (".jpg", ".jpeg"):
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    else:
        image.save(buffer, "PNG", compress_level=3)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


@dataclass
class Output:
    """Folder of one written format.

    Args:
        root: The folder.
        format: Name of the format.
        settings: Everything that decides the content, as plain values.
    """

    root: Path
    format: str
    settings: dict

    @classmethod
    def open(
        cls, root: str | os.PathLike, format: str, config: ToytownConfig, **options
    ) -> "Output":
        """Start or resume a folder.

        Raises:
            FileExistsError: If the folder holds something else than an interrupted or
                finished run with the same settings.
        """
        settings = {"config": config.to_dict(), "options": options}
        # As it will be read back: tuples become lists.
        settings = json.loads(to_json(settings))
        out = cls(Path(root), format, settings)
        found = out._recorded()
        names = os.listdir(out.root) if out.root.is_dir() else []
        if found is None and not all(map(is_temporary, names)):
            raise FileExistsError(
                f"{out.root}: expected a new folder or one of toytown, found other files: "
                "choose another folder"
            )
        if found is not None and found != {"format": format, **settings}:
            raise FileExistsError(
                f"{out.root}: expected a toytown of {format}, {settings}, found other settings "
                f"({found.get('format')}, {found.get('config')}, {found.get('options')}): remove "
                "it or choose another folder"
            )
        if out.is_finished:
            (out.root / _UNFINISHED).unlink(missing_ok=True)
        else:
            out.root.mkdir(parents=True, exist_ok=True)
            write_json(out.root / _UNFINISHED, {"format": format, **settings}, indent=None)
        return out

    def _recorded(self) -> dict | None:
        for name in (_MANIFEST, _UNFINISHED):
            path = self.root / name
            if path.is_file():
                try:
                    values = read_json(path)
                    return {k: values[k] for k in ("format", "config", "options")}
                except (ValueError, KeyError, TypeError) as error:
                    raise FileExistsError(
                        f"{path}: expected the settings of a toytown, got {error!r}: "
                        f"remove {self.root} or choose another folder"
                    ) from error
        return None

    @property
    def is_finished(self) -> bool:
        """Whether the manifest has been written."""
        return (self.root / _MANIFEST).is_file()

    def finish(self, counts: dict, readme: str) -> Path:
        """Write README and manifest with the checksum of every file; returns the folder."""
        write_text(self.root / "README.md", readme)
        files = {}
        for path in sorted(p for p in self.root.rglob("*") if p.is_file()):
            if path.name not in (_MANIFEST, _UNFINISHED) and not is_temporary(path.name):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                files[path.relative_to(self.root).as_posix()] = digest
        manifest = {"format": self.format, **self.settings, "counts": counts, "sha256": files}
        write_json(self.root / _MANIFEST, manifest)
        (self.root / _UNFINISHED).unlink(missing_ok=True)  # last: it lets a killed run go on
        return self.root


class Workplace:
    """Working state of one process: settings, the folder, and what it last made for a sequence.

    Args:
        config: The town's settings.
        root: Target folder.
        options: Settings of the writer.
    """

    def __init__(self, config: ToytownConfig, root: str, options: dict) -> None:
        self.config, self.root, self.options = config, Path(root), options
        self.of = functools.lru_cache(maxsize=1)(self.make)

    def make(self, index: int) -> object:
        """State that the frames of a sequence share; ``of`` keeps it for the next frame."""
        raise NotImplementedError

    def town(self, scene: int) -> ToytownConfig:
        """Settings of a scene with a town of its own: other streets, other traffic."""
        seeds = {name: 1000 * getattr(self.config, name) + scene for name in _SEEDS}
        return replace(self.config, **seeds)


@dataclass(frozen=True)
class SceneFrame:
    """One frame of one scene, a unit of work."""

    scene: int
    frame: int


_state: dict = {}


def _start_worker(setup: Callable, arguments: tuple) -> None:
    _state["context"] = setup(*arguments)


def _run_task(job: tuple) -> object:
    function, task = job
    return function(_state["context"], task)


def render_all(
    function: Callable,
    tasks: Sequence,
    setup: Callable,
    arguments: tuple,
    workers: int,
    label: str,
    context: object = None,
) -> list:
    """Run ``function(context, task)`` for each task, with a progress bar.

    Args:
        function: A module-level function (it travels to other processes).
        tasks: Picklable descriptions of what to do.
        setup: Makes the context (world and renderer) from ``arguments``, once a process.
        arguments: Picklable.
        workers: 1 runs in this process.
        label: Shown before the progress bar.
        context: What ``setup`` would make in this process, if it is there already.

    Returns:
        list: Results in the order of the tasks, whatever the number of workers.
    """
    if not tasks:
        return []

    def progress(items: Iterable) -> Iterable:
        return tqdm(items, total=len(tasks), desc=label, disable=None, leave=False)

    if workers <= 1 or len(tasks) == 1:
        context = context or setup(*arguments)
        return [function(context, task) for task in progress(tasks)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(tasks)), spawn, initializer=_start_worker, initargs=(setup, arguments)
    ) as pool:
        jobs = [(function, task) for task in tasks]
        return list(progress(pool.map(_run_task, jobs)))
