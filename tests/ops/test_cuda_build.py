"""The CUDA operators compile and register on a machine without a GPU."""

import os
import subprocess
import sys

import pytest

from mmcity_ops import _build, _build_cuda

needs_nvcc = pytest.mark.skipif(
    _build_cuda.find_nvcc() is None, reason="nvcc was not found (MMCITY_NVCC, CUDA_HOME, PATH)"
)
MOST_SPILLED = 256  # bytes per thread; more means that a kernel outgrew its registers


@needs_nvcc
@pytest.mark.slow  # `make test` runs the same check as `make check-cuda`
@pytest.mark.timeout(1800)
def test_every_kernel_compiles_without_a_warning_for_each_architecture():
    report = _build_cuda.check_cuda()
    assert set(report) == {path.name for path in _build_cuda.kernel_sources()}
    for file, by_arch in report.items():
        assert set(by_arch) == set(_build_cuda.DEFAULT_ARCHS), file
        for arch, usages in by_arch.items():
            assert usages, f"{file} has no kernel for sm_{arch}"
            for usage in usages:
                assert usage.spill_bytes <= MOST_SPILLED, (file, arch, usage)


REGISTERED = """
import torch
from mmcity_ops import _backend
_backend.load_cuda_library()
names = {n for n in torch._C._dispatch_get_all_op_names() if n.startswith("mmcity::")}
names -= {"mmcity::build_info"}
assert len(names) > 20, names
has = torch._C._dispatch_has_kernel_for_dispatch_key
missing = sorted(n for n in names if not has(n, "CUDA"))
print("missing:", missing)
"""


@needs_nvcc
@pytest.mark.slow
@pytest.mark.ci_slow
@pytest.mark.timeout(1800)
def test_the_library_loads_and_every_operator_has_a_cuda_kernel():
    env = dict(os.environ, MMCITY_CUDA_ARCH=os.environ.get("MMCITY_CUDA_ARCH", "90"))
    done = subprocess.run(
        [sys.executable, "-c", REGISTERED], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr
    assert "missing: []" in done.stdout


def test_kernels_include_no_torch_header_and_bindings_no_cuda_header_of_torch():
    for path in [*(_build.CSRC / "cuda").iterdir(), *(_build.CSRC / "math").glob("*.h")]:
        if path.suffix in (".cu", ".cuh", ".h"):
            text = path.read_text()
            assert "torch/" not in text and "ATen/" not in text and "c10/" not in text, path
    for path in _build_cuda.binding_sources():
        assert "ATen/cuda" not in path.read_text() and "c10/cuda" not in path.read_text(), path
