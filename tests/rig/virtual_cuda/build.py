"""Compiles the device and the emulated operators, each object once per content.

An object's name holds the digest of its flags, its source and every header that it includes, so
libraries of other sources (``VIRTUAL_CUDA_CSRC``) and variants share what they have in common.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from virtual_cuda import translate

SOURCE = Path(__file__).parent / "csrc"
REPO = Path(__file__).resolve().parents[3]
DEVICE, ENGINE = ("device", "operators"), ("engine", "check")
KEPT_SECONDS = 14 * 86400  # objects that nobody used for so long are deleted
COMMON_FLAGS = ("-std=c++20", "-fPIC", "-w", "-g1")


def setting(name: str, otherwise: str = "") -> str:
    """Value of ``VIRTUAL_CUDA_<name>``."""
    return os.environ.get(f"VIRTUAL_CUDA_{name}") or otherwise


def is_set(name: str) -> bool:
    return setting(name, "0") != "0"


@dataclass(frozen=True)
class Variant:
    """How the emulated kernels are compiled.

    Args:
        arch: ``__CUDA_ARCH__``, 100 times the compute capability. Defaults to 900.
        check: Whether kernels report every memory access to check.cpp. Defaults to False.
        asan: Whether they run under AddressSanitizer and UBSan. Defaults to False.
        fma: Whether a * b + c may be contracted, as nvcc does. Defaults to True.
    """

    arch: int = 900
    check: bool = False
    asan: bool = False
    fma: bool = True

    @classmethod
    def from_environment(cls) -> "Variant":
        fma = not is_set("NOFMA")
        return cls(int(setting("ARCH", "900")), is_set("CHECK"), is_set("ASAN"), fma)

    def flags(self) -> tuple[str, ...]:
        flags = ["-O2", "-mfma", f"-ffp-contract={'fast' if self.fma else 'off'}"]
        flags += ["-fno-math-errno", "-D__CUDACC__", f"-D__CUDA_ARCH__={self.arch}"]
        flags += ["-include", "cuda_runtime.h"]
        flags += ["-fsanitize=thread"] if self.check else []
        return (*flags, *self.sanitizers())

    def sanitizers(self) -> tuple[str, ...]:
        return ("-fsanitize=address,undefined", "-fno-omit-frame-pointer") if self.asan else ()


def torch_folder() -> Path:
    """Folder of torch, found without importing it."""
    return Path(next(iter(importlib.util.find_spec("torch").submodule_search_locations)))


def folder() -> Path:
    """Cache of all builds: ``VIRTUAL_CUDA_BUILD``, else below torch's cache of extensions."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch_extensions"
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or cache
    return Path(setting("BUILD", f"{root}/mmcity_virtual_cuda")).expanduser().resolve()


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """One process builds at a time; the lock ends with its process."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def closure(source: Path, roots: tuple[Path, ...]) -> list[Path]:
    """A source and all files of ``roots`` that it includes, directly or not."""
    found, left = [], [source]
    while left:
        path = left.pop()
        found.append(path)
        for name in re.findall(
            r'^\s*#\s*include\s+["<]([^">]+)[">]', path.read_text(), re.MULTILINE
        ):
            places = (root / name for root in (path.parent, *roots))
            inner = next((place.resolve() for place in places if place.is_file()), None)
            if inner is not None and inner not in found and inner not in left:
                left.append(inner)
    return found


@dataclass
class Unit:
    """One C++ file to compile: its flags and the folders of its own headers."""

    source: Path
    flags: tuple[str, ...]
    roots: tuple[Path, ...]

    def object_in(self, out: Path) -> Path:
        digest = hashlib.sha256("\0".join(self.flags).encode() + str(torch_folder()).encode())
        implied = [root / "cuda_runtime.h" for root in self.roots if "-include" in self.flags]
        for start in (self.source, *(path for path in implied if path.is_file())):
            for path in sorted(closure(start, self.roots), key=lambda p: (p.name, str(p))):
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return out / f"{self.source.stem}_{digest.hexdigest()[:16]}.o"

    def compile(self, target: Path) -> None:
        print(f"virtual_cuda: compiling {self.source.name}", file=sys.stderr, flush=True)
        includes = [flag for root in self.roots for flag in ("-I", str(root))]
        partial = target.with_suffix(".tmp.o")
        command = [os.environ.get("CXX", "g++"), *self.flags, *includes]
        subprocess.run([*command, "-c", str(self.source), "-o", str(partial)], check=True)
        partial.rename(target)


def torch_flags() -> tuple[str, ...]:
    include = torch_folder() / "include"
    paths = (include, include / "torch/csrc/api/include", sysconfig.get_path("include"))
    return tuple(flag for path in paths for flag in ("-isystem", str(path)))


def build(name: str, units: list[Unit], flags: tuple[str, ...] = ()) -> Path:
    """The library of some units, compiled where their content is new."""
    out = folder()
    with locked(out):
        objects = [unit.object_in(out) for unit in units]
        key = hashlib.sha256("\0".join([*(o.name for o in objects), *flags]).encode()).hexdigest()
        library = out / f"{name}_{key[:16]}.so"
        if library.exists():
            library.touch()
            return library
        missing = [(unit, o) for unit, o in zip(units, objects) if not o.exists()]
        jobs = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda pair: pair[0].compile(pair[1]), missing))
        root = torch_folder() / "lib"
        link = [f"-L{root}", f"-Wl,-rpath,{root}", "-ltorch_cpu", "-lc10", "-ldl", *flags]
        partial = library.with_suffix(".tmp")
        command = [os.environ.get("CXX", "g++"), "-shared", "-o", str(partial)]
        subprocess.run([*command, *map(str, objects), *link], check=True)
        partial.rename(library)
        for path in objects:
            path.touch()
        for path in (*out.glob("*.o"), *out.glob("*.so")):
            if path.stat().st_mtime < time.time() - KEPT_SECONDS:
                path.unlink()
    return library


def build_device() -> tuple[Path, Path]:
    """The library of the device and the list of operators that it asks for."""
    flags = (*COMMON_FLAGS, "-O1", *torch_flags())
    units = [Unit(SOURCE / f"{name}.cpp", flags, (SOURCE,)) for name in DEVICE]
    library = build("device", units)
    version = (torch_folder() / "version.py").read_bytes() + Path(__file__).read_bytes()
    listed = folder() / f"operators_{hashlib.sha256(version).hexdigest()[:16]}.txt"
    if not listed.exists():
        with locked(folder()):
            list_operators(listed)
    return library, listed


def list_operators(path: Path) -> None:
    """Write which operators have no CUDA kernel and which take CPU scalars, as torch declares."""
    import yaml

    declared = torch_folder().parent / "torchgen/packaged/ATen/native/native_functions.yaml"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    by_name = {f["func"].split("(")[0]: f for f in yaml.load(declared.read_text(), loader)}
    lines = []
    for name, f in by_name.items():
        source = by_name.get(f.get("structured_delegate", ""), f)
        kernels = " ".join(str(k) for k in source.get("dispatch", {}))
        ours = "flash_attention_for_cpu" in name  # the attention kernels of __init__.py
        if kernels and not ours and not any(k in kernels for k in ("CUDA", "Composite")):
            lines.append(f"cpu_only {name}")
        if "NoCheck" in (f.get("device_check"), source.get("device_check")):
            lines.append(f"no_check {name}")
    partial = path.with_suffix(".tmp")
    partial.write_text("\n".join(lines) + "\n")
    partial.rename(path)


def build_operators(variant: Variant | None = None, csrc: Path | None = None) -> Path:
    """The library of emulated CUDA operators.

    Args:
        variant: How to compile the kernels. Defaults to that of the environment.
        csrc: Sources of the operators. Defaults to ``VIRTUAL_CUDA_CSRC``, else ``ops/csrc``.
    """
    variant = variant or Variant.from_environment()
    csrc = (csrc or Path(setting("CSRC", str(REPO / "ops" / "csrc")))).resolve()
    include = SOURCE / "include"
    with locked(folder()):
        # A path of its own for every content: __FILE__ and debug information stay true.
        files = [Path(translate.__file__), *sorted(csrc.glob("cuda/*.cu*"))]
        text = b"".join(p.name.encode() + p.read_bytes() for p in files)
        translated = folder() / f"source_{hashlib.sha256(text).hexdigest()[:16]}"
        kernels = translate.translate_folder(csrc / "cuda", translated / "cuda")
        bindings = translated / "bindings.cpp"
        names = ["count_calls.h", *sorted(path.name for path in csrc.glob("bind_cuda*.cpp"))]
        bindings.write_text("".join(f'#include "{name}"\n' for name in names))
    roots, host = (translated, csrc, include), (*COMMON_FLAGS, "-O1", *torch_flags())
    units = [Unit(bindings, host, (csrc, include))]  # first what takes longest
    units += [Unit(path, (*COMMON_FLAGS, *variant.flags()), roots) for path in kernels]
    units.append(Unit(SOURCE / "primitives_host.cpp", (*COMMON_FLAGS, "-O1"), (csrc, include)))
    units += [Unit(SOURCE / f"{name}.cpp", (*COMMON_FLAGS, "-O2"), (include,)) for name in ENGINE]
    return build("emulated", units, variant.sanitizers())
