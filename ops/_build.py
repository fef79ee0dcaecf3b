"""Builds and caches the native libraries.

Two libraries exist: ``mmcity_cpu`` (all schemas and the CPU kernels) and ``mmcity_cuda`` (only
CUDA kernels). Each is compiled once per combination of sources, flags, torch and python, into
its own folder below the extension cache, under a lock that the kernel frees when a build is
killed. A library that was packaged beside this file (``lib/``) is used without any compiler.

Environment:
    ``TORCH_EXTENSIONS_DIR``: root of the cache. Defaults to torch's own default.
    ``MMCITY_BUILD_TIMEOUT``: seconds to wait for another process that builds. Defaults to 1200.
    ``MMCITY_CXXFLAGS``, ``MMCITY_LDFLAGS``: appended to the flags (sanitizers, debugging).
    ``MAX_JOBS``: compiler processes at a time.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import torch

PACKAGE = Path(__file__).resolve().parent
CSRC = PACKAGE / "csrc"
PREBUILT = PACKAGE / "lib"
CXX_FLAGS = ("-O3", "-fopenmp", "-g0", "-fno-math-errno", "-fno-trapping-math", "-Wall")
LINK_FLAGS = ("-fopenmp",)
POLL_SECONDS = 0.2
RANK0_HEAD_START = 3.0  # seconds that the other local ranks give rank 0 to take the lock
ERROR_LINES = 12


class BuildError(RuntimeError):
    """A native library could not be compiled, linked or loaded."""


class CompilerMissingError(BuildError):
    """No usable C++ compiler or ninja on this machine."""


def cpu_sources() -> list[Path]:
    """The C++ files of the CPU library that hold kernels."""
    return sorted((CSRC / "cpu").glob("*.cpp"))


def schema_sources() -> list[Path]:
    """The C++ files that declare operators; compiled as one unit."""
    return [CSRC / "register.cpp", *sorted((CSRC / "schemas").glob("*.cpp"))]


def torch_tag() -> str:
    """Tag of torch and python: a library built for one tag is never loaded by another."""
    torch_version = re.sub(r"[^0-9A-Za-z]", "_", torch.__version__)
    return f"{sys.implementation.cache_tag}_torch{torch_version}"


def digest_of(files: list[Path], flags: tuple[str, ...]) -> str:
    """Short hash of file names, contents and flags."""
    digest = hashlib.sha256("\0".join(flags).encode())
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def extra_flags(variable: str) -> tuple[str, ...]:
    return tuple(os.environ.get(variable, "").split())


def cpu_library_name() -> str:
    """Name that changes with every source, header, flag, torch and python version."""
    files = [*schema_sources(), *cpu_sources(), *sorted(CSRC.glob("math/**/*.h"))]
    files += sorted((CSRC / "cpu").glob("**/*.h"))
    flags = (*CXX_FLAGS, *LINK_FLAGS, *extra_flags("MMCITY_CXXFLAGS"))
    return f"mmcity_cpu_{torch_tag()}_{digest_of(files, flags + extra_flags('MMCITY_LDFLAGS'))}"


def cache_root() -> Path:
    """Folder below which every library has its own folder."""
    root = os.environ.get("TORCH_EXTENSIONS_DIR")
    if root:
        return Path(root).expanduser()
    from torch.utils.cpp_extension import get_default_build_root

    return Path(get_default_build_root())


def say(text: str) -> None:
    """One progress line on stderr, so that piped output stays clean."""
    print(f"mmcity_ops: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def build_lock(folder: Path, timeout: float | None = None) -> Iterator[None]:
    """Hold the exclusive right to build in ``folder``.

    The lock belongs to the process, not to a file's existence: a build that is killed frees it.
    The ``lock`` file that torch's own loader may have left behind is removed once we hold ours.

    Raises:
        BuildError: If another process holds the lock for longer than ``timeout`` seconds.
    """
    timeout = timeout or float(os.environ.get("MMCITY_BUILD_TIMEOUT", 1200))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(folder / ".build_lock", "a+")
    except OSError as error:
        raise BuildError(
            f"{folder}: expected a build folder to write to, got '{error}': set "
            "TORCH_EXTENSIONS_DIR to a folder you may write to"
        ) from error
    start, told = time.monotonic(), False
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        _wait_for_rank0(folder)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() - start > timeout:
                    raise BuildError(
                        f"{folder}: expected another process to have built within {timeout:.0f} "
                        "s, got none: wait for it, end it, or raise MMCITY_BUILD_TIMEOUT"
                    ) from error
                if not told:
                    say(f"waiting for another process that builds {folder.name}")
                    told = True
                time.sleep(POLL_SECONDS)
        (folder / "lock").unlink(missing_ok=True)
        yield
    finally:
        handle.close()  # frees the lock


def _wait_for_rank0(folder: Path) -> None:
    """Let local rank 0 take the lock first; go on at once when it is done."""
    end = time.monotonic() + RANK0_HEAD_START
    while time.monotonic() < end and not (folder / "complete").exists():
        time.sleep(POLL_SECONDS)


def check_toolchain() -> None:
    """Raises: CompilerMissingError, with what to install."""
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler.split()[0]) is None:
        raise CompilerMissingError(
            f"{compiler}: expected a C++ compiler on PATH, found none: install g++ or set CXX"
        )
    if shutil.which("ninja") is None:
        raise CompilerMissingError("ninja: expected on PATH, found none: pip install ninja")
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        raise CompilerMissingError(
            f"Python.h: expected in {include}, got none: install python3-dev"
        )


def first_errors(output: str) -> str:
    """The lines of a compiler log that say what is wrong."""
    lines = output.splitlines()
    pattern = re.compile(r"(fatal )?error[: ]|undefined reference|No space left|Killed|cannot find")
    hits = [
        i for i, line in enumerate(lines) if pattern.search(line) and "RuntimeError" not in line
    ]
    if not hits:
        return "\n".join(lines[-ERROR_LINES:])
    shown: list[str] = []
    for i in hits:
        shown += [line for line in lines[i : i + 3] if line not in shown]
        if len(shown) >= ERROR_LINES:
            break
    return "\n".join(shown[:ERROR_LINES])


def compile_library(
    name: str,
    sources: list[Path],
    *,
    what: str,
    cflags: tuple[str, ...] = (),
    ldflags: tuple[str, ...] = (),
    includes: tuple[Path, ...] = (),
) -> Path:
    """Compile one library into the cache and return its path; a complete one is returned at once.

    Args:
        name: Library name, holding a hash of everything that it is made from.
        sources: C++ files.
        what: Words for the progress line.
        cflags: Further compiler flags.
        ldflags: Further linker flags, also object files.
        includes: Further include folders.

    Raises:
        CompilerMissingError: If there is nothing to compile with.
        BuildError: If compiling fails; the message shows the first compiler errors.
    """
    found = find_library(name)
    if found is not None:
        return found
    check_toolchain()
    from torch.utils import cpp_extension

    folder = cache_root() / name
    with build_lock(folder):
        found = find_library(name)
        if found is not None:
            return found
        say(f"building {what} ({len(sources)} files, once; cached in {folder}) ...")
        start = time.monotonic()
        try:
            cpp_extension.load(
                name=name,
                sources=[str(path) for path in sources],
                extra_include_paths=[str(CSRC), *map(str, includes)],
                extra_cflags=[*CXX_FLAGS, *cflags, *extra_flags("MMCITY_CXXFLAGS")],
                extra_ldflags=[*LINK_FLAGS, *ldflags, *extra_flags("MMCITY_LDFLAGS")],
                build_directory=str(folder),
                is_python_module=False,
                verbose=False,
            )
        except (RuntimeError, OSError) as error:
            raise BuildError(
                f"building {what} failed; first errors:\n{first_errors(str(error))}\n"
                f"Build folder: {folder}. Check the compiler (g++ 10 or later), or set "
                "MMCITY_OPS_BACKEND=reference to do without (slow)."
            ) from error
        (folder / "complete").touch()
        say(f"built {what} in {time.monotonic() - start:.0f} s")
    return folder / f"{name}.so"


def find_library(name: str) -> Path | None:
    """A library that fits exactly: packaged beside the sources, or complete in the cache."""
    folder = cache_root() / name
    library = PREBUILT / f"{name}.so"
    if not library.exists() and (folder / "complete").exists():
        library = folder / f"{name}.so"
    return library if library.exists() else None


def write_unit(unit: Path, sources: list[Path]) -> Path:
    """A C++ file that includes others, so that headers they share are parsed once."""
    unit.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f'#include "{path.relative_to(CSRC)}"\n' for path in sources)
    if not unit.exists() or unit.read_text() != text:
        temporary = unit.parent / f".{unit.stem}.{os.getpid()}"
        temporary.write_text(text)
        temporary.replace(unit)
    return unit


def unit_count(n_files: int) -> int:
    """Units of a build: one per processor that may work on it, at least two."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = os.environ.get("MAX_JOBS", "")
    return min(n_files, max(2, min(cpus or 1, int(jobs) if jobs.isdigit() else n_files)))


