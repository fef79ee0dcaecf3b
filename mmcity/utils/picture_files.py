"""Reading of pictures: any mode and depth of bits, stored or upright."""

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

#: Raised by PIL for files that are no image or end too early.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
#: First value that 12 bits do not hold.
_TWELVE_BITS = 4096
#: Largest value of 16 bits over that of 8.
_WIDE_STEP = 257


class ImageReadError(ValueError):
    """An image file that does not decode."""

    def __init__(self, path, what: str) -> None:
        super().__init__(
            f"{path}: expected an image that decodes, got {what}: replace the file, "
            "or take the image out of the model"
        )


def _open(path: str | os.PathLike) -> Image.Image:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected an image, found no such file")
    with warnings.catch_warnings():
        # Aerial pictures are large; PIL's warning about that is not news here.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            return Image.open(path)
        except _DECODE_ERRORS as error:
            raise ImageReadError(path, f"{type(error).__name__}: {error}") from error


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Width and height from the head of a file, as stored (EXIF orientation is not applied).

    Raises:
        FileNotFoundError: If there is no such file.
        ImageReadError: If it is no image.
    """
    with _open(path) as image:
        return image.size


def read_image(
    path: str | os.PathLike, mode: str | None = "RGB", upright: bool = False
) -> np.ndarray:
    """Pixels of a file.

    Args:
        path: Any format that PIL reads.
        mode (str, optional): ``RGB`` or ``RGBA`` give ``(H, W, 3|4)`` uint8, whatever the file
            holds (see :func:`as_eight_bits`); None gives the values as they are (16-bit depth
            maps). Defaults to ``RGB``.
        upright: Turn the picture as its EXIF orientation says, as viewers show it. Poses of a
            model belong to the stored pixels. Defaults to False.

    Raises:
        FileNotFoundError: If there is no such file.
        ImageReadError: If it does not decode, or its range of values is not known.
    """
    with _open(path) as image:
        try:
            return np.array(as_mode(image, mode, upright))
        except _DECODE_ERRORS as error:
            raise ImageReadError(path, f"{type(error).__name__}: {error}") from error


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Pixels that a mask keeps, ``(H, W)`` bool: those that are not black.

    Transparent pixels are not kept; where a mask has no colour at all, it is its transparency.

    Raises:
        FileNotFoundError, ImageReadError: As :func:`read_image`.
    """
    with _open(path) as image:
        try:
            if image.mode in ("P", "PA"):
                image = image.convert("RGBA")
            values = np.array(image)
        except _DECODE_ERRORS as error:
            raise ImageReadError(path, f"{type(error).__name__}: {error}") from error
    values = values[..., None] if values.ndim == 2 else values
    has_alpha = values.shape[-1] in (2, 4) and image.mode != "CMYK"
    colours = (values[..., :-1] if has_alpha else values).any(-1)
    if not has_alpha:
        return colours
    alpha = values[..., -1] > 0
    return colours & alpha if colours.any() else alpha & ~alpha.all()


def as_mode(image: Image.Image, mode: str | None = "RGB", upright: bool = True) -> Image.Image:
    """A picture as ``RGB`` or ``RGBA`` of 8 bits, whatever it was.

    Args:
        image: The picture.
        mode: ``RGB``, ``RGBA``, or None for the values as they are. Defaults to ``RGB``.
        upright: Apply the EXIF orientation. Defaults to True.

    Warns:
        UserWarning: If the values of a picture of 16 bits need 12 at most; once for a folder.

    Raises:
        ValueError: If the range of the values is not known, see :func:`as_eight_bits`.
    """
    image = ImageOps.exif_transpose(image) if upright else image
    if mode is None:
        return image
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if values.dtype.kind in "iu" and 255 < values.max(initial=0) < _TWELVE_BITS:
            name = getattr(image, "filename", "")
            place = Path(name).parent if name else "picture"
            warnings.warn(
                f"{place}: integers above 255 fill 16 bits, so that pictures of 10 or 12 bits are "
                "nearly black: if these are such, multiply their values to 16 bits",
                stacklevel=2,
            )
        image = Image.fromarray(as_eight_bits(values))
    return image.convert(mode)


def as_eight_bits(values: np.ndarray) -> np.ndarray:
    """Colours on the scale of 8 bits, as uint8.

    Wider integers and floats are told by their range: integers above 255 fill 16 bits (65535 is
    white), floats within [0, 1] have white at 1; others are on the scale of 8 bits already.

    Raises:
        ValueError: If values are negative or not finite, integers need more than 16 bits, or
            floats lie above 255: what is white then is not known.
    """
    if values.dtype == np.uint8 or not values.size:
        return values.astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f":
        top, scale, kind = 255.0, 255.0 if high <= 1 else 1.0, "floats from 0 to 1 or to 255"
    else:
        top, scale, kind = 65535.0, 1.0 if high <= 255 else 1 / _WIDE_STEP, "integers of 16 bits"
    if not (low >= 0 and high <= top):  # NaN fails as well
        raise ValueError(f"expected {kind}, got {low:g} to {high:g}: convert them to 8 bits")
    return (values.astype(np.float64) * scale).round().astype(np.uint8)
