"""Names of pictures: a picture is known by its relative name, whoever reads or writes it."""

import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from .fileio import path_below, read_rows, visible
from .images import IMAGE_SUFFIXES


def picture_name(name: str | os.PathLike) -> str:
    """The identity of a picture: its relative name with forward slashes, in Unicode's form NFC.

    Names from Windows (``cam0\\0001.png``) and from macOS, which writes letters and accents one
    by one, become those of the same picture elsewhere.
    """
    text = unicodedata.normalize("NFC", os.fspath(name).replace("\\", "/"))
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return ("/" if text.startswith("/") else "") + "/".join(parts)


def without_suffix(name: str) -> str:
    """A picture's name up to its last dot: ``cam0/0001.jpg`` gives ``cam0/0001``."""
    return str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix else name


def natural_key(name: str | os.PathLike) -> list[tuple[int, int | str]]:
    """Key that sorts numbers within names by their value: ``frame_2`` before ``frame_10``."""
    parts = re.split(r"(\d+)", picture_name(name))
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def natural_order(files: Iterable[Path]) -> list[Path]:
    """Files of frames in the order of the numbers in their names, without hidden ones.

    Warns:
        UserWarning: If the plain order of the names is another one.
    """
    plain = sorted(visible(files))
    ordered = sorted(plain, key=natural_key)
    if ordered != plain:
        row = next(row for row, (a, b) in enumerate(zip(ordered, plain)) if a != b)
        warnings.warn(
            f"{ordered[0].parent}: frames are taken in the order of their numbers, "
            f"{ordered[row].name} before {plain[row].name}, not in that of their letters",
            stacklevel=2,
        )
    return ordered


