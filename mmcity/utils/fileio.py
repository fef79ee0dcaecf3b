"""Reading text of any program, and writing files so that a killed run never leaves half of one."""

import contextlib
import csv
import errno
import fcntl
import functools
import gzip
import json
import math
import os
import pickle
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@contextmanager
def atomic_path(path: str | os.PathLike, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and move it into place on success.

    What killed runs have left of such files in the folder is removed first.

    Args:
        path: Where the finished file shall lie. Its folder is created. The temporary
            name keeps the suffix, since many writers choose the format by it, and begins with
            a dot: readers leave such files out.
        durable: Wait until the disk has the file, so that older ones may go. Defaults to False.

    Raises:
        OSError: If the folder cannot be written (disk full, no permission); it names ``path``.
            Whatever lay there before is left as it was.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent.resolve())
        handle, temporary = _claimed(
            lambda: tempfile.mkstemp(
                dir=target.parent, prefix=f".{target.stem}.", suffix=f".tmp{target.suffix}"
            )
        )
        try:
            yield temporary
            if durable:
                _flush(temporary)
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            os.replace(temporary, target)
            if durable:
                _flush(target.parent)
        finally:
            os.close(handle)
            temporary.unlink(missing_ok=True)
    except OSError as error:
        named = error.filename
        if isinstance(named, str | bytes) and not is_temporary(
            os.path.basename(os.fsdecode(named))
        ):
            raise
        reason = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, reason, str(target)) from error


def _claimed(make: Callable[[], tuple[int, str]]) -> tuple[int, Path]:
    """A new temporary file or folder, locked: that tells other processes that its writer lives.

    Args:
        make: Gives the open handle of a new one, and its name.
    """
    while True:
        handle, name = make()
        with contextlib.suppress(OSError):  # a file system without locks keeps leftovers
            fcntl.flock(handle, fcntl.LOCK_SH)
        if os.path.exists(name):
            return handle, Path(name)
        os.close(handle)  # another process took it for a leftover


@contextmanager
def alone_in(folder: str | os.PathLike) -> Iterator[None]:
    """Make a folder and wait until no other process is in such a block about it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if is_temporary(folder.name):  # of this process, which has locked it as its own
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def atomic_paths(paths: Iterable[str | os.PathLike]) -> Iterator[list[Path]]:
    """:func:`atomic_path` for files that belong together.

    None is moved before all are written, and all go back if one cannot be moved. Processes that
    write the same files move theirs one after the other.
    """
    targets = [Path(path) for path in paths]
    with contextlib.ExitStack() as kept, contextlib.ExitStack() as moved:
        yield [moved.enter_context(atomic_path(target)) for target in targets]
        if targets:
            kept.enter_context(alone_in(targets[0].parent))
        for target in targets:
            kept.enter_context(_kept(target))


@contextmanager
def _kept(target: Path) -> Iterator[None]:
    """Put back what lay at a path if the block fails."""
    earlier = None
    if target.exists():
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=".tmp")
        os.close(handle)
        earlier = Path(name)
        earlier.unlink()
        os.link(target, earlier)
    try:
        yield
    except BaseException:
        if earlier is None:
            target.unlink(missing_ok=True)
        else:
            os.replace(earlier, target)
        raise
    finally:
        if earlier is not None:
            earlier.unlink(missing_ok=True)


@contextmanager
def scratch_folder(target: str | os.PathLike) -> Iterator[Path]:
    """Yield a new folder beside a target, from which what is whole can be moved into place.

    It goes at the end; that of a killed run goes when the next one writes there.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent.resolve())

    def make() -> tuple[int, str]:
        while True:
            name = tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
            with contextlib.suppress(FileNotFoundError):  # taken for a leftover at once
                return os.open(name, os.O_RDONLY), name

    handle, folder = _claimed(make)
    try:
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until the disk has a file or the entries of a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_temporary(name: str) -> bool:
    """Whether a name is one of those that :func:`atomic_path` and its like give out."""
    return re.fullmatch(r"\..*\.[a-z0-9_]{8}\.tmp(\..*)?", name, re.DOTALL) is not None


