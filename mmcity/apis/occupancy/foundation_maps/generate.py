"""Making the maps of all images of info files: resumable, in shards."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from mmcity.datasets.io.map_store import MapStore
from mmcity.utils.failures import ItemFailures
from mmcity.utils.made_from import file_digest, keep_made_alike
from mmcity.utils.picture_files import read_image
from mmcity.utils.picture_names import check_unique

from .providers import STORED_DTYPES, TargetProvider, find_provider, make_provider
from .tasks import ImageTask, collect_images


def _resize(array: np.ndarray, size: tuple[int, int], is_labels: bool) -> np.ndarray:
    """A map ``(h, w)`` at another height and width."""
    mode = Image.Resampling.NEAREST if is_labels else Image.Resampling.BILINEAR
    picture = Image.fromarray(array if is_labels else array.astype(np.float32))
    return np.asarray(picture.resize((size[1], size[0]), mode))


def generate_targets(
    tasks: Sequence[ImageTask],
    provider: Callable[[], TargetProvider],
    store: MapStore,
    shard: tuple[int, int] = (0, 1),
    size: tuple[int, int] | None = None,
) -> int:
    """Write the maps that are not there yet.

    Args:
        tasks: Images.
        provider: Makes the provider; called only if there is something to do.
        store: Where maps go.
        shard: Number and count: this process takes every count-th image. Defaults to (0, 1).
        size: Height and width to store 2D maps at. Defaults to the provider's.

    Returns:
        Number of maps written.

    Raises:
        UserError: If images fail, once the maps of the others are written.
    """
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard: expected I of N with 0 <= I < N, got {index} of {count}")
    check_unique({task.path: store.path(task.name) for task in tasks}, "the map")
    todo = [task for task in tasks[index::count] if task.name not in store]
    if not todo:
        return 0
    make, failures = provider(), ItemFailures("images")
    for task in track(todo, description=f"{store.folder.name} {index + 1}/{count}"):
        with failures.item(task.path):
            array = make(read_image(task.path), task)
            if size is not None and array.ndim == 2:
                array = _resize(array, size, store.dtype.kind == "u")
            store.write(task.name, array)
    failures.check()
    return len(todo)


def options_digest(options: dict | None) -> dict:
    """Options of a model as plain values: in the place of a file stands a digest of it."""
    return {
        name: file_digest(value) if Path(str(value)).is_file() else value
        for name, value in (options or {}).items()
    }


def keep_maps_alike(store: MapStore, tasks: Sequence[ImageTask], options: dict) -> None:
    """:func:`mmcity.utils.made_from.keep_made_alike` for the maps of images."""
    outputs = {store.path(task.name).name: [task.path] for task in tasks}
    keep_made_alike(store.folder, options, outputs)


def _open(
    kind: str,
    model: str,
    info_files: Sequence[str | Path],
    root: str | Path,
    out_dir: str | Path,
    compress: bool,
) -> tuple[list[ImageTask], MapStore]:
    find_provider(kind, model)
    meta = {"kind": kind, "model": model}
    store = MapStore(Path(out_dir), STORED_DTYPES[kind], compress, meta)
    return collect_images(info_files, root), store


def generate_maps(
    kind: str,
    model: str,
    info_files: Sequence[str | Path],
    root: str | Path,
    out_dir: str | Path,
    *,
    options: dict | None = None,
    size: tuple[int, int] | None = None,
    compress: bool = False,
    device: str | None = None,
    shard: tuple[int, int] = (0, 1),
) -> tuple[int, int]:
    """Write the maps of the images of info files that are not up to date.

    Args:
        kind: ``depth``, ``features`` or ``segmentation``.
        model: ``metric3d`` or ``lidar`` (depth), ``featup`` (features), ``grounded_sam2``
            (segmentation), or ``toytown`` (any).
        info_files: Info files (format v2) with the images.
        root: Folder of nuScenes.
        out_dir: Folder of the maps.
        options: Arguments of the model, such as ``repo=DIR weights=FILE``. Defaults to none.
        size: Height and width (``HEIGHTxWIDTH``) to store depth and labels at. Defaults to None.
        device: Where the model runs. Defaults to ``cuda`` where there is one, else ``cpu``.
        shard: Take the I-th (from 0) of N parts, ``I/N``. Defaults to (0, 1).
        compress: Write ``.npz`` instead of ``.npy``. Defaults to False.

    Returns:
        Numbers of maps written and of images.

    Raises:
        UserError, MapStoreError: If the folder holds maps that were made otherwise.
    """
    tasks, store = _open(kind, model, info_files, root, out_dir, compress)
    made = {"kind": kind, "model": model, "options": options_digest(options)}
    keep_maps_alike(store, tasks, {**made, "size": size, "compress": compress})

    def provider() -> TargetProvider:
        return make_provider(kind, model, options, device)

    return generate_targets(tasks, provider, store, shard, size), len(tasks)


def check_maps(
    kind: str,
    model: str,
    info_files: Sequence[str | Path],
    root: str | Path,
    out_dir: str | Path,
    *,
    compress: bool = False,
) -> int:
    """Check that every image of info files has a sound map.

    Args:
        kind, model, info_files, root, out_dir, compress: As in :func:`generate_maps`.

    Returns:
        Number of maps.

    Raises:
        MapStoreError: If one is missing or broken.
    """
    tasks, store = _open(kind, model, info_files, root, out_dir, compress)
    return store.check(task.name for task in tasks)
