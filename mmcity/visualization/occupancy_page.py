"""Occupancy as one HTML file: voxels to turn, zoom and play, drawn by the browser's WebGL."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmcity.datasets.occupancy_labels import UNIFIED_CLASSES
from mmcity.structures.palettes import UNIFIED_PALETTE
from mmcity.utils.fileio import read_text, to_json, write_text

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
    palette: Sequence[Sequence[int]] = UNIFIED_PALETTE,
    names: Sequence[str] = UNIFIED_CLASSES,
    free_class: int = 0,
    title: str = "Occupancy",
    pictures: dict[str, np.ndarray] | None = None,
    fps: float = 5.0,
) -> None:
    """Write a page that needs nothing else, neither a server nor a network.

    Args:
        path: ``.html`` file.
        volumes: Labels ``(X, Y, Z)``, or clips ``(T, X, Y, Z)`` to play, by name, such as
            prediction and ground truth; equal shapes of at most 256 voxels a side.
        palette: RGB per label. Defaults to the unified classes'.
        names: Name of each label. Defaults to the unified classes.
        free_class: Label of empty voxels. Defaults to 0.
        title: Shown above. Defaults to "Occupancy".
        pictures: Images (H, W, 3) uint8 to show beside, by name. Defaults to none.
        fps: Frames of a clip shown per second. Defaults to 5.

    Raises:
        ValueError: If the volumes differ in shape or are too large, or a label has no colour.
    """
    shapes = {volume.shape for volume in volumes.values()}
    if len(shapes) != 1:
        raise ValueError(f"volumes: expected one shape, got {sorted(shapes)}")
    shape = shapes.pop()
    if len(shape) not in (3, 4) or max(shape[-3:]) > 256:
        raise ValueError(
            f"volumes: expected (X, Y, Z) or (T, X, Y, Z) of up to 256 voxels a side, got {shape}"
        )
    highest = max(int(volume.max()) for volume in volumes.values())
    if highest >= len(palette):
        raise ValueError(f"labels: expected below {len(palette)} colours, got {highest}")
    content = {
        "shape": list(shape[-3:]),
        "palette": [list(map(int, color)) for color in palette],
        "names": list(names),
        "free": free_class,
        "volumes": {
            name: [_encode(frame, free_class) for frame in volume.reshape(-1, *shape[-3:])]
            for name, volume in volumes.items()
        },
        "pictures": {name: _encode_picture(image) for name, image in (pictures or {}).items()},
        "fps": fps,
    }
    template = read_text(Path(__file__).with_name(_TEMPLATE))
    page = template.replace("@TITLE@", html.escape(title))
    # "</" would end the script; JSON allows the escaped slash.
    page = page.replace("@CONTENT@", to_json(content).replace("</", "<\\/"))
    write_text(path, page)
