import errno
import gzip
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from mmcity.utils.fileio import (
    atomic_path,
    atomic_paths,
    path_below,
    read_json,
    read_numbers,
    read_rows,
    read_text,
    remove_leftovers,
    split_name,
    to_json,
    visible,
    write_json,
)
from mmcity.utils.picture_names import natural_order

TEXT = "# names\n\nstraße 1.png\r\nb.png\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.replace("\n", "\r\n").encode(),
        gzip.compress(TEXT.encode()),
    ],
    ids=["utf-8", "mark", "utf-16", "crlf", "gzip"],
)
def test_text_of_other_systems_reads_alike(tmp_path, content):
    path = tmp_path / "names.txt"
    path.write_bytes(content)

    assert [line for line in read_text(path).splitlines() if line] == [
        "# names",
        "straße 1.png",
        "b.png",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_rows_leave_comments_out_and_keep_line_numbers(tmp_path, encoding):
    path = tmp_path / "names.txt"
    path.write_bytes("# head\r\n\r\n a b.png \r\nc.png".encode(encoding))

    assert list(read_rows(path)) == [(3, "a b.png"), (4, "c.png")]


def test_text_of_another_encoding_is_refused_by_name(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("straße".encode("latin-1"))

    with pytest.raises(ValueError, match=r"latin\.txt: expected UTF-8 text"):
        read_text(path)
    with pytest.raises(ValueError, match=r"latin\.txt: expected UTF-8 text"):
        list(read_rows(path))


def test_numbers_may_be_parted_by_blanks_tabs_or_commas(tmp_path):
    path = tmp_path / "poses.txt"
    path.write_bytes(b"\xef\xbb\xbf1 2,3\r\n# comment\r\n4\t5 6 # more\r\n")

    assert read_numbers(path, 3).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("line", ["1 2", "1 2 x", "1 2 3 4"])
def test_lines_without_the_numbers_are_named(tmp_path, line):
    path = tmp_path / "poses.txt"
    path.write_text(f"1 2 3\n{line}\n")

    with pytest.raises(ValueError, match=r"poses\.txt: expected 3 numbers in line 2"):
        read_numbers(path)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("a.png 1 2", "a.png"),
        ("IMG 5 (2).png 1 2", "IMG 5 (2).png"),
        ('"1 2.png" 1 2', "1 2.png"),
        ("left/1.png\t1\t2", "left/1.png"),
    ],
)
def test_names_may_hold_blanks(line, name):
    assert split_name(line, 2) == (name, ["1", "2"])


def test_json_has_no_nan(tmp_path):
    path = tmp_path / "numbers.json"
    content = {"psnr": float("nan"), "rows": [np.float32(np.inf), np.arange(2)], "path": tmp_path}

    write_json(path, content)

    def refuse(word):
        raise AssertionError(word)

    found = json.loads(path.read_text(), parse_constant=refuse)
    assert found == {"psnr": None, "rows": [None, [0, 1]], "path": str(tmp_path)}
    assert to_json((1, 2.5)) == "[1, 2.5]"
    assert to_json({np.int64(3): 1, float("inf"): 2, 0.5: 3}) == '{"3": 1, "inf": 2, "0.5": 3}'


def test_damaged_json_names_its_file(tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text('{"a": ')

    with pytest.raises(ValueError, match=r"numbers\.json: expected JSON"):
        read_json(path)


KILLED = """
import os, signal
from mmcity.utils.fileio import atomic_path
with atomic_path("out/a.npz") as path:
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_rerun_removes_what_a_killed_run_left_and_readers_never_see_it(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    folder = tmp_path / "out"
    (left,) = folder.iterdir()
    assert left.suffix == ".npz" and visible(folder.glob("*.npz")) == []
    assert natural_order([left, folder / "b.npz"]) == [folder / "b.npz"]
    (folder / ".hidden.npz").touch()  # of the user

    with atomic_path(folder / "b.npz") as path:
        path.write_bytes(b"whole")

    assert sorted(os.listdir(folder)) == [".hidden.npz", "b.npz"]


def test_a_file_that_is_being_written_is_no_leftover(tmp_path):
    with atomic_path(tmp_path / "a.bin") as path:
        path.write_bytes(b"first half")
        remove_leftovers.cache_clear()
        with atomic_path(tmp_path / "b.bin") as other:
            other.write_bytes(b"b")
        assert path.read_bytes() == b"first half"
    assert sorted(os.listdir(tmp_path)) == ["a.bin", "b.bin"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("4096 requested and 0 written"),  # numpy
    ],
    ids=["errno", "text"],
)
def test_an_error_of_writing_names_the_file_and_leaves_the_earlier_one(tmp_path, error):
    target = tmp_path / "a.npy"
    target.write_bytes(b"earlier")

    with pytest.raises(OSError, match=r"(No space|0 written).*a\.npy'") as caught:
        with atomic_path(target):
            raise error

    assert caught.value.filename == str(target) and caught.value.errno
    assert os.listdir(tmp_path) == ["a.npy"] and target.read_bytes() == b"earlier"


def test_an_error_about_a_temporary_name_speaks_of_the_target(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"/a\.npy'$"):
        with atomic_path(tmp_path / "a.npy") as path:
            path.unlink()


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="source.png"):
        with atomic_path(tmp_path / "a.npy"):
            open(tmp_path / "source.png", "rb")


@pytest.mark.parametrize("earlier", [True, False])
def test_files_that_belong_together_go_back_if_one_cannot_be_moved(tmp_path, monkeypatch, earlier):
    names = ["a.bin", "b.bin", "c.bin"]
    if earlier:
        for name in names:
            (tmp_path / name).write_bytes(b"earlier")
    replace, calls = os.replace, []

    def fail_once(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error", str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(OSError, match=r"Input/output error: .*/[abc]\.bin'"):
        with atomic_paths(tmp_path / name for name in names) as files:
            for file in files:
                file.write_bytes(b"new")

    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == (dict.fromkeys(names, b"earlier") if earlier else {})


@pytest.mark.parametrize(
    "name", ["../a", "/a", "a/../../b", "..\\a", "C:/a", "C:a", "https://host/a", "\\\\host\\a"]
)
def test_names_that_lead_out_of_their_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="expected a relative name below"):
        path_below(tmp_path, name)


def test_names_below_a_folder(tmp_path):
    assert path_below(tmp_path, "a..b/..c\\d.png") == tmp_path / "a..b" / "..c" / "d.png"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: expected a regular file"):
        path_below(tmp_path, "pipe")
