"""Textures of SOG files: lossless WebP whose pixels are codes, not colours."""

import io
import warnings

import numpy as np
from PIL import Image, features

from .gaussian_format import GaussianFileError

#: Longest edge of WebP, and of what a file may declare.
MOST_EDGE, _MOST_READ = 16383, 16384
#: Pixels beyond those needed that a file may have, in times and at least.
_SPARE, _LEAST_SPARE = 4, 1 << 20


def decode_texture(data: bytes, where: str, pixels: int) -> np.ndarray:
    """Pixels of a texture, ``(H, W, 4)`` uint8.

    Args:
        data: Of the file.
        where: Names it in messages.
        pixels: So many are needed; what declares far more is refused before memory is taken.

    Raises:
        GaussianFileError: If it is broken, lossy, too small or too large.
    """
    _check_webp(where)
    parts = _parts(data) if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else []
    if not parts or b"VP8 " in (name for name, *_ in parts):
        kind = "a lossy one" if parts else "another file"
        raise GaussianFileError(f"{where}: expected a lossless WebP, got {kind}: export it again")
    # Pillow takes the memory of the whole picture when it opens one.
    width, height = (max(sizes) for sizes in zip(*((w, h) for _, w, h in parts)))
    most = max(_SPARE * pixels, _LEAST_SPARE)
    if not pixels <= width * height <= most or max(width, height) > _MOST_READ:
        raise GaussianFileError(
            f"{where}: expected a texture of about {pixels} pixels, got {width} x {height} "
            "(truncated or corrupt): export it again"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
                return np.asarray(image.convert("RGBA"))
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise GaussianFileError(
                f"{where}: expected a WebP that decodes, got {error}: export it again"
            ) from error


def _parts(data: bytes) -> list[tuple[bytes, int, int]]:
    """Names of the parts of a WebP file, with the widths and heights that they declare."""
    parts, at = [], 12
    while at + 8 <= len(data):
        name, head = data[at : at + 4], data[at + 8 : at + 18]
        width = height = 0
        if name == b"VP8X":  # 24 bits each
            width, height = (int.from_bytes(head[i : i + 3], "little") + 1 for i in (4, 7))
        elif name == b"VP8L":  # 14 bits each
            size = int.from_bytes(head[1:5], "little")
            width, height = (size & 16383) + 1, (size >> 14 & 16383) + 1
        parts.append((name, width, height))
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return parts


def encode_texture(pixels: np.ndarray, where: str) -> bytes:
    """A texture of ``(H, W, 4)`` uint8, each pixel kept, those of alpha 0 too."""
    _check_webp(where)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=True, exact=True, method=4)
    return stream.getvalue()


def _check_webp(where: str) -> None:
    if not features.check("webp"):
        raise GaussianFileError(
            f"{where}: expected Pillow with WebP, got one without: pip install -U pillow"
        )
