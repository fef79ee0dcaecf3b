"""Making the maps of all images of info files: resumable, in shards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from mmcity.datasets.io.info_pickle import load_info_pickle
from mmcity.datasets.io.map_store import MapStore, map_name
from mmcity.datasets.transforms.posed_images import read_image

from .providers import TargetProvider

__all__ = ["ImageTask", "collect_images", "generate_targets"]


@dataclass(frozen=True)
class ImageTask:
    """An image to make a map of.

    Attributes:
        path: The file.
        cam2img: (3, 3) intrinsics.
    """

    path: str
    cam2img: np.ndarray

    @property
    def name(self) -> str:
        """Name of its map."""
        return map_name(self.path)


def collect_images(info_files: Sequence[str | Path], root: str | Path) -> list[ImageTask]:
    """Images of all key frames of info files, in their order.

    Args:
        info_files: Info pickles (format v2).
        root: nuScenes' folder; images lie in ``samples/<CAMERA>`` below it.
    """
    tasks = []
    for path in info_files:
        for info in load_info_pickle(path)["data_list"]:
            for camera, image in info["images"].items():
                file = Path(root) / "samples" / camera / Path(image["img_path"]).name
                tasks.append(ImageTask(str(file), np.asarray(image["cam2img"])[:3, :3]))
    return tasks


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
        array = make(read_image(task.path), task.path, task.cam2img)
        if size is not None and array.ndim == 2:
            array = _resize(array, size, store.dtype.kind == "u")
        store.write(task.name, array)
    return len(todo)
