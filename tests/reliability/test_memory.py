"""Small files that claim to be large: refused by name before the memory is taken."""

import gzip
import json
import pickle
import struct
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import zstandard

from mmcity.datasets.io.info_pickle import InfoFileError, load_plain_pickle
from mmcity.engine.checkpointing import CheckpointContentError, decode_checkpoint
from mmcity.engine.checkpointing.codec import TAG
from mmcity.structures import GaussianFileError, read_gaussians, write_gaussians
from tests.structures.test_gaussian_lod import street

#: Bytes that any of these files may take.
ENOUGH = 20_000_000


@contextmanager
def little_memory():
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < ENOUGH
    finally:
        tracemalloc.stop()


def test_a_stream_longer_than_its_header_says(tmp_path):
    write_gaussians(street(5), tmp_path / "a.spz", version=3)
    body = gzip.decompress((tmp_path / "a.spz").read_bytes())
    (tmp_path / "a.spz").write_bytes(gzip.compress(body + bytes(200_000_000), 1))
    with (
        little_memory(),
        pytest.raises(GaussianFileError, match=r"a\.spz: expected \d+ bytes for 5"),
    ):
        read_gaussians(tmp_path / "a.spz")


def test_a_header_of_more_than_the_file_can_hold(tmp_path):
    write_gaussians(street(5), tmp_path / "a.spz", version=3)
    body = bytearray(gzip.decompress((tmp_path / "a.spz").read_bytes()))
    body[8:12] = struct.pack("<I", 2**31 - 1)
    (tmp_path / "a.spz").write_bytes(gzip.compress(bytes(body)))
    with (
        little_memory(),
        pytest.raises(GaussianFileError, match=r"a\.spz: expected \d+ bytes"),
    ):
        read_gaussians(tmp_path / "a.spz")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (8, struct.pack("<I", 2**31 - 1), "bytes for 2147483647 Gaussians"),
        (8, struct.pack("<I", 1_000_000), "bytes for"),
        (8, bytes(4), "got none"),
        (16, struct.pack("<I", 2**32 - 1), "table of contents"),
        (16, bytes(4), "table of contents"),
        (40, struct.pack("<Q", 2**40), "bytes for stream 0"),
    ],
)
def test_a_header_of_zstd_streams_that_lies(tmp_path, place, value, message):
    write_gaussians(street(5), tmp_path / "a.spz")
    whole = bytearray((tmp_path / "a.spz").read_bytes())
    whole[place : place + len(value)] = value
    (tmp_path / "a.spz").write_bytes(whole)
    with little_memory(), pytest.raises(GaussianFileError, match=rf"a\.spz: .*{message}"):
        read_gaussians(tmp_path / "a.spz")


@pytest.mark.parametrize("says_size", [True, False])
def test_a_zstd_stream_longer_than_its_header_says(tmp_path, says_size):
    write_gaussians(street(5), tmp_path / "a.spz")
    whole = (tmp_path / "a.spz").read_bytes()
    length = struct.unpack_from("<Q", whole, 32)[0]
    streams = whole[23]
    packer = zstandard.ZstdCompressor(write_content_size=says_size).compressobj(
        size=200_000_000 if says_size else -1
    )
    bomb = b"".join(packer.compress(bytes(20_000_000)) for _ in range(10)) + packer.flush()
    first = 32 + 16 * streams
    head = whole[:32] + struct.pack("<Q", len(bomb)) + whole[40:first]
    (tmp_path / "a.spz").write_bytes(head + bomb + whole[first + length :])
    with little_memory(), pytest.raises(GaussianFileError, match=r"a\.spz: .*stream"):
        read_gaussians(tmp_path / "a.spz")


def test_rows_of_a_mesh_file_that_lie_upon_each_other(tmp_path):
    write_gaussians(street(5), tmp_path / "a.glb")
    raw = (tmp_path / "a.glb").read_bytes()
    length = struct.unpack_from("<I", raw, 12)[0]
    document = json.loads(raw[20 : 20 + length])
    for view in document["bufferViews"]:
        view["byteStride"] = 0
    for accessor in document["accessors"]:
        accessor["count"] = 100_000_000
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = raw[20 + length :]
    head = struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A)
    (tmp_path / "a.glb").write_bytes(head + text + rest)
    with little_memory(), pytest.raises(GaussianFileError, match=r"a\.glb"):
        read_gaussians(tmp_path / "a.glb")


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "content",
    [
        Call(bytes, 2 * 10**9),
        Call(bytearray, 2 * 10**9),
        Call(list, range(10**8)),
        Call(set, Call(range, 10**8)),
        Call(np.ndarray, (250_000_000,), np.dtype("O")),
        Call(np.float64(3).__reduce__()[0], np.dtype("V2000000000")),
    ],
    ids=["bytes", "bytearray", "list", "set", "array", "scalar"],
)
def test_a_few_bytes_that_make_billions(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with little_memory(), pytest.raises(InfoFileError, match=r"a\.pkl: expected"):
        load_plain_pickle(tmp_path / "a.pkl")


def test_plain_data_still_reads(tmp_path):
    data = {
        "bytes": b"ab", "array": np.arange(6.0).reshape(2, 3), "scalar": np.float32(2.5),
        "text": np.str_("x"), "objects": np.array([1, "a"], dtype=object), "range": range(3),
        "bytearray": bytearray(b"xy"), "set": {1, 2}, "time": np.datetime64("2026-11-30"),
        "fortran": np.asfortranarray(np.eye(3)), "flags": np.array([True, False]),
    }  # fmt: skip
    for protocol in (4, 5):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(data, protocol))
        found = load_plain_pickle(tmp_path / "a.pkl")
        for name, value in data.items():
            assert type(found[name]) is type(value), name
            np.testing.assert_array_equal(found[name], value)


def test_one_byte_of_a_checkpoint_that_stands_for_many():
    data = torch.zeros(1, dtype=torch.uint8).expand(10**9)
    with (
        little_memory(),
        pytest.raises(CheckpointContentError, match="expected bytes that"),
    ):
        decode_checkpoint({TAG: "bytes", "data": data})
