"""Places of the pixels of a TIFF in the world: tags of GeoTIFF, and world files."""

import os
import re
from pathlib import Path

from mmcity.structures import SceneFrame
from mmcity.utils.fileio import write_text

#: Numbers of the GeoTIFF standard (OGC 19-008r4): tags, ...
_PIXEL_SCALE, _TIE_POINT, _KEYS, _DOUBLES = 33550, 33922, 34735, 34736
_SHORT, _DOUBLE = 3, 12
#: ... keys, ...
_MODEL_TYPE, _RASTER_TYPE, _GEODETIC_CRS, _PROJECTED_CRS = 1024, 1025, 2048, 3072
_PROJECTION, _METHOD, _LINEAR_UNITS, _CENTER_LON, _CENTER_LAT = 3074, 3075, 3076, 3088, 3089
#: ... and their values.
_PROJECTED, _PIXEL_IS_AREA, _USER_DEFINED, _WGS84, _METRE, _ORTHOGRAPHIC = (
    1,
    1,
    32767,
    4326,
    9001,
    21,
)

#: Code, type, count, value, and whether only the first page has it.
Tag = tuple[int, int, int, tuple[float, ...] | str, bool]


def is_placed(frame: SceneFrame) -> bool:
    """Whether GeoTIFF can say where a world is: in a projection of EPSG, or about a point."""
    return bool(re.fullmatch(r"EPSG:\d+", frame.crs)) or (frame.crs == "ENU" and bool(frame.lla))


def geotiff_tags(frame: SceneFrame, west: float, north: float, pixel_size: float) -> list[Tag]:
    """Tags for ``extratags`` of tifffile; none where the world is not known.

    A world of metres east and north of a point is the orthographic projection about it.

    Args:
        frame: Of the world, see :func:`is_placed`.
        west, north: Outer corner of the first pixel, world units.
        pixel_size: World units.
    """
    if not is_placed(frame):
        return []
    keys = [(_MODEL_TYPE, _PROJECTED), (_RASTER_TYPE, _PIXEL_IS_AREA)]
    doubles: tuple[float, ...] = ()
    if frame.crs == "ENU":
        latitude, longitude, _ = frame.lla
        doubles = (longitude, latitude)
        keys += [(_GEODETIC_CRS, _WGS84), (_PROJECTED_CRS, _USER_DEFINED)]
        keys += [(_PROJECTION, _USER_DEFINED), (_METHOD, _ORTHOGRAPHIC), (_LINEAR_UNITS, _METRE)]
    else:
        keys.append((_PROJECTED_CRS, int(frame.crs.removeprefix("EPSG:"))))
    directory = [1, 1, 1, len(keys) + len(doubles)]
    for key, value in keys:
        directory += [key, 0, 1, value]
    for row, key in enumerate((_CENTER_LON, _CENTER_LAT)[: len(doubles)]):
        directory += [key, _DOUBLES, 1, row]
    tags: list[Tag] = [
        (_PIXEL_SCALE, _DOUBLE, 3, (pixel_size, pixel_size, 0.0), True),
        (_TIE_POINT, _DOUBLE, 6, (0.0, 0.0, 0.0, west, north, 0.0), True),
        (_KEYS, _SHORT, len(directory), tuple(directory), True),
    ]
    if doubles:
        tags.append((_DOUBLES, _DOUBLE, len(doubles), doubles, True))
    return tags


def write_world_file(
    image: str | os.PathLike, west: float, north: float, pixel_size: float
) -> Path:
    """Write the ``.tfw`` of a TIFF: size of a pixel, and the centre of the first one."""
    numbers = (pixel_size, 0, 0, -pixel_size, west + pixel_size / 2, north - pixel_size / 2)
    path = Path(image).with_suffix(".tfw")
    write_text(path, "".join(f"{number:.12g}\n" for number in numbers))
    return path