def _tails(name: str) -> list[str]:
    """The name, then without its first folder, and so on to its last part."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _spellings(path: Path) -> list[Path]:
    """The path in the forms in which file systems keep letters with accents."""
    forms = [str(path), *(unicodedata.normalize(form, str(path)) for form in ("NFC", "NFD"))]
    return [Path(form) for form in dict.fromkeys(forms)]


def find_picture(folder: Path, name: str) -> Path:
    """File of a picture: below its whole name, else below the end of it.

    Args:
        folder: Folder of the pictures.
        name: Relative name in a model or list.

    Returns:
        The file, or where it was expected first if there is none.
    """
    choices = [*_spellings(folder / name), *_spellings(folder / picture_name(name))]
    choices += [p for tail in _tails(picture_name(name))[1:] for p in _spellings(folder / tail)]
    return next((path for path in choices if path.is_file()), choices[0])


def find_companion(
    folder: Path, name: str, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> Path | None:
    """File of another kind that belongs to a picture, such as its mask or depth map.

    Tried are, below the picture's whole name and then below the end of it: the name with a
    further suffix (``0001.jpg.png``), with another (``0001.png``), and without the ``.color``
    of RGB-D captures.

    Args:
        folder: Folder of the companions.
        name: Relative name of the picture.
        suffixes: Of the companions, the first that is there. Defaults to those of pictures.
    """
    for tail in _tails(picture_name(name)):
        stem = without_suffix(tail)
        for plain in dict.fromkeys((tail, stem, stem.removesuffix(".color"))):
            for suffix in suffixes:
                for path in _spellings(folder / f"{plain}{suffix}"):
                    if path.is_file():
                        return path
    return None


def read_names(path: str | os.PathLike) -> list[str]:
    """Names in a list, one a line, as they stand there but without quotes.

    Raises:
        OSError, ValueError: As :func:`~mmcity.utils.fileio.read_text`.
    """
    return [line.strip('"') for _, line in read_rows(path)]


def names_below(names: Sequence[str], root: str | os.PathLike) -> list[str]:
    """Names of pictures below one folder, where some lead out of the folder of their scene.

    Files name pictures of other folders by absolute names or with ``..``. They are then known by
    their names below the folder that holds all of them, so that outputs mirror its sub-folders.

    Args:
        names: Identities of all pictures of a scene.
        root: Folder that relative names start from.

    Returns:
        The same names if none leads out of the folder.
    """
    leads_out = re.compile(r"/|[^/]*:|(.*/)?\.\./")
    if not any(map(leads_out.match, names)):
        return list(names)
    paths = [os.path.normpath(os.path.join(os.path.abspath(root), name)) for name in names]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, folder) for path in paths]


def check_once(names: Iterable[str], where: str | os.PathLike) -> None:
    """Refuse a list or table that has two entries of one picture.

    Args:
        names: As they stand there.
        where: The file, for the message.

    Raises:
        ValueError: If two names are one.
    """
    counts = Counter(map(picture_name, names))
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(
            f"{where}: expected one line for each picture, got several for "
            f"{', '.join(map(repr, twice[:3]))} ({len(twice)} in all): take the others out"
        )


def check_unique(files: Mapping[str, Path | str | None], what: str) -> None:
    """Refuse two pictures that would share one file.

    Args:
        files: File by name of the picture; None for none.
        what: The files, for the message.

    Raises:
        ValueError: If two names have one file.
    """
    owners: dict[str, str] = {}
    for name, file in files.items():
        if file is not None and owners.setdefault(str(file), name) != name:
            raise ValueError(
                f"{file}: expected {what} of one picture, got those of {owners[str(file)]!r} and "
                f"{name!r}: give each its own, in sub-folders like the pictures"
            )


def match_names(wanted: Iterable[str], names: Iterable[str], what: str) -> dict[str, str]:
    """Pictures that the names in a list or table mean.

    A name means the picture that is called so; else the one that is called so without suffix;
    else the only one whose name ends so, or whose name it ends with.

    Args:
        wanted: Names as they stand in the list, with or without suffix and folders.
        names: Identities of the pictures.
        what: The list, for messages.

    Returns:
        Picture by name as it stands in the list; names that mean none are left out.

    Raises:
        ValueError: If a name means several pictures.
    """
    names = list(names)
    whole: dict[str, list[str]] = {}
    ends: dict[str, list[str]] = {}
    for name in names:
        for key in dict.fromkeys((name, without_suffix(name))):
            whole.setdefault(key, []).append(name)
            for tail in _tails(key)[1:]:
                ends.setdefault(tail, []).append(name)
    known = set(names)
    out = {}
    for entry in wanted:
        key = picture_name(entry)
        found = [key] if key in known else whole.get(key) or whole.get(without_suffix(key))
        found = found or ends.get(key) or ends.get(without_suffix(key))
        for tail in _tails(key)[1:] if not found else ():
            found = [tail] if tail in known else whole.get(tail) or whole.get(without_suffix(tail))
            if found:
                break
        if found and len(found) > 1:
            raise ValueError(
                f"{what}: expected names of one picture each, got {entry!r}, which may mean "
                f"{' or '.join(map(repr, found[:3]))}: write its whole relative name"
            )
        if found:
            out[entry] = found[0]
    return out


def output_names(names: Iterable[str], suffix: str) -> dict[str, str]:
    """Relative names of files to write for pictures, in sub-folders like theirs.

    Args:
        names: Identities of the pictures.
        suffix: Of the files, such as ``.png``.

    Returns:
        ``cam0/0001.png`` for ``cam0/0001.jpg``; where two pictures differ by their suffix alone,
        the files keep it (``0001.jpg.png``).

    Raises:
        ValueError: If a name leads out of the folder.
    """
    names = list(dict.fromkeys(map(picture_name, names)))
    stems: dict[str, int] = {}
    for name in names:
        path_below("the folder of the pictures", name)
        stems[without_suffix(name)] = stems.get(without_suffix(name), 0) + 1
    return {
        name: (name if stems[without_suffix(name)] > 1 else without_suffix(name)) + suffix
        for name in names
    }
