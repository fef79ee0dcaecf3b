"""Folders of maps, one file per image, with what their numbers mean beside them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mmcity.utils.fileio import atomic_path, read_json, write_json, write_npy

_META = "meta.json"


class MapStoreError(ValueError):
    """A stored map is missing, damaged or of another kind; the message names it."""


def map_name(image_path: str | Path) -> str:
    """Name of an image's maps: its base name up to the first dot."""
    return Path(image_path).name.split(".")[0]


class MapStore:
    """A flat folder of ``<image name>.npy`` (or ``.npz``) files.

    Args:
        folder: Made when the first map is written.
        dtype: Type that maps are stored in, such as ``float16`` or ``uint8``.
        compress: Write ``.npz``. Defaults to False.
        meta: Further values for ``meta.json``, for example the model's name.

    Raises:
        MapStoreError: If the folder holds maps of another dtype or of other ``meta``.
    """

    def __init__(
        self, folder: str | Path, dtype: str, compress: bool = False, meta: dict | None = None
    ) -> None:
        self.folder = Path(folder)
        self.dtype = np.dtype(dtype)
        self.suffix = ".npz" if compress else ".npy"
        self.meta = {"dtype": self.dtype.name, "scale": 1.0, **(meta or {})}
        path = self.folder / _META
        if path.is_file():
            found = read_json(path)
            differ = {k: (found.get(k), v) for k, v in self.meta.items() if found.get(k) != v}
            if differ:
                raise MapStoreError(
                    f"{self.folder}: expected maps made alike, found others: {differ} (found, "
                    "asked for): choose another folder, or remove it"
                )
        self._shape: tuple[int, ...] | None = None

    def path(self, name: str) -> Path:
        """File of an image's map."""
        return self.folder / f"{name}{self.suffix}"

    def __contains__(self, name: str) -> bool:
        return self.path(name).is_file()

    def write(self, name: str, array: np.ndarray) -> None:
        """Write one map, whole or not at all.

        Raises:
            MapStoreError: If it holds numbers that the stored type cannot.
        """
        array = np.asarray(array)
        if not np.isfinite(array).all():
            raise MapStoreError(f"{name}: expected finite numbers, got others in the map")
        if self.dtype == np.float16:
            array = np.clip(array, -65504, 65504)
        elif self.dtype == np.uint8 and (array.min() < 0 or array.max() > 255):
            raise MapStoreError(f"{name}: expected labels of 0..255, got others")
        array = array.astype(self.dtype)
        if not (self.folder / _META).is_file():
            height, width = array.shape[-2:]
            write_json(self.folder / _META, {**self.meta, "height": height, "width": width})
        if self.suffix == ".npy":
            return write_npy(self.path(name), array)
        with atomic_path(self.path(name)) as temporary:
            np.savez_compressed(temporary, data=array)

    def check(self, names: Iterable[str]) -> int:
        """Read every map; returns their number.

        Raises:
            MapStoreError: Names what is missing, damaged, of another shape or not finite.
        """
        missing, count, shape = [], 0, None
        for name in names:
            if name not in self:
                missing.append(name)
                continue
            array = self._read(name)
            shape = shape or array.shape
            if array.shape != shape or array.dtype != self.dtype:
                raise MapStoreError(
                    f"{self.path(name)}: expected {self.dtype} {shape} as the others, got "
                    f"{array.dtype} {array.shape}"
                )
            if not np.isfinite(array).all():
                raise MapStoreError(f"{self.path(name)}: expected finite numbers, got others")
            count += 1
        if missing:
            raise MapStoreError(
                f"{self.folder}: expected {len(missing)} maps more, the first is {missing[0]}"
            )
        return count

    def _read(self, name: str) -> np.ndarray:
        try:
            loaded = np.load(self.path(name), allow_pickle=False)
            if self.suffix == ".npz":
                with loaded:
                    return loaded["data"]
            return loaded
        except (ValueError, EOFError, OSError, KeyError) as error:
            raise MapStoreError(f"{self.path(name)}: expected a whole map, got {error}") from error
