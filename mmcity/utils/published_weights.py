"""Published weights by the names that the metafiles give them, and their download."""

import fnmatch
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .cli import UserError, find_root
from .fileio import read_text, write_text

#: Folder of downloads, below which ``weights`` lies. Defaults to ``~/.cache/mmcity``.
CACHE_VARIABLE = "MMCITY_CACHE"
#: Set to 1 to run networks whose weights were never loaded.
RANDOM_WEIGHTS_VARIABLE = "MMCITY_RANDOM_WEIGHTS"

_BLOCK = 1 << 20
_TIMEOUT = 30.0


class DownloadError(UserError, OSError):
    """A download did not come to its end; the message says what to do."""


@dataclass(frozen=True)
class PublishedWeights:
    """An entry ``Weights`` of a metafile; what the toolbox does not know is None.

    Attributes:
        name: Stands for the file wherever a checkpoint is asked for.
        page: Where the authors publish it.
        url: The file itself.
        size: Bytes of the file.
        sha256: Its checksum, whole or its first digits.
        license: Of the weights.
        converter: System of :func:`~mmcity.apis.convert_checkpoint` that makes ours of it; None
            where the file is read as it is.
        config: Config that the weights are for, by name.
        fits: Patterns of the names of all configs that they fit.
        instead: What works without them.
    """

    name: str
    page: str
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    license: str | None = None
    converter: str | None = None
    config: str | None = None
    fits: tuple[str, ...] = ()
    instead: str | None = None

    @property
    def path(self) -> Path:
        """File of the weights once they are downloaded and converted."""
        suffix = ".pth" if self.converter else Path(self.url or "").suffix or ".pth"
        return weights_folder() / f"{self.name}{suffix}"

    def __str__(self) -> str:
        size = "size unknown" if self.size is None else f"{self.size / 1e9:.2f} GB"
        return f"{self.name} ({size}, licence: {self.license or 'see ' + self.page})"


def weights_folder() -> Path:
    """Folder of downloaded weights."""
    cache = os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "mmcity"
    return Path(cache).expanduser() / "weights"


def read_weights_index(root: Path | None = None) -> dict[str, PublishedWeights]:
    """Published weights by name, in the order of ``model-index.yml``.

    Args:
        root: Folder with ``model-index.yml``. Defaults to :func:`~mmcity.utils.cli.find_root`.
    """
    import yaml

    root = root or find_root()
    found = {}
    for file in yaml.safe_load(read_text(root / "model-index.yml"))["Import"]:
        for entry in yaml.safe_load(read_text(root / file)).get("Weights", ()):
            weights = PublishedWeights(**{key.lower(): value for key, value in entry.items()})
            found[weights.name] = weights
    return found


def find_weights(name: str | os.PathLike) -> Path | None:
    """File of weights that a user names, as a path or as a published name.

    Args:
        name: A path, which comes first, or a name that ``mmcity weights list`` prints.

    Returns:
        The file; None if there is neither such a file nor such a name.

    Raises:
        UserError: If published weights of this name are not on this machine.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    weights = read_weights_index().get(str(name))
    if weights is None:
        return None
    if not weights.path.is_file():
        raise UserError(
            f"checkpoint {weights}: expected it in {weights_folder()}, found none: "
            f"{how_to_get(weights)}"
        )
    return weights.path


def published_for(config: str) -> list[PublishedWeights]:
    """Weights that fit a config, by its path or name."""
    name = Path(config).stem
    return [
        weights
        for weights in read_weights_index().values()
        if any(fnmatch.fnmatch(name, pattern) for pattern in weights.fits)
    ]


def how_to_get(weights: PublishedWeights) -> str:
    """Command by which a user gets weights, or the page where they are."""
    if weights.url is None:
        where = f"take the file from {weights.page}"
        if weights.converter:
            where += (
                f", then `mmcity convert-checkpoint {weights.converter} FILE {weights.path}"
                f" --config {weights.config}`"
            )
        return where
    return f"`mmcity weights get {weights.name}` downloads it"


def random_weights_allowed() -> bool:
    """Whether the user set ``MMCITY_RANDOM_WEIGHTS=1`` (the tools' ``--random-weights``)."""
    return os.environ.get(RANDOM_WEIGHTS_VARIABLE, "0") not in ("", "0")


def download(weights: PublishedWeights, path: Path) -> Iterator[tuple[int, int | None]]:
    """Fetch the published file, going on where an earlier attempt ended.

    What has come lies in ``.NAME.part`` beside ``path`` until all of it is there and has the
    stated size and checksum.

    Yields:
        Bytes so far, and all of them where the server tells.

    Raises:
        DownloadError: If there is no address, no connection, or another file than was stated.
    """
    if weights.url is None:
        raise DownloadError(f"{weights.name}: expected a URL, got none: {how_to_get(weights)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        yield from _fetch(weights.url, partial)
    except urllib.error.HTTPError as error:
        raise DownloadError(
            f"{weights.url}: expected the weights {weights.name}, the server answered "
            f"{error.code} {error.reason}: look at {weights.page}"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as e:
        raise DownloadError(
            f"{weights.url}: expected the weights {weights.name}, got no connection "
            f"({getattr(e, 'reason', None) or e or type(e).__name__}): run the same command again "
            "to go on, or load the file "
            f"by other means from {weights.page}"
        ) from e
    _check_file(weights, partial)
    os.replace(partial, path)
    _tag(partial).unlink(missing_ok=True)


def _tag(partial: Path) -> Path:
    """File with the server's mark of the version of which a part has come."""
    return partial.with_name(f"{partial.name}.etag")


def _fetch(url: str, partial: Path) -> Iterator[tuple[int, int | None]]:
    start = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
        if _tag(partial).is_file():
            request.add_header("If-Range", read_text(_tag(partial)).strip())
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        if error.headers.get("Content-Range", "").endswith(f"/{start}"):
            return  # all of it had come before
        partial.unlink()
        yield from _fetch(url, partial)
        return
    with response:
        if response.status != 206:  # the file has changed, or the server cannot go on
            start = 0
        if response.headers.get("ETag"):
            write_text(_tag(partial), response.headers["ETag"])
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        done = start
        with partial.open("ab" if start else "wb") as file:
            yield done, total
            while block := response.read(_BLOCK):
                file.write(block)
                done += len(block)
                yield done, total
    if total is not None and done < total:
        raise ConnectionError(f"it ended after {done:,} of {total:,} bytes")


def _check_file(weights: PublishedWeights, partial: Path) -> None:
    size = partial.stat().st_size
    problem = None
    if weights.size is not None and size != weights.size:
        problem = f"{weights.size:,} bytes, got {size:,}"
    elif weights.sha256 is not None:
        digest = hashlib.sha256()
        with open(partial, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        if not digest.hexdigest().startswith(weights.sha256):
            problem = f"the SHA-256 checksum {weights.sha256}, got {digest.hexdigest()}"
    if problem is not None:
        _tag(partial).unlink(missing_ok=True)
        partial.unlink()
        raise DownloadError(
            f"{weights.url}: expected {problem}: the file is not the published one and was removed"
        )
