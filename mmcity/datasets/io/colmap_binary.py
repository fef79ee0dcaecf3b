"""COLMAP's binary files. Little-endian, packed; counts are checked before allocating."""

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .colmap_types import CAMERA_MODELS, ColmapCamera, ColmapFormatError, ColmapImage, ColmapPoints

_MODEL_BY_ID = {info.model_id: info for info in CAMERA_MODELS.values()}
_CAMERA = struct.Struct("<IiQQ")
_IMAGE = struct.Struct("<I7dI")
_COUNT = struct.Struct("<Q")
_FEATURE = np.dtype([("xy", "<f8", 2), ("id", "<i8")])
_POINT = np.dtype(
    [("id", "<i8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("length", "<u8")]
)
_LENGTH_AT = _POINT.fields["length"][1]
#: Points gathered at once; bounds the temporary memory at some 50 MB.
_CHUNK = 1 << 20


class _Reader:
    """A position in a mapped file; every read is checked against its end."""

    def __init__(self, path: Path, data) -> None:
        self.path, self.data, self.pos = path, data, 0

    def need(self, size: int, what: str) -> None:
        left = len(self.data) - self.pos
        if size > left:
            raise ColmapFormatError(
                self.path,
                f"{size} more bytes for {what} at byte {self.pos}",
                f"{left} (the file has {len(self.data)}; it is truncated or corrupt)",
            )

    def unpack(self, layout: struct.Struct, what: str) -> tuple:
        self.need(layout.size, what)
        values = layout.unpack_from(self.data, self.pos)
        self.pos += layout.size
        return values

    def count(self, smallest: int, what: str) -> int:
        """A number of records of at least ``smallest`` bytes each."""
        (number,) = self.unpack(_COUNT, f"the number of {what}")
        left = len(self.data) - self.pos
        if number * smallest > left:
            raise ColmapFormatError(
                self.path,
                f"at most {left // smallest} {what} in the {left} bytes left",
                f"a count of {number} at byte {self.pos - 8} (truncated or corrupt)",
            )
        return number

    def finish(self, what: str) -> None:
        if self.pos != len(self.data):
            raise ColmapFormatError(
                self.path,
                f"the end of the file after the last of the {what} (byte {self.pos})",
                f"{len(self.data) - self.pos} bytes more",
            )


@contextmanager
def _mapped(path: Path) -> Iterator[_Reader]:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise ColmapFormatError(path, "a COLMAP binary file", "an empty file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield _Reader(path, data)


def read_cameras_bin(path: Path) -> dict[int, ColmapCamera]:
    """Read ``cameras.bin``."""
    cameras: dict[int, ColmapCamera] = {}
    with _mapped(path) as reader:
        for _ in range(reader.count(_CAMERA.size + 24, "cameras")):
            camera_id, model_id, width, height = reader.unpack(_CAMERA, "a camera")
            if model_id not in _MODEL_BY_ID:
                raise ColmapFormatError(
                    path,
                    f"a camera model id of 0..{max(_MODEL_BY_ID)}",
                    f"{model_id} for camera {camera_id} at byte {reader.pos - _CAMERA.size}",
                    "undistort with `colmap image_undistorter`, which writes PINHOLE cameras",
                )
            info = _MODEL_BY_ID[model_id]
            params = reader.unpack(struct.Struct(f"<{len(info.params)}d"), "camera parameters")
            if camera_id in cameras:
                raise ColmapFormatError(path, "unique camera ids", f"{camera_id} twice")
            try:
                cameras[camera_id] = ColmapCamera(camera_id, info.name, width, height, params)
            except ValueError as error:
                raise ColmapFormatError(path, "valid cameras", str(error)) from error
        reader.finish("cameras")
    return cameras


def read_images_bin(path: Path, with_features: bool = True) -> dict[int, ColmapImage]:
    """Read ``images.bin``; ``with_features=False`` leaves the 2D points out."""
    images: dict[int, ColmapImage] = {}
    with _mapped(path) as reader:
        for _ in range(reader.count(_IMAGE.size + 1 + _COUNT.size, "images")):
            start = reader.pos
            image_id, *pose, camera_id = reader.unpack(_IMAGE, "an image")
            end = reader.data.find(b"\0", reader.pos)
            if end < 0:
                raise ColmapFormatError(
                    path, f"a name that ends with a zero byte from byte {reader.pos}", "none"
                )
            raw = reader.data[reader.pos : min(end, reader.pos + 4096)]
            reader.pos = end + 1
            try:
                name = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ColmapFormatError(
                    path, f"a UTF-8 name of image {image_id} (byte {start})", repr(raw[:80])
                ) from error
            number = reader.count(_FEATURE.itemsize, f"features of image {image_id}")
            size = number * _FEATURE.itemsize
            if image_id in images:
                raise ColmapFormatError(path, "unique image ids", f"{image_id} twice")
            try:
                image = ColmapImage(image_id, pose[:4], pose[4:], camera_id, name)
            except ValueError as error:
                raise ColmapFormatError(path, f"valid images (byte {start})", str(error)) from error
            if with_features:
                rows = np.frombuffer(reader.data[reader.pos : reader.pos + size], _FEATURE)
                image.xys = np.ascontiguousarray(rows["xy"]).astype(np.float64, copy=False)
                image.point3D_ids = np.ascontiguousarray(rows["id"]).astype(np.int64, copy=False)
            reader.pos += size
            images[image_id] = image
        reader.finish("images")
    return images


def _point_starts(reader: _Reader, count: int) -> np.ndarray:
    """Byte at which each point begins, ``(count + 1,)`` with the end of the last."""
    starts = np.empty(count + 1, np.int64)
    length_at = struct.Struct("<Q").unpack_from
    data, pos, end = reader.data, reader.pos, len(reader.data)
    for row in range(count):
        starts[row] = pos
        if pos + _POINT.itemsize > end:
            reader.pos = pos
            reader.need(_POINT.itemsize, f"point {row} of {count}")
        pos += _POINT.itemsize + 8 * length_at(data, pos + _LENGTH_AT)[0]
        if pos > end:
            raise ColmapFormatError(
                reader.path,
                f"the track of point {row} of {count} (byte {starts[row]}) inside the file",
                f"a length that ends at byte {pos} of {end} (truncated or corrupt)",
            )
    starts[count] = reader.pos = pos
    return starts


def read_points3D_bin(path: Path, with_tracks: bool = True) -> ColmapPoints:
    """Read ``points3D.bin``; ``with_tracks=False`` leaves the tracks out."""
    with _mapped(path) as reader:
        count = reader.count(_POINT.itemsize, "points")
        starts = _point_starts(reader, count)
        reader.finish("points")
        rows = np.empty(count, _POINT)
        tracks = [np.zeros((0, 2), np.int32)]
        for first in range(0, count, _CHUNK):
            last = min(first + _CHUNK, count)
            begin = starts[first]
            block = np.frombuffer(reader.data[begin : starts[last]], np.uint8)
            fixed = (starts[first:last, None] - begin) + np.arange(_POINT.itemsize)
            rows[first:last] = block[fixed].view(_POINT)[:, 0]
            if with_tracks:
                is_track = np.ones(len(block), bool)
                is_track[fixed.reshape(-1)] = False
                tracks.append(block[is_track].view("<i4").reshape(-1, 2).astype(np.int32))
    if len(np.unique(rows["id"])) != count:
        raise ColmapFormatError(path, "unique point ids", "ids that occur twice")
    lengths = rows["length"].astype(np.int64) if with_tracks else None
    return ColmapPoints.from_arrays(
        rows["xyz"],
        np.ascontiguousarray(rows["rgb"]),
        rows["error"].astype(np.float64),
        ids=rows["id"].astype(np.int64),
        track_lengths=lengths,
        tracks=np.concatenate(tracks),
    )


def write_cameras_bin(cameras: dict[int, ColmapCamera], path: Path) -> None:
    """Write ``cameras.bin``."""
    with open(path, "wb") as file:
        file.write(_COUNT.pack(len(cameras)))
        for camera in cameras.values():
            model_id = CAMERA_MODELS[camera.model].model_id
            file.write(_CAMERA.pack(camera.camera_id, model_id, camera.width, camera.height))
            file.write(camera.params.astype("<f8").tobytes())


def write_images_bin(images: dict[int, ColmapImage], path: Path) -> None:
    """Write ``images.bin``."""
    with open(path, "wb") as file:
        file.write(_COUNT.pack(len(images)))
        for image in images.values():
            file.write(_IMAGE.pack(image.image_id, *image.qvec, *image.tvec, image.camera_id))
            file.write(image.name.encode("utf-8") + b"\0")
            rows = np.empty(len(image.xys), _FEATURE)
            rows["xy"], rows["id"] = image.xys, image.point3D_ids
            file.write(_COUNT.pack(len(rows)) + rows.tobytes())


def write_points3D_bin(points: ColmapPoints, path: Path) -> None:
    """Write ``points3D.bin``."""
    lengths = points.track_lengths
    with open(path, "wb") as file:
        file.write(_COUNT.pack(len(points)))
        for first in range(0, len(points), _CHUNK):
            part = slice(first, min(first + _CHUNK, len(points)))
            rows = np.empty(len(lengths[part]), _POINT)
            rows["id"], rows["xyz"], rows["rgb"] = (
                points.ids[part],
                points.xyz[part],
                points.rgb[part],
            )
            rows["error"], rows["length"] = points.errors[part], lengths[part]
            sizes = _POINT.itemsize + 8 * lengths[part]
            starts = np.cumsum(sizes) - sizes
            block = np.empty(int(sizes.sum()), np.uint8)
            fixed = (starts[:, None] + np.arange(_POINT.itemsize)).reshape(-1)
            block[fixed] = rows.view(np.uint8)
            is_track = np.ones(len(block), bool)
            is_track[fixed] = False
            begin, end = points.track_offsets[part.start], points.track_offsets[part.stop]
            block[is_track] = (
                np.ascontiguousarray(points.tracks[begin:end], "<i4").view(np.uint8).ravel()
            )
            file.write(block.tobytes())
