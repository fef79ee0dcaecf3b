"""Making the maps of all images of info files: resumable, in shards."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from rich.progress import track

from mmcity.datasets.io.map_store import MapStore
from mmcity.datasets.transforms.posed_images import read_image

from .providers import TargetProvider
from .tasks import ImageTask

__all__ = ["generate_targets"]


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
    """
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard must be I of N with 0 <= I < N, got {index} of {count}")
    todo = [task for task in tasks[index::count] if task.name not in store]
    if not todo:
        return 0
    make = provider()
    for task in track(todo, description=f"{store.folder.name} {index + 1}/{count}"):
        array = make(read_image(task.path), task)
        if size is not None and array.ndim == 2:
            array = _resize(array, size, store.dtype.kind == "u")
        store.write(task.name, array)
    return len(todo)
