"""Published weights by name: the index, and downloads from a local server."""

import hashlib

import pytest

from mmcity.utils.cli import UserError
from mmcity.utils.published_weights import (
    DownloadError,
    PublishedWeights,
    download,
    find_weights,
    published_for,
    read_weights_index,
)
from tests.weights_server import CONTENT, weights_of


def fetch(weights, path):
    return list(download(weights, path))


def test_download_is_checked_and_tells_its_progress(weights_server, tmp_path):
    path = tmp_path / "deep" / "town.pth"
    digest = hashlib.sha256(CONTENT).hexdigest()
    steps = fetch(weights_of(weights_server, size=len(CONTENT), sha256=digest), path)
    assert path.read_bytes() == CONTENT
    assert steps[0] == (0, len(CONTENT)) and steps[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in path.parent.iterdir()] == ["town.pth"]


def test_cut_off_download_goes_on_where_it_ended(weights_server, tmp_path):
    path, cut = tmp_path / "town.pth", 3_000_000
    weights_server.cuts = [cut]
    with pytest.raises(DownloadError, match="run the same command again"):
        fetch(weights_of(weights_server), path)
    assert not path.exists()
    steps = fetch(weights_of(weights_server), path)
    assert path.read_bytes() == CONTENT
    assert steps[0] == (cut, len(CONTENT))
    assert weights_server.requests == [None, f"bytes={cut}-"]


@pytest.mark.parametrize("change", ["content", "ranges"])
def test_download_begins_anew_where_it_cannot_go_on(weights_server, tmp_path, change):
    path = tmp_path / "town.pth"
    weights_server.cuts = [3_000_000]
    with pytest.raises(DownloadError):
        fetch(weights_of(weights_server), path)
    if change == "content":
        weights_server.content, weights_server.tag = CONTENT[::-1], '"b"'
    else:
        weights_server.knows_ranges = False
    fetch(weights_of(weights_server), path)
    assert path.read_bytes() == weights_server.content


def test_kill_after_the_last_byte_needs_no_second_download(weights_server, tmp_path):
    path = tmp_path / "town.pth"
    (tmp_path / ".town.pth.part").write_bytes(CONTENT)
    fetch(weights_of(weights_server, size=len(CONTENT)), path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("stated", "message"),
    [({"size": 7}, "expected 7 bytes, got 5,120,000"), ({"sha256": "00"}, "checksum 00, got")],
)
def test_other_file_than_published_is_refused_and_removed(
    weights_server, tmp_path, stated, message
):
    with pytest.raises(DownloadError, match=message):
        fetch(weights_of(weights_server, **stated), tmp_path / "town.pth")
    assert list(tmp_path.iterdir()) == []


def test_missing_file_and_server_are_named(weights_server, tmp_path):
    weights = weights_of(weights_server)
    missing = PublishedWeights("town", "http://page", weights.url + ".old")
    with pytest.raises(DownloadError, match=r"weights.pth.old: .* 404 .* look at http://page"):
        fetch(missing, tmp_path / "town.pth")
    nobody = PublishedWeights("town", "http://page", "http://127.0.0.1:9/weights.pth")
    with pytest.raises(DownloadError, match="no connection .*by other means from http://page"):
        fetch(nobody, tmp_path / "town.pth")
    with pytest.raises(DownloadError, match="take the file from http://page"):
        fetch(PublishedWeights("town", "http://page"), tmp_path / "town.pth")


def test_index_fits_the_configs_and_names_them(tmp_path, monkeypatch):
    monkeypatch.setenv("MMCITY_CACHE", str(tmp_path))
    index = read_weights_index()
    assert index["vggt_1b"].path == tmp_path / "weights" / "vggt_1b.pth"
    assert [w.name for w in published_for("configs/streamvggt/eval_pose_co3d.py")] == [
        "streamvggt_1b"
    ]
    assert published_for("citygsx_rubble") == []


def test_name_stands_for_the_downloaded_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MMCITY_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert find_weights("nothing") is None
    with pytest.raises(UserError, match="`mmcity weights get vggt_1b` downloads it"):
        find_weights("vggt_1b")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vggt_1b.pth").touch()
    assert find_weights("vggt_1b") == tmp_path / "weights" / "vggt_1b.pth"
    (tmp_path / "vggt_1b").touch()
    assert str(find_weights("vggt_1b")) == "vggt_1b", "a file of the user comes first"
