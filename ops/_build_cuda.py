"""Compiles the CUDA kernels with nvcc and links them into ``mmcity_cuda``.

The ``.cu`` files hold raw-pointer launchers and include no torch header, so nvcc needs no GPU
and no CUDA build of torch. The bindings (``csrc/bind_cuda*.cpp``) are ordinary C++.
"""

import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from mmcity_ops import _build

NVCC_FLAGS = ("-std=c++17", "-O3", "-Xcompiler", "-fPIC", "--extended-lambda")
NVCC_FLAGS += ("--expt-relaxed-constexpr", "-lineinfo")
STRICT_FLAGS = ("-Werror", "all-warnings", "--resource-usage")
DEFAULT_ARCHS = ("80", "90", "120")


@dataclass
class KernelUsage:
    """Resources of one kernel by ptxas: registers per thread, spilled and shared bytes."""

    kernel: str
    registers: int
    spill_bytes: int
    shared_bytes: int


def find_nvcc() -> Path | None:
    """nvcc by ``MMCITY_NVCC``, ``CUDA_HOME`` or PATH; None where there is none."""
    named = os.environ.get("MMCITY_NVCC")
    if named:
        if not Path(named).exists():
            raise _build.BuildError(f"MMCITY_NVCC: expected a file, got {named}")
        return Path(named)
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home and (Path(home) / "bin" / "nvcc").exists():
        return Path(home) / "bin" / "nvcc"
    found = shutil.which("nvcc")
    return Path(found).resolve() if found else None


def toolkit_of(nvcc: Path) -> Path:
    """Root of the toolkit that an nvcc belongs to, as nvcc itself says (it may be a wrapper)."""
    done = subprocess.run([str(nvcc), "--dryrun", "-c", "unit.cu"], capture_output=True, text=True)
    top = re.search(r"^#\$ TOP=(.+)$", done.stdout + done.stderr, re.MULTILINE)
    candidates = [Path(top.group(1).strip())] if top else []
    candidates += [nvcc.resolve().parent.parent, Path("/usr/local/cuda")]
    for root in candidates:
        if (root / "include" / "cuda_runtime_api.h").exists():
            return root.resolve()
    raise _build.BuildError(f"{nvcc}: expected the CUDA headers that belong to it, found none")


def kernel_sources() -> list[Path]:
    return sorted((_build.CSRC / "cuda").glob("*.cu"))


def binding_sources() -> list[Path]:
    return sorted(_build.CSRC.glob("bind_cuda*.cpp"))


def write_binding_unit(folder: Path) -> Path:
    """One C++ file that includes every binding: torch's headers are parsed once for all."""
    return _build.write_unit(folder / "bindings_unit.cpp", binding_sources())


def default_archs() -> tuple[str, ...]:
    """``MMCITY_CUDA_ARCH``, else the GPUs of this machine, else the published three."""
    named = os.environ.get("MMCITY_CUDA_ARCH")
    if named:
        return tuple(named.replace(",", ";").split(";"))
    if torch.cuda.is_available():
        devices = range(torch.cuda.device_count())
        pairs = {torch.cuda.get_device_capability(i) for i in devices}
        return tuple(f"{major}{minor}" for major, minor in sorted(pairs))
    return DEFAULT_ARCHS


def gencode(archs: tuple[str, ...]) -> list[str]:
    """Code for each architecture, and PTX of the newest for GPUs that come later."""
    flags = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    newest = max(archs, key=int)
    return [*flags, f"-gencode=arch=compute_{newest},code=compute_{newest}"]


