"""``.spz`` files: Gaussians in about a tenth of the bytes of a PLY, which browsers take.

The format is Niantic's (MIT): a header and one table per quantity (:mod:`.spz_tables`), versions 1
to 3 in one gzip stream, version 4 with one zstd stream per table. Records of extensions stand
behind the tables, in version 4 before them.

The format's text names axes (x right, y up, z back), but no program turns a scene on the way in or
out. So numbers are written as they are, and version 4 notes the axes in a record.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from mmcity.structures.axes import AXES, UP_AXES, axes_matrix, convert_axes
from mmcity.structures.gaussians import Gaussians
from mmcity.structures.scene_frame import SceneFrame, sidecar, write_frame
from mmcity.structures.sim3 import Sim3
from mmcity.structures.splat_info import SplatInfo
from mmcity.utils.checks import check_choice
from mmcity.utils.fileio import atomic_path, read_json, write_json

from .gaussian_format import (
    GaussianFileError,
    GaussianFormat,
    check_bytes,
    check_count,
    for_writing,
    in_axes,
    keep_valid,
)
from .spz_tables import (
    MOST_FRACTION_BITS,
    fraction_bits_for,
    losses_of_tables,
    pack_tables,
    table_widths,
    unpack_tables,
)

_MAGIC = 0x5053474E
_SIGNATURE = _MAGIC.to_bytes(4, "little")
_GZIP = b"\x1f\x8b"
_HEADER = struct.Struct("<IIIBBBB")
#: The same in version 4, with the number of streams and the place of their table of contents.
_LONG_HEADER = struct.Struct("<IIIBBBBI12x")
_STREAM = struct.Struct("<QQ")
_RECORD = struct.Struct("<II")
_VERSIONS = (1, 2, 3, 4)
#: Flags of the header.
_ANTIALIASED, _HAS_RECORDS = 1, 2
#: Records: limits of a viewer's orbit (elevation from and to in radians, least radius), and axes.
_ORBIT, _AXES = 0xADBE0002, 0xADBE0003
_ORBIT_VALUES = struct.Struct("<3f")
#: Bytes of records that are read; bytes that gzip and zstd make of one at most.
_MOST_RECORDS, _MOST_INFLATED, _MOST_ZSTD = 1 << 20, 1040, 1024
_GZIP_LEVEL, _ZSTD_LEVEL = 5, 12
#: Key of a frame beside a file, which tells it from those of files that were turned.
_FRAME_AXES = "axes"
_UNTURNED = "as in the file"


def write_spz(
    gaussians: Gaussians,
    path: str | os.PathLike,
    version: int = 4,
    antialiased: bool | None = None,
    sh_bits: tuple[int, int] = (5, 4),
    *,
    info: SplatInfo | None = None,
    up: str | None = None,
    to: str | None = None,
    fraction_bits: int = 12,
    level: int | None = None,
) -> SplatInfo:
    """Write an ``.spz`` file, with numbers as they are.

    A frame goes into a file ``.frame.json`` beside it.

    Args:
        gaussians (Gaussians): With SH, or three features as colour.
        path: Moved into place when whole.
        version (int): 4; 3 for viewers without zstd, which has SH up to degree 3 and says no axes;
            2 for older ones (coarser rotations). Defaults to 4.
        antialiased (bool, optional): Note that the scene was trained with the antialiased
            renderer. Defaults to None: as ``info`` says.
        sh_bits: Bits, 1 to 8, of coefficients of degree 1 and of those above. All 8 keep ten
            decibels more of a render and cost half as much again. Defaults to (5, 4), as the
            format's own tools.
        info: What is known of the scene. Defaults to None: nothing.
        up (str, optional): Axis of the world that points up, ``z``, ``y`` or ``-y``, where
            ``info`` says no axes. Defaults to None: not known.
        to (str, optional): Axes to turn the scene to. Defaults to None: its own.
        fraction_bits (int): Bits of positions behind the point, fewer where the scene reaches too
            far for them: 12 keep 1/4096 of a unit up to 2048 units from the origin. Defaults to
            12.
        level (int, optional): Effort of the compression, up to 9 (gzip) or 22 (zstd). Defaults to
            5 and 12.

    Returns:
        SplatInfo: What the file says, and what was lost.

    Raises:
        ValueError: If a value cannot be stored, or the scene is to be turned from unknown axes.
    """
    info = info or SplatInfo()
    if antialiased is not None:
        info = replace(info, model="antialiased" if antialiased else "default")
    if up is not None:
        check_choice("up", up, UP_AXES)
        info = replace(info, axes=info.axes or UP_AXES[up])
    if to is not None:
        if info.axes is None:
            raise ValueError(
                "to: expected a scene of known axes, got none: give up=... or info=..."
            )
        gaussians, info = convert_axes(gaussians, info.axes, to), replace(info, axes=to)
    packed, said = pack_spz(
        gaussians, path, version, info, sh_bits=sh_bits, fraction_bits=fraction_bits, level=level
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed)
        _write_frame(path, gaussians.frame, version)
    return said


def pack_spz(
    gaussians: Gaussians,
    path: str | os.PathLike,
    version: int,
    info: SplatInfo | None = None,
    *,
    sh_bits: tuple[int, int] = (5, 4),
    fraction_bits: int = 12,
    level: int | None = None,
) -> tuple[bytes, SplatInfo]:
    """Content of an SPZ file, for others to hold, and what it says; see :func:`write_spz`.

    Args:
        gaussians, version, info, sh_bits, fraction_bits, level: As there.
        path: Of what holds it, for messages.
    """
    check_choice("version", version, _VERSIONS[1:])
    check_choice("fraction_bits", fraction_bits, range(MOST_FRACTION_BITS + 1))
    for bits in sh_bits:
        check_choice("sh_bits", bits, range(1, 9))
    g, sh, said = for_writing(
        gaussians,
        path,
        info,
        sh_degree=4 if version == 4 else 3,
        models=("default", "antialiased"),
        holds_axes=version == 4,
    )
    bits = fraction_bits_for(g.means, fraction_bits)
    if bits < 0:
        raise ValueError(
            f"{path}: expected positions below 8,388,000, got {float(g.means.abs().max()):.0f}: "
            "shift the scene to the origin"
        )
    lost = [*said.lost, f"positions rounded to 1/{2**bits}", *losses_of_tables(g, sh)]
    extras = info.extras if info is not None else {}
    if version < 4 and "safe_orbit" in extras:
        lost.append("orbit limits dropped")
    unread = extras.get("unread_records", ())
    lost += [f"extension record {kind} dropped" for kind in unread]
    tables = [table.tobytes() for table in pack_tables(g, sh, version, bits, sh_bits)]
    if version == 4:
        records = _pack_records(said)
    else:
        records, said = b"", replace(said, axes=None, extras={})
    flags = _ANTIALIASED * (said.model == "antialiased") | _HAS_RECORDS * bool(records)
    head = (_MAGIC, version, len(g), said.sh_degree, bits, flags)
    packed = (
        _pack_long(head, records, tables, level) if version == 4 else _pack(head, tables, level)
    )
    return packed, replace(said, format=f"spz {version}", lost=tuple(lost))


def read_spz(
    path: str | os.PathLike,
    drop_invalid: bool = False,
    *,
    to: str | None = None,
    assume: str | None = None,
) -> Gaussians:
    """Read an ``.spz`` file of version 1 to 4.

    Args:
        path: The file.
        drop_invalid: Leave out Gaussians whose values are not finite. Defaults to False.
        to: Axes to return. Defaults to None: those of the file.
        assume: Axes of a file that does not say them; ``RUB`` for those of earlier versions of
            this toolbox, which turned a scene of the axes ``RDF``. Defaults to None: not known.

    Raises:
        FileNotFoundError: If there is no such file.
        GaussianFileError: If it is broken or of another version.
        ValueError: If its axes are not known, and others are wanted.
    """
    return in_axes(*_load_spz(path, drop_invalid), path, to, assume)[0]


def read_spz_bytes(packed: bytes, path: str | os.PathLike) -> tuple[Gaussians, SplatInfo]:
    """Gaussians of an SPZ file in memory, in its own axes, and what it says.

    Args:
        packed: The whole file.
        path: Where from, for messages.

    Raises:
        GaussianFileError: If it is broken or of another version.
    """
    read = _unpack_long if packed.startswith(_SIGNATURE) else _unpack
    version, degree, bits, flags, tables, records = read(packed, path)
    said: dict[str, Any] = {"axes": None}
    extras: dict[str, Any] = {}
    for kind, content in _split_records(records, path):
        if kind == _ORBIT and len(content) == _ORBIT_VALUES.size:
            extras["safe_orbit"] = _ORBIT_VALUES.unpack(content)
        elif kind == _AXES and len(content) == 4:
            code = int.from_bytes(content, "little")
            said["axes"] = {number: name for name, number in AXES.items()}.get(code)
            if said["axes"] is None:
                print_log(f"{path}: axes of the code {code} are not known", "current", 30)
        else:
            extras["unread_records"] = (*extras.get("unread_records", ()), f"{kind:#010x}")
    if "unread_records" in extras:
        names = ", ".join(extras["unread_records"])
        print_log(f"{path}: the extension {names} of SPZ is not read", "current", 30)
    info = SplatInfo(
        model="antialiased" if flags & _ANTIALIASED else "default",
        format=f"spz {version}",
        sh_degree=degree,
        extras=MappingProxyType(extras),
        **said,
    )
    return unpack_tables(tables, version, bits), info


def read_spz_frame(path: str | os.PathLike) -> tuple[SceneFrame | None, bool]:
    """Frame beside an SPZ file, and whether the file is an older one, which was turned.

    Older ones hold a scene after half a turn about x; the frame returned is that of the numbers in
    the file in any case.

    Raises:
        ValueError: If the frame is broken.
    """
    noted = sidecar(path)
    if not noted.is_file():
        return None, False
    content = read_json(noted)
    with open(path, "rb") as file:
        is_long = file.read(4) == _SIGNATURE
    unturned = isinstance(content, dict) and content.pop(_FRAME_AXES, None) == _UNTURNED
    frame = SceneFrame.from_dict(content, noted)
    if unturned or is_long:
        return frame, False
    return frame.moved(Sim3(rotation=torch.from_numpy(axes_matrix("RDF", "RUB")))), True


def _write_frame(path: str | os.PathLike, frame: SceneFrame | None, version: int) -> None:
    if frame is None or frame.is_identity or version >= 4:
        write_frame(sidecar(path), frame)
    else:
        write_json(sidecar(path), {**frame.to_dict(), _FRAME_AXES: _UNTURNED})


def _load_spz(path: str | os.PathLike, drop_invalid: bool = False) -> tuple[Gaussians, SplatInfo]:
    path = Path(path)
    gaussians, info = read_spz_bytes(path.read_bytes(), path)
    gaussians.frame, was_turned = read_spz_frame(path)
    if was_turned and info.axes is None:
        info = replace(info, axes="RUB")
    return keep_valid(gaussians, path, drop_invalid), info


def _check_header(
    path: str | os.PathLike, count: int, degree: int, bits: int, most_degree: int
) -> None:
    check_count(path, count)
    if degree > most_degree:
        raise GaussianFileError(
            f"{path}: expected SH up to degree {most_degree}, got {degree}: export it as PLY"
        )
    if bits > MOST_FRACTION_BITS:
        raise GaussianFileError(
            f"{path}: expected at most {MOST_FRACTION_BITS} fraction bits, got {bits} (corrupt)"
        )


# ---- versions 1 to 3


def _pack(head: tuple[int, ...], tables: list[bytes], level: int | None) -> bytes:
    body = _HEADER.pack(*head, 0) + b"".join(tables)
    packer = zlib.compressobj(_GZIP_LEVEL if level is None else level, wbits=31)  # without a time
    return packer.compress(body) + packer.flush()


def _unpack(packed: bytes, path: str | os.PathLike) -> tuple[Any, ...]:
    stream = zlib.decompressobj(31)

    def inflate(data: bytes, size: int) -> bytes:
        try:
            return stream.decompress(data, size)
        except zlib.error as error:
            raise GaussianFileError(f"{path}: expected a gzip stream, got {error}") from error

    head = inflate(packed, _HEADER.size)
    if len(head) < _HEADER.size:
        raise GaussianFileError(f"{path}: expected a header of 16 bytes, got {len(head)}")
    magic, version, count, degree, bits, flags, _ = _HEADER.unpack(head)
    if magic != _MAGIC or version not in _VERSIONS[:3]:
        raise GaussianFileError(
            f"{path}: expected an spz file of version 1 to 3, got magic {magic:#x}, version "
            f"{version}: export it again, or as PLY"
        )
    _check_header(path, count, degree, bits, 3)
    widths = table_widths(version, degree)
    expected = count * sum(widths)
    if expected > len(packed) * _MOST_INFLATED:
        check_bytes(path, f"{count} Gaussians", expected, len(packed))
    most = expected + (_MOST_RECORDS if flags & _HAS_RECORDS else 0)
    body = inflate(stream.unconsumed_tail, most + 1)
    if len(body) > most or not flags & _HAS_RECORDS or len(body) < expected:
        check_bytes(path, f"{count} Gaussians", expected, len(body))
    if not stream.eof:  # the check sum
        inflate(stream.unconsumed_tail, 1)
    if not stream.eof or stream.unused_data.strip(b"\0"):
        raise GaussianFileError(
            f"{path}: expected one whole gzip stream, got one that is cut or followed by more "
            "(truncated or corrupt): export the scene again"
        )
    tables, start = [], 0
    for width in widths:
        part = np.frombuffer(body, np.uint8, count * width, start)
        tables.append(part.reshape(count, width))
        start += count * width
    return version, degree, bits, flags, tables, body[expected:]


# ---- version 4


def _pack_long(
    head: tuple[int, ...], records: bytes, tables: list[bytes], level: int | None
) -> bytes:
    import zstandard

    # With check sums, since bytes that change would mostly be other Gaussians.
    effort = _ZSTD_LEVEL if level is None else level
    packer = zstandard.ZstdCompressor(level=effort, write_checksum=True)
    parts = [table for table in tables if table]
    streams = [packer.compress(part) for part in parts]
    contents = [_STREAM.pack(len(s), len(p)) for s, p in zip(streams, parts, strict=True)]
    start = _LONG_HEADER.size + len(records)
    whole = [_LONG_HEADER.pack(*head, len(streams), start), records, *contents, *streams]
    return b"".join(whole)


def _unpack_long(packed: bytes, path: str | os.PathLike) -> tuple[Any, ...]:
    import zstandard

    size = len(packed)
    if size < _LONG_HEADER.size:
        raise GaussianFileError(
            f"{path}: expected a header of {_LONG_HEADER.size} bytes, got {size} (truncated)"
        )
    _, version, count, degree, bits, flags, streams, start = _LONG_HEADER.unpack_from(packed)
    if version != _VERSIONS[-1]:
        raise GaussianFileError(
            f"{path}: expected an spz file of version 1 to 4, got version {version}: export it as "
            "version 4, or as PLY"
        )
    _check_header(path, count, degree, bits, 4)
    widths = table_widths(version, degree)
    parts = [count * width for width in widths if width]
    if streams != len(parts):
        raise GaussianFileError(
            f"{path}: expected {len(parts)} streams of SH of degree {degree}, got {streams}"
        )
    if count * 9 > _MOST_ZSTD * size:
        check_bytes(path, f"{count} Gaussians", count * 9, size)
    first = start + streams * _STREAM.size
    if start < _LONG_HEADER.size or first > size:
        raise GaussianFileError(
            f"{path}: expected the table of contents between bytes {_LONG_HEADER.size} and {size}, "
            f"got byte {start} (truncated or corrupt)"
        )
    contents = [_STREAM.unpack_from(packed, start + i * _STREAM.size) for i in range(streams)]
    for number, (_, plain) in enumerate(contents):
        check_bytes(path, f"stream {number}", parts[number], plain)
    check_bytes(path, "streams", sum(length for length, _ in contents), size - first)
    unpacker, tables, view = zstandard.ZstdDecompressor(), [], memoryview(packed)
    for number, (length, plain) in enumerate(contents):
        try:
            stated = zstandard.get_frame_parameters(view[first : first + length]).content_size
            if stated not in (plain, zstandard.CONTENTSIZE_UNKNOWN):
                check_bytes(path, f"stream {number}", plain, stated)
            data = unpacker.decompress(
                view[first : first + length], max_output_size=plain, allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise GaussianFileError(
                f"{path}: expected a zstd stream of {plain} bytes, got {error}"
            ) from error
        check_bytes(path, f"stream {number}", plain, len(data))
        tables.append(np.frombuffer(data, np.uint8).reshape(count, -1))
        first += length
    if not widths[-1]:
        tables.append(np.empty((count, 0), np.uint8))
    records = packed[_LONG_HEADER.size : start]
    if records and not flags & _HAS_RECORDS:
        check_bytes(path, "extension records", 0, len(records))
    return version, degree, bits, flags, tables, records


# ---- records


def _pack_records(info: SplatInfo) -> bytes:
    records = b""
    if "safe_orbit" in info.extras:
        records += _RECORD.pack(_ORBIT, _ORBIT_VALUES.size)
        records += _ORBIT_VALUES.pack(*info.extras["safe_orbit"])
    if info.axes is not None:
        records += _RECORD.pack(_AXES, 4) + AXES[info.axes].to_bytes(4, "little")
    return records


def _split_records(records: bytes, path: str | os.PathLike) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each record."""
    start = 0
    while start < len(records):
        if start + _RECORD.size > len(records):
            check_bytes(path, "an extension record", _RECORD.size, len(records) - start)
        kind, length = _RECORD.unpack_from(records, start)
        start += _RECORD.size
        if start + length > len(records):
            check_bytes(path, f"the extension record {kind:#x}", length, len(records) - start)
        yield kind, records[start : start + length]
        start += length


def _sniff(_: Path, head: bytes) -> bool:
    if head.startswith(_GZIP):
        try:
            head = zlib.decompressobj(31).decompress(head, 4)
        except zlib.error:
            return False
    return head.startswith(_SIGNATURE)


SPZ = GaussianFormat("spz", (".spz",), _load_spz, write_spz, _sniff)
