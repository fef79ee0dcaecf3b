"""Info pickles of the OpenMMLab kind, read without running code from them."""

import io
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmcity.utils.fileio import atomic_path, damage_told

#: What plain data with numpy arrays needs; nothing here runs code of the file.
_ALLOWED = {
    ("builtins", name)
    for name in ("dict", "list", "tuple", "set", "frozenset", "int", "float", "bool", "complex",
                 "str", "bytes", "bytearray", "slice", "range")
} | {
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("_codecs", "encode"),
} | {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),
    )
}  # fmt: skip


class InfoFileError(ValueError):
    """An info file is damaged, holds more than data, or lacks a key; the message names it."""


class _DataUnpickler(pickle.Unpickler):
    """Makes plain data whose size the file accounts for.

    Args:
        file: Of the pickle.
        size: Bytes of the whole file.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(file)
        self.size = size

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED or (module, name.split("Dtype")[0]) == ("numpy.dtypes", ""):
            found = super().find_class(module, name)
            # These make as much of a number, or of a type alone, as it says.
            if name in ("bytes", "bytearray"):
                return partial(_of_content, found)
            if name == "range":
                return self._range
            if name == "ndarray":
                return _ARRAY
            if name == "_reconstruct":
                return _empty_array
            return partial(self._scalar, found) if name == "scalar" else found
        raise pickle.UnpicklingError(f"{module}.{name}")

    def _range(self, *ends: int) -> range:
        numbers = range(*ends)
        if len(numbers) > self.size:
            raise ValueError(f"{numbers} in a file of {self.size} bytes")
        return numbers

    def _scalar(self, make: Callable, dtype: np.dtype, state: Any) -> Any:
        if dtype.itemsize > self.size:
            raise ValueError(f"a scalar of {dtype.itemsize} bytes in a file of {self.size}")
        return make(dtype, state)


#: Stands for the type of arrays, which is not called by itself.
_ARRAY = object()


def _empty_array(kind: object, *_: Any) -> np.ndarray:
    """The array that its state will fill."""
    if kind is not _ARRAY:
        raise TypeError(f"arrays of {kind}")
    return np.empty(0, np.int8)


def _of_content(kind: type, *content: Any) -> Any:
    if content and isinstance(content[0], int):
        raise ValueError(f"{kind.__name__} of a length")
    return kind(*content)


def load_plain_pickle(path: str | Path) -> Any:
    """Read a pickle of plain Python data and numpy arrays, without running code from it.

    Raises:
        FileNotFoundError: If there is no such file.
        InfoFileError: If the file would import something else, or is damaged.
    """
    return _load_plain(path, io.BytesIO(Path(path).read_bytes()))


def load_plain_npz(path: str | Path, name: str) -> Any:
    """One array of an ``.npz`` file that numpy stores as a pickle (dicts, uneven lists).

    Args:
        path: The file.
        name: Of the array. A single object comes out as itself.

    Raises:
        KeyError: If the file has no such array.
        InfoFileError: If the array would import something else, or is damaged.
    """
    damaged = partial(damage_told, path, "a readable npz file", InfoFileError)
    with damaged(), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if f"{name}.npy" not in names:
        raise KeyError(f"{path}: expected an array {name}, got {names[:20]}")
    with damaged(), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
        _, _, dtype = read_header(file)
        if not dtype.hasobject:
            with np.load(path) as content:
                return content[name]
        array = _load_plain(path, file)
    return array.item() if array.ndim == 0 else array


def _load_plain(path: str | Path, file: IO[bytes]) -> Any:
    try:
        return _DataUnpickler(file, Path(path).stat().st_size).load()
    except pickle.UnpicklingError as error:
        raise InfoFileError(
            f"{path}: expected an info file of plain data and numpy arrays only, refused as "
            f"reading it needs '{error}'"
        ) from error
    except (EOFError, IndexError, KeyError, AttributeError, ImportError, TypeError, ValueError,
            OverflowError, MemoryError) as error:  # fmt: skip
        raise InfoFileError(f"{path}: expected a readable pickle file, got {error}") from error


def load_info_pickle(path: str | Path) -> dict:
    """Read ``{'metainfo': ..., 'data_list': [...]}``.

    Args:
        path: The file; only plain Python data and numpy arrays are accepted.

    Raises:
        FileNotFoundError: If there is no such file.
        InfoFileError: If the file would import something else, is damaged, or is no info file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: expected an info file of nuScenes, found none: `mmcity data nuscenes "
            f"{Path(path).parent} --version v1.0-trainval` makes it from the tables"
        )
    content = load_plain_pickle(path)
    if not isinstance(content, dict) or not isinstance(content.get("data_list"), list):
        got = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InfoFileError(
            f"{path}: expected a dict with 'metainfo' and 'data_list' (info format v2), got {got}"
        )
    return content


def save_info_pickle(content: dict, path: str | Path) -> None:
    """Write an info file atomically (pickle protocol 4)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps(content, protocol=4))