def _run_nvcc(command: list[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    output = done.stdout + done.stderr
    if done.returncode != 0:
        raise _build.BuildError(
            f"nvcc failed on {what}; first errors:\n{_build.first_errors(output)}"
        )
    return output


def compile_object(nvcc: Path, source: Path, target: Path, archs: tuple[str, ...]) -> Path:
    """One ``.cu`` to one object; written to a temporary name and moved into place."""
    if target.exists():
        return target
    temporary = target.with_suffix(f".{os.getpid()}.tmp.o")
    command = [str(nvcc), *NVCC_FLAGS, *gencode(archs), "-I", str(_build.CSRC)]
    _run_nvcc([*command, "-c", str(source), "-o", str(temporary)], source.name)
    temporary.replace(target)
    return target


def cuda_library_name(archs: tuple[str, ...]) -> str:
    headers = [*_build.CSRC.glob("math/**/*.h"), *_build.CSRC.glob("cuda/*.h")]
    headers += [*_build.CSRC.glob("cuda/*.cuh"), *_build.CSRC.glob("*.h")]
    files = [*kernel_sources(), *binding_sources(), *sorted(headers)]
    flags = (*_build.CXX_FLAGS, *NVCC_FLAGS, *archs)
    return f"mmcity_cuda_{_build.torch_tag()}_{_build.digest_of(files, flags)}"


def link_flags(nvcc: Path) -> tuple[str, ...]:
    """The static runtime, and torch's stream library where torch has CUDA."""
    root = toolkit_of(nvcc)
    folders = [root / "lib64", root / "targets" / "x86_64-linux" / "lib"]
    flags = [f"-L{folder}" for folder in folders if folder.is_dir()]
    flags += ["-lcudart_static", "-lrt", "-ldl", "-lpthread"]
    if torch.version.cuda:
        torch_lib = Path(torch.__file__).parent / "lib"
        flags += [f"-L{torch_lib}", "-lc10_cuda"]
    return tuple(flags)


def build_cuda(archs: tuple[str, ...] | None = None) -> Path:
    """Path of the CUDA library, compiled when needed.

    Raises:
        BuildError: If there is no nvcc and no packaged library, or compiling fails.
    """
    archs = archs or default_archs()
    name = cuda_library_name(archs)
    found = _build.find_library(name)
    if found is not None:
        return found
    if not kernel_sources() or not binding_sources():
        raise _build.BuildError("mmcity_cuda: expected its kernel sources, found none")
    nvcc = find_nvcc()
    if nvcc is None:
        raise _build.BuildError(
            "mmcity_cuda: expected this CUDA library or nvcc, found neither: run 'python -m "
            "mmcity_ops.build --cuda' where a CUDA toolkit is (CUDA_HOME, MMCITY_NVCC)"
        )
    folder = _build.cache_root() / name
    objects = _compile_objects(nvcc, folder / "objects", archs)
    return _build.compile_library(
        name,
        [write_binding_unit(folder)],
        what="the CUDA operators' bindings",
        ldflags=(*map(str, objects), *link_flags(nvcc)),
        includes=(toolkit_of(nvcc) / "include",),
    )


def _compile_objects(nvcc: Path, folder: Path, archs: tuple[str, ...]) -> list[Path]:
    with _build.build_lock(folder):
        sources = kernel_sources()
        _build.say(f"compiling {len(sources)} CUDA files for sm_{', sm_'.join(archs)} ...")
        start = time.monotonic()
        jobs = int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))
        with ThreadPoolExecutor(jobs) as pool:
            objects = list(
                pool.map(
                    lambda path: compile_object(nvcc, path, folder / f"{path.stem}.cu.o", archs),
                    sources,
                )
            )
        _build.say(f"compiled the CUDA files in {time.monotonic() - start:.0f} s")
    return objects


def parse_usage(log: str) -> list[KernelUsage]:
    """Registers, spills and shared memory of each kernel in a ``--resource-usage`` log."""
    usages, name, spill = [], "", 0
    for line in log.splitlines():
        entry = re.search(r"Compiling entry function '([^']+)'", line)
        if entry:
            name, spill = entry.group(1), 0
        spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line)
        if spilled:
            spill = max(int(spilled.group(1)), int(spilled.group(2)))
        used = re.search(r"Used (\d+) registers", line)
        if used and name:
            shared = re.search(r"(\d+) bytes smem", line)
            usages.append(
                KernelUsage(name, int(used.group(1)), spill, int(shared.group(1)) if shared else 0)
            )
            name = ""
    return usages


def check_cuda(archs: tuple[str, ...] = DEFAULT_ARCHS) -> dict[str, dict[str, list[KernelUsage]]]:
    """Compile every ``.cu`` for each architecture with warnings as errors.

    Returns:
        For each file name and architecture the usage of its kernels.

    Raises:
        BuildError: If nvcc is missing, or a file does not compile without a warning.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise _build.BuildError("nvcc: expected a compiler, got none: set MMCITY_NVCC or CUDA_HOME")
    folder = _build.cache_root() / "mmcity_cuda_check"
    folder.mkdir(parents=True, exist_ok=True)
    report: dict[str, dict[str, list[KernelUsage]]] = {}
    jobs = [(source, arch) for source in kernel_sources() for arch in archs]

    def check_one(job: tuple[Path, str]) -> list[KernelUsage]:
        source, arch = job
        target = folder / f"{source.stem}.{arch}.{os.getpid()}.o"
        command = [str(nvcc), *NVCC_FLAGS, *STRICT_FLAGS]
        command += [f"-gencode=arch=compute_{arch},code=sm_{arch}", "-I", str(_build.CSRC)]
        try:
            log = _run_nvcc(
                [*command, "-c", str(source), "-o", str(target)], f"{source.name} (sm_{arch})"
            )
        finally:
            target.unlink(missing_ok=True)
        return parse_usage(log)

    workers = int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool:
        for (source, arch), usage in zip(jobs, pool.map(check_one, jobs), strict=True):
            report.setdefault(source.name, {})[arch] = usage
    return report