@functools.lru_cache(maxsize=256)
def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers have left in a folder; looks once in a process."""
    for name in filter(is_temporary, os.listdir(folder)):
        path = folder / name
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # moved into place or removed by its writer, or another user's
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError:  # its writer lives
            continue
        finally:
            os.close(handle)


def visible(paths: Iterable[Path]) -> list[Path]:
    """Paths in their order, without hidden files, such as killed writers leave."""
    return [path for path in paths if not path.name.startswith(".")]


def path_below(folder: str | os.PathLike, name: str) -> Path:
    """Path of a file that another file names relative to a folder.

    Args:
        folder: Root of what the other file may name.
        name: With forward slashes or those of Windows.

    Raises:
        ValueError: If the name leads out of the folder, or to what is no regular file, such as a
            pipe, which would be waited for.
    """
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts or ":" in parts[0]:
        raise ValueError(
            f"{name}: expected a relative name below {folder}, got one that leads out of it: "
            "rename the file"
        )
    path = Path(folder).joinpath(*parts)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: expected a regular file, got another kind: take it out")
    return path


def read_text(path: str | os.PathLike) -> str:
    """Text of a file: UTF-8 with or without a byte-order mark, any line ends.

    UTF-16 with its mark, which Windows' PowerShell writes, is read as well, and text that gzip
    has packed (``.gz``, ``.jgz``).

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no such text.
    """
    content = Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: expected whole gzip, got {error}: copy it again") from error
    encoding = "utf-16" if content[:2] in _UTF16 else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected UTF-8 text, got {error}: save the file as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: str | os.PathLike) -> Iterator[str]:
    """Lines of a text file without their ends, one at a time: for files of any size.

    Raises:
        OSError, ValueError: As :func:`read_text`, the latter at the line that is no text.
    """
    with open(path, "rb") as file:
        head = file.read(2)
    encoding = "utf-16" if head in _UTF16 else "utf-8-sig"
    with open(path, encoding=encoding) as file:
        try:
            for line in file:
                yield line.rstrip("\n")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}: expected UTF-8 text, got {error}: save the file as UTF-8"
            ) from error


def read_rows(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file, without comments (``#``) and empty lines.

    Yields:
        Number of the line, counted from 1, and its text without blanks at either end.

    Raises:
        OSError, ValueError: As :func:`read_text`.
    """
    for number, line in enumerate(read_lines(path), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield number, line


def read_numbers(
    path: str | os.PathLike, columns: int | None = None, finite: bool = False
) -> np.ndarray:
    """Table of numbers in a text file; blanks or commas part them, ``#`` begins a comment.

    Args:
        path: The file.
        columns: Numbers in every line. Defaults to None: as in the first line.
        finite: Refuse NaN and infinities. Defaults to False.

    Returns:
        float64 ``(rows, columns)``; no rows where the file has no numbers.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line holds something else; the message names file and line.
    """
    rows: list[list[float]] = []
    for number, line in read_rows(path):
        words = line.split("#")[0].replace(",", " ").split()
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        columns = len(row) if columns is None else columns
        if not row or len(row) != columns or (finite and not all(map(math.isfinite, row))):
            what = f"{columns or 'some'}{' finite' * finite} numbers in line {number}"
            raise ValueError(
                f"{path}: expected {what}, got {line[:120]!r}: mend the line, or take it out"
            )
        rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(len(rows), columns or 0)


def read_table(
    path: str | os.PathLike, *layouts: Sequence[str], delimiters: str = ",;\t"
) -> list[tuple[int, dict[str, str]]]:
    """Rows of a table of which the first line names the columns.

    Cells stand between delimiters and may be quoted, blanks around them do not count, nor do
    capitals in the names of columns and lines of empty cells. ``#`` begins a comment, but may
    stand before the names.

    Args:
        path: The file.
        *layouts: Columns that are needed, one or several choices.
        delimiters: That which the first line holds most often parts its cells.

    Returns:
        Number of the line and its cells by column in lower case; what a short line lacks is
        empty.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If columns of every layout are missing, or a line has more cells than there
            are columns.
    """
    columns: list[str] = []
    rows = []
    first = ""
    for number, line in enumerate(read_lines(path), 1):
        text = line.strip(" \r")
        if not text.strip() or (columns and text.startswith("#")):
            continue
        first = first or text
        if not columns:
            parting = max(delimiters, key=text.count)
            names = [cell.lower() for cell in _cells(text.lstrip("#"), parting, path, number)]
            if any(set(layout) <= set(names) for layout in layouts):
                columns = names
            elif not text.startswith("#"):
                break
            continue
        cells = _cells(text, parting, path, number)
        if any(cells[len(columns) :]):
            raise ValueError(
                f"{path}, line {number}: expected {len(columns)} cells ({', '.join(columns)}), got "
                f"{len(cells)}: put names that hold {parting!r} in quotes, write decimals with dots"
            )
        if any(cells):
            rows.append((number, dict.fromkeys(columns, "") | dict(zip(columns, cells))))
    if not columns:
        wanted = " or ".join(",".join(layout) for layout in layouts)
        raise ValueError(
            f"{path}: expected columns {wanted}, got {text[:120]!r}: name them in the first line"
            if first
            else f"{path}: expected columns {wanted}, got an empty file"
        )
    return rows


def _cells(line: str, parting: str, path: str | os.PathLike, number: int) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=parting, skipinitialspace=parting != "\t"))
    except csv.Error as error:
        raise ValueError(f"{path}, line {number}: expected cells, got {error}") from error
    return [cell.strip() for cell in cells]


