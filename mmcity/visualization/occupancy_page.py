"""Occupancy as one HTML file: voxels to turn and zoom, drawn by the browser's WebGL."""

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmcity.utils.fileio import atomic_path

__all__ = ["write_occupancy_page"]

_TEMPLATE = (Path(__file__).parent / "occupancy_page.html").name


def _encode(labels: np.ndarray, free_class: int) -> str:
    """Occupied voxels as bytes x, y, z, label in base64."""
    cells = np.argwhere(labels != free_class)
    rows = np.column_stack([cells, labels[tuple(cells.T)]]).astype(np.uint8)
    return base64.b64encode(rows.tobytes()).decode()


def _encode_picture(image: np.ndarray, longest: int = 480) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((longest, longest))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()


def write_occupancy_page(
    path: str | Path,
    volumes: dict[str, np.ndarray],
    palette: Sequence[Sequence[int]],
    names: Sequence[str],
    free_class: int = 17,
    title: str = "Occupancy",
    pictures: dict[str, np.ndarray] | None = None,
) -> None:
    """Write a page that needs nothing else, neither a server nor a network.

    Args:
        path: ``.html`` file.
        volumes: Labels ``(X, Y, Z)`` by name, such as prediction and ground truth; equal
            shapes of at most 256 voxels a side.
        palette: RGB per label.
        names: Name of each label.
        free_class: Label of empty voxels. Defaults to 17.
        title: Shown above. Defaults to "Occupancy".
        pictures: Images (H, W, 3) uint8 to show beside, by name. Defaults to none.

    Raises:
        ValueError: If the volumes differ in shape or are too large.
    """
    shapes = {volume.shape for volume in volumes.values()}
    if len(shapes) != 1:
        raise ValueError(f"volumes must have one shape, got {sorted(shapes)}")
    shape = shapes.pop()
    if len(shape) != 3 or max(shape) > 256:
        raise ValueError(f"a page shows (X, Y, Z) volumes up to 256 voxels a side, got {shape}")
    content = {
        "shape": list(shape),
        "palette": [list(map(int, color)) for color in palette],
        "names": list(names),
        "free": free_class,
        "volumes": {name: _encode(volume, free_class) for name, volume in volumes.items()},
        "pictures": {name: _encode_picture(image) for name, image in (pictures or {}).items()},
    }
    template = Path(__file__).with_name(_TEMPLATE).read_text(encoding="utf-8")
    page = template.replace("@TITLE@", html.escape(title))
    # "</" would end the script; JSON allows the escaped slash.
    page = page.replace("@CONTENT@", json.dumps(content).replace("</", "<\\/"))
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
