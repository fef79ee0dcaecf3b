"""Members of zip files, checked before memory is taken for them."""

import os
import zipfile

from .gaussian_format import GaussianFileError

_MOST_MEMBERS = 64
_MOST_BYTES = 4 << 30
#: Bytes that one packed byte may make, besides a first MiB.
_MOST_PACKED, _FREE_BYTES = 1000, 1 << 20


def open_archive(path: str | os.PathLike) -> zipfile.ZipFile:
    """Open a zip file of a scene.

    Raises:
        OSError: If it cannot be read.
        GaussianFileError: If it is no zip file, or has too many members, names that lead out of
            it, or members that would take far more memory than the file.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise GaussianFileError(
            f"{path}: expected a zip file, got {error}: copy it again"
        ) from error
    try:
        _check(path, archive.infolist())
    except GaussianFileError:
        archive.close()
        raise
    return archive


def _check(path: str | os.PathLike, members: list[zipfile.ZipInfo]) -> None:
    size = os.path.getsize(path)
    large = [
        m.filename
        for m in members
        if m.file_size > _MOST_PACKED * min(m.compress_size, size) + _FREE_BYTES
    ]
    outside = [
        m.filename
        for m in members
        if m.filename.startswith("/") or ".." in m.filename.replace("\\", "/").split("/")
    ]
    for got, expected in (
        (f"{len(members)} members" * (len(members) > _MOST_MEMBERS), f"at most {_MOST_MEMBERS}"),
        (", ".join(outside[:3]), "names of members below the file's root"),
        (", ".join(large[:3]), "members that are no larger than 1000 times their packed bytes"),
        (
            "more" * (sum(m.file_size for m in members) > _MOST_BYTES),
            f"at most {_MOST_BYTES >> 30} GiB unpacked",
        ),
    ):
        if got:
            raise GaussianFileError(f"{path}: expected {expected}, got {got}: export it again")
