"""Many pictures on one sheet."""

from collections.abc import Sequence

import cv2
import numpy as np

from .color_maps import to_uint8

_CAPTION_HEIGHT = 22
_GAP = 4
_PAPER = 255
_INK = (40, 40, 40)


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    cell_width: int = 320,
) -> np.ndarray:
    """Lay pictures out in rows, with a title over each column and a caption under each row.

    Args:
        rows: Rows of images, each (H, W, 3) or (3, H, W); a row may be shorter than others.
        titles: One text per column. Defaults to none.
        captions: One text per row. Defaults to none.
        cell_width: Width of a picture on the sheet in px. Defaults to 320.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: If there is no picture.
    """
    if not rows or not all(len(row) for row in rows):
        raise ValueError("contact sheet: expected at least one picture in each row, got none")
    n_columns = max(len(row) for row in rows)
    width = n_columns * cell_width + (n_columns + 1) * _GAP
    bands = []
    if titles is not None:
        bands.append(_text_band(width, titles, cell_width))
    for number, row in enumerate(rows):
        cells = [_fit(to_uint8(image), cell_width) for image in row]
        height = max(cell.shape[0] for cell in cells)
        band = np.full((height + _GAP, width, 3), _PAPER, np.uint8)
        for column, cell in enumerate(cells):
            x = _GAP + column * (cell_width + _GAP)
            band[: cell.shape[0], x : x + cell_width] = cell
        bands.append(band)
        if captions is not None:
            bands.append(_text_band(width, [captions[number]], width))
    return np.concatenate(bands)


def _fit(image: np.ndarray, width: int) -> np.ndarray:
    height = max(round(image.shape[0] * width / image.shape[1]), 1)
    is_smaller = width < image.shape[1]
    interpolation = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=interpolation)


def _text_band(width: int, texts: Sequence[str], cell_width: int) -> np.ndarray:
    band = np.full((_CAPTION_HEIGHT, width, 3), _PAPER, np.uint8)
    for column, text in enumerate(texts):
        x = _GAP + column * (cell_width + _GAP)
        cv2.putText(
            band, text, (x, _CAPTION_HEIGHT - 7), cv2.FONT_HERSHEY_SIMPLEX, fontScale=0.45,
            color=_INK, lineType=cv2.LINE_AA,
        )  # fmt: skip
    return band
