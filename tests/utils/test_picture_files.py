"""Pictures of every mode give the same greys."""

import numpy as np
import pytest
from PIL import Image

from mmcity.utils.picture_files import ImageReadError, read_image, read_mask

GREY = (np.arange(48 * 64).reshape(48, 64) % 200 + 30).astype(np.uint8)


def _save(kind: str, path) -> None:
    wide = GREY.astype(np.uint16) * 257
    image = {
        "grey": lambda: Image.fromarray(GREY),
        "grey16": lambda: Image.fromarray(wide),
        "grey32": lambda: Image.fromarray(wide.astype(np.int32)),
        "float": lambda: Image.fromarray((GREY / 255).astype(np.float32)),
        "float255": lambda: Image.fromarray(GREY.astype(np.float32)),
        "greyalpha": lambda: Image.fromarray(GREY).convert("LA"),
        "palette": lambda: Image.fromarray(GREY).quantize(256),
        "rgba": lambda: Image.fromarray(GREY).convert("RGBA"),
        "cmyk": lambda: Image.fromarray(GREY).convert("RGB").convert("CMYK"),
    }[kind]()
    image.save(path)


@pytest.mark.parametrize(
    "name",
    [
        "grey.png",
        "grey16.png",
        "grey16.tif",
        "grey32.tif",
        "float.tif",
        "float255.tif",
        "greyalpha.png",
        "palette.png",
        "rgba.png",
        "cmyk.tif",
    ],
)
def test_the_range_of_values_does_not_change_the_picture(tmp_path, name):
    _save(name.partition(".")[0], tmp_path / name)

    for mode, channels in (("RGB", 3), ("RGBA", 4)):
        picture = read_image(tmp_path / name, mode)
        assert picture.shape == (48, 64, channels) and picture.dtype == np.uint8
        assert np.abs(picture[..., :3].astype(int) - GREY[..., None]).max() <= 1


def test_ten_bits_in_sixteen_are_told(tmp_path):
    Image.fromarray(np.uint16([[0, 1023]])).save(tmp_path / "ten.png")
    with pytest.warns(UserWarning, match="10 or 12 bits are nearly black"):
        assert read_image(tmp_path / "ten.png").max() == 4


@pytest.mark.parametrize(
    "values",
    [np.float32([[0, np.nan]]), np.float32([[-1, 2]]), np.float32([[0, 300]]), np.int32([[0, -5]]),
     np.int32([[0, 1 << 20]])],
)  # fmt: skip
def test_unknown_ranges_are_refused_by_name(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "odd.tif")

    with pytest.raises(ImageReadError, match=r"odd\.tif: .*expected (floats|integers)"):
        read_image(tmp_path / "odd.tif")
    assert (read_image(tmp_path / "odd.tif", None) == values).any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright_where_asked(tmp_path, orientation):
    scene = np.zeros((40, 24, 3), np.uint8)
    scene[:20] = (200, 40, 40)
    scene[:20, :12] = (40, 40, 200)
    # What the sensor reads out when the viewer has to undo it as the tag says.
    undone = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: lambda a: np.rot90(a, 3),
    }[orientation](scene)  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undone)).save(tmp_path / "a.png", exif=exif)

    assert np.array_equal(read_image(tmp_path / "a.png", upright=True), scene)
    assert np.array_equal(read_image(tmp_path / "a.png"), undone)


_HALF = np.arange(48 * 64).reshape(48, 64) % 64 >= 32


def _mask(kind: str) -> Image.Image:
    grey, alpha = (_HALF * 255).astype(np.uint8), (_HALF * 255).astype(np.uint8)
    white = np.full_like(grey, 255)
    if kind == "palette":  # index 0 is white here, as some programs number colours
        image = Image.fromarray((~_HALF).astype(np.uint8))
        image.putpalette([255, 255, 255, 0, 0, 0])
        return image
    return {
        "bits": lambda: Image.fromarray(_HALF),
        "ones": lambda: Image.fromarray(_HALF.astype(np.uint8)),
        "grey": lambda: Image.fromarray(grey),
        "grey16": lambda: Image.fromarray(_HALF.astype(np.uint16) * 65535),
        "one_channel": lambda: Image.fromarray(np.dstack([grey * 0, grey * 0, grey])),
        "opaque": lambda: Image.fromarray(np.dstack([grey, grey, grey, white])),
        "alpha_of_black": lambda: Image.fromarray(np.dstack([grey * 0] * 3 + [alpha])),
        "alpha_of_white": lambda: Image.fromarray(np.dstack([white] * 3 + [alpha])),
        "grey_alpha": lambda: Image.fromarray(np.dstack([grey, white])),
    }[kind]()


@pytest.mark.parametrize(
    "kind",
    ["bits", "ones", "grey", "grey16", "palette", "one_channel", "opaque", "alpha_of_black",
     "alpha_of_white", "grey_alpha"],
)  # fmt: skip
def test_masks_of_every_mode_keep_the_same_pixels(tmp_path, kind):
    _mask(kind).save(tmp_path / "mask.png")

    assert np.array_equal(read_mask(tmp_path / "mask.png"), _HALF)


@pytest.mark.parametrize("alpha", [0, 255])
def test_a_black_mask_keeps_nothing_whatever_its_transparency(tmp_path, alpha):
    Image.new("RGBA", (8, 6), (0, 0, 0, alpha)).save(tmp_path / "mask.png")

    assert not read_mask(tmp_path / "mask.png").any()
