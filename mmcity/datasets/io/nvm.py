"""Models of VisualSFM (``*.nvm``), which Cambridge Landmarks comes with."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmcity.utils.fileio import split_name
from mmcity.utils.picture_names import check_once

#: Numbers behind the name: focal length, quaternion, centre, distortion and a 0.
_COLUMNS = 10


@dataclass
class NvmModel:
    """The first model of an NVM file.

    Attributes:
        names (list[str]): Image files, with ``/``.
        focals (np.ndarray): ``(N,)`` px at the size of the files.
        points (np.ndarray): ``(P, 3)``.
        colors (np.ndarray): ``(P, 3)`` uint8.
    """

    names: list[str]
    focals: np.ndarray
    points: np.ndarray
    colors: np.ndarray


def read_nvm(path: str | os.PathLike) -> NvmModel:
    """Images and points of an NVM file.

    Raises:
        ValueError: If it is no NVM file, ends too early, holds numbers that are none, or names a
            picture twice.
    """
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        lines = (line.strip() for line in file)
        lines = (line for line in lines if line)
        if not next(lines, "").startswith("NVM_V3"):
            raise ValueError(f"{path}: expected an NVM file that starts with NVM_V3")
        try:
            count = int(next(lines))
            rows = [split_name(next(lines), _COLUMNS) for _ in range(count)]
            names = [name.replace("\\", "/") for name, _ in rows]
            cameras = np.array([words for _, words in rows], dtype=float).reshape(-1, _COLUMNS)
            count = int(next(lines, "0"))
            table = [next(lines).split(maxsplit=6)[:6] for _ in range(count)]
            values = np.array(table, dtype=float).reshape(-1, 6)
        except (StopIteration, ValueError, IndexError) as error:
            raise ValueError(f"{Path(path)}: expected an NVM file, got {error!r}") from error
    check_once(names, path)
    wrong = ~np.isfinite(cameras).all(1) | (cameras[:, 0] <= 0)
    if not names or wrong.any() or not np.isfinite(values).all():
        got = f"others for {names[int(wrong.argmax())]!r}" if wrong.any() else "none, or others"
        raise ValueError(
            f"{Path(path)}: expected cameras with a focal length above 0, and points, of finite "
            f"numbers, got {got}: take them out of the model, or write it again"
        )
    colors = values[:, 3:].clip(0, 255).astype(np.uint8)
    return NvmModel(names, cameras[:, 0], values[:, :3], colors)