def write_cpu_units(folder: Path) -> list[Path]:
    """Writes the translation units of the CPU library.

    Most of the time of a small file goes into torch's headers, so files are put together, about
    equally long, into as many units as there are processors. Tile kernels stay alone: they need
    no torch header, and each is compiled for its own instruction set.
    """
    alone = [path for path in cpu_sources() if path.name.startswith("rasterize_isa_")]
    rest = [path for path in cpu_sources() if path not in alone]
    groups: list[list[Path]] = [[] for _ in range(unit_count(len(rest)))]
    lengths = [0] * len(groups)
    for path in sorted(rest, key=lambda path: (-path.stat().st_size, path.name)):
        shortest = lengths.index(min(lengths))
        groups[shortest].append(path)
        lengths[shortest] += path.stat().st_size
    groups[-1] = [*schema_sources(), *groups[-1]]
    units = [write_unit(folder / f"cpu_unit{k}.cpp", group) for k, group in enumerate(groups)]
    return [*units, *alone]


def build_cpu() -> Path:
    """Path of the CPU library, compiled when needed."""
    name = cpu_library_name()
    found = find_library(name)
    if found is not None:
        return found
    folder = cache_root() / name
    try:
        units = write_cpu_units(folder)
    except OSError as error:
        raise BuildError(
            f"{folder}: expected a build folder to write to, got '{error}': set "
            "TORCH_EXTENSIONS_DIR to a folder you may write to"
        ) from error
    return compile_library(name, units, what="the CPU operators")