def split_name(line: str, columns: int) -> tuple[str, list[str]]:
    """The name at the head of a line, and the words behind it.

    Names of pictures may hold blanks: either their number of columns tells where the name
    ends, or it stands in double quotes.

    Args:
        line: Text of the line.
        columns: Words behind the name.

    Returns:
        The name, and the words; fewer than ``columns`` where the line is too short.
    """
    if line.startswith('"') and '"' in line[1:]:
        name, _, rest = line[1:].partition('"')
        return name, rest.split()
    words = line.rsplit(maxsplit=columns)
    return (words[0], words[1:]) if words else ("", [])


def read_json(path: str | os.PathLike) -> Any:
    """Content of a JSON file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no JSON; the message names the file.
    """
    return from_json(read_text(path), path)


def from_json(text: str, where: str | os.PathLike) -> Any:
    """Content of JSON text.

    Raises:
        ValueError: If it is no JSON; the message names ``where`` it stands.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: expected JSON, got {error}: write the file again") from error


#: What libraries raise for damaged files.
_DAMAGE = (
    *(ValueError, TypeError, EOFError, LookupError, ArithmeticError, AttributeError),
    *(AssertionError, RuntimeError, MemoryError, ImportError),
    *(struct.error, zlib.error, zipfile.BadZipFile, pickle.UnpicklingError),
)


@contextmanager
def damage_told(
    path: str | os.PathLike, what: str, kind: type[Exception] = ValueError
) -> Iterator[None]:
    """Make one error that names the file of all that libraries raise for damaged ones.

    Args:
        path: The file.
        what: What it should be.
        kind: Of the error. Defaults to ValueError.

    Raises:
        OSError: If the file cannot be opened.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise kind(f"{path}: expected {what}, got {error}: copy or write it again") from error
    except _DAMAGE as error:
        if type(error).__module__.partition(".")[0] == __name__.partition(".")[0]:
            raise  # names the file already
        try:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
        except UnicodeDecodeError:  # USD quotes bytes of the file, which may be no text
            reason = type(error).__name__
        got = "pickled objects or another file" if "pickle" in reason else reason
        raise kind(f"{path}: expected {what}, got {got}: copy or write it again") from error


def read_arrays(
    path: str | os.PathLike, names: Container[str] | None = None
) -> dict[str, np.ndarray]:
    """Arrays of a numpy file by name; that of an ``.npy`` file is called ``data``.

    Args:
        path: ``.npz`` or ``.npy``.
        names: Those to read. Defaults to None: all.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no such file, or damaged; the message names it.
    """
    with damage_told(path, "a readable npz or npy file"):
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"data": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files if names is None or key in names}


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text with line feeds, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode())


def write_npy(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write a ``.npy`` file, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array)


def write_npz(path: str | os.PathLike, compressed: bool = False, **arrays: Any) -> None:
    """Write a ``.npz`` file of named arrays, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)


def to_json(content: Any, **style: Any) -> str:
    """JSON text of plain values; NaN and infinities, which JSON has not, become null.

    Numbers and arrays of numpy or torch become numbers and lists, paths become text.

    Args:
        content: Dictionaries, lists, numbers, text.
        **style: ``indent``, ``sort_keys``, ``separators`` and such of :func:`json.dumps`.
    """
    return json.dumps(_plain(content), allow_nan=False, **style)


def write_json(path: str | os.PathLike, content: Any, **style: Any) -> None:
    """Write a JSON file, whole or not at all (see :func:`to_json`; ``indent`` defaults to 1)."""
    write_text(path, to_json(content, **{"indent": 1, **style}) + "\n")


def _plain_key(key: Any) -> Any:
    """A key as JSON has it; of a number that is not finite, its text."""
    key = key.item() if hasattr(key, "item") else key
    return str(key) if isinstance(key, float) and not math.isfinite(key) else key


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
