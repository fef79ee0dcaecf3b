"""Small helpers of the viewer: localised queries, thumbnails, bounds, names."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch

from mmcity.structures import Cameras
from mmcity.structures.geometry import se3_inverse
from mmcity.utils.picture_files import read_image

_THUMBNAIL_WIDTH = 160
#: Colours of localised queries by status.
STATUS_COLORS = {"ok": (40, 160, 60), "low_confidence": (230, 180, 20), "failed": (210, 40, 40)}
#: Intrinsics that a result without its own is drawn with, as parts of the width.
_DRAWN_FOCAL = 0.9


def first_look(
    bounds: np.ndarray, up: np.ndarray, seen_from: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Position and target of a browser that looks at all from outside, aslant from above.

    Args:
        bounds: ``(2, 3)`` corners of the scene.
        up: ``(3,)`` unit vector.
        seen_from: ``(3,)`` middle of the cameras, on whose side to stand. None for any side.
    """
    low, high = bounds
    size, middle = float(np.linalg.norm(high - low)), (low + high) / 2
    across = np.roll(up, 1) - 0.6 * np.roll(up, 2)
    for side in ([] if seen_from is None else [seen_from - middle]) + [across]:
        side = side - (side @ up) * up
        if np.linalg.norm(side) > 0.02 * size or side is across:
            break
    side = side / max(float(np.linalg.norm(side)), 1e-12)
    return middle + size * (0.44 * side + 0.32 * up), middle


def free_name(name: str, taken: Container[str]) -> str:
    """The name, or the first of ``name (2)``, ``name (3)``, ... that is not taken."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name} ({number})"
    return found


def read_thumbnail(picture: Any) -> np.ndarray:
    """Small ``(H, W, 3)`` uint8 picture of a path or an array."""
    image = picture if isinstance(picture, np.ndarray) else read_image(picture)
    height = max(1, round(image.shape[0] * _THUMBNAIL_WIDTH / image.shape[1]))
    return cv2.resize(image, (_THUMBNAIL_WIDTH, height), interpolation=cv2.INTER_AREA)


def localization_cameras(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[Cameras | None, np.ndarray, list[str]]:
    """Cameras, colours ``(C, 3)`` and texts of localised queries that have a pose."""
    rows = [row for row in rows if row.get("cam_to_world") is not None]
    if not rows:
        return None, np.zeros((0, 3)), []
    poses = torch.tensor([row["cam_to_world"] for row in rows], dtype=torch.float64)
    K = torch.tensor([[_DRAWN_FOCAL, 0, 0.5], [0, _DRAWN_FOCAL, 0.375], [0, 0, 1]]) * 640
    K[2, 2] = 1
    cameras = Cameras(K.double(), se3_inverse(poses), 640, 480)
    colors = np.array([STATUS_COLORS[row["status"]] for row in rows])
    texts = []
    for row in rows:
        text = str(row["name"])
        if row.get("error_translation") is not None and np.isfinite(row["error_translation"]):
            text += f": {row['error_translation']:.2f} m, {row['error_rotation']:.2f} deg"
        texts.append(text)
    return cameras, colors, texts
