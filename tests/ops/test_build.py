"""Building and loading the native libraries: cache, lock, compiler errors, CUDA path."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmcity_ops import _build, _build_cuda
from mmcity_ops import build as build_command

GOOD = """
#include <torch/library.h>
static int64_t answer() { return 42; }
TORCH_LIBRARY(%s, m) { m.def("answer() -> int", &answer); }
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_library_is_compiled_once_and_found_again(cache, tmp_path, capfd):
    source = tmp_path / "unit.cpp"
    source.write_text(GOOD % "mmcity_test_once")
    path = _build.compile_library("mmcity_test_once", [source], what="a test library")
    assert torch.ops.mmcity_test_once.answer() == 42
    assert "built a test library" in capfd.readouterr().err
    stamp = path.stat().st_mtime_ns
    assert _build.compile_library("mmcity_test_once", [source], what="a test library") == path
    assert path.stat().st_mtime_ns == stamp
    assert capfd.readouterr().err == ""


def test_a_compiler_error_is_shown(cache, tmp_path):
    source = tmp_path / "broken.cpp"
    source.write_text("int broken() { return undeclared_name; }\n")
    with pytest.raises(_build.BuildError) as caught:
        _build.compile_library("mmcity_test_broken", [source], what="a test library")
    message = str(caught.value)
    assert "undeclared_name" in message and "broken.cpp:1" in message
    assert "MMCITY_OPS_BACKEND=reference" in message


def test_a_missing_compiler_is_named(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(_build.CompilerMissingError, match="no-such-compiler.*install g\\+\\+"):
        _build.compile_library("mmcity_test_none", [tmp_path / "x.cpp"], what="a test library")


def test_an_unwritable_cache_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "file"))
    with pytest.raises(_build.BuildError, match="TORCH_EXTENSIONS_DIR"):
        _build.compile_library("mmcity_test_ro", [tmp_path / "x.cpp"], what="a test library")


def test_a_lock_file_of_a_killed_torch_build_does_not_block(tmp_path):
    (tmp_path / "lock").touch()
    with _build.build_lock(tmp_path, timeout=1):
        assert not (tmp_path / "lock").exists()


def _hold_lock(folder: str, ready) -> None:
    with _build.build_lock(Path(folder)):
        ready.set()
        time.sleep(60)


def test_the_lock_times_out_and_a_killed_holder_frees_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold_lock, args=(str(tmp_path), ready))
    holder.start()
    try:
        assert ready.wait(60)
        with pytest.raises(_build.BuildError, match="expected another process to have built"):
            with _build.build_lock(tmp_path, timeout=0.5):
                pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
        with _build.build_lock(tmp_path, timeout=5):
            pass
    finally:
        holder.kill()


def test_the_reference_answers_with_one_warning_without_a_compiler(tmp_path):
    code = (
        "import warnings, torch\n"
        "from mmcity_ops import _backend\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    first = _backend.use_native(torch.zeros(1))\n"
        "    second = _backend.use_native(torch.ones(1))\n"
        "print(first, second, [str(w.message) for w in seen if 'reference' in str(w.message)])\n"
    )
    env = dict(os.environ, CXX="no-such-compiler", TORCH_EXTENSIONS_DIR=str(tmp_path))
    env.pop("MMCITY_OPS_BACKEND", None)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.startswith("False False ["), done
    assert done.stdout.count("slow torch reference") == 1
    env["MMCITY_OPS_BACKEND"] = "native"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "CompilerMissingError" in done.stderr


KERNEL = """
#include <cuda_runtime.h>
#include "math/hd.h"
__global__ void scale_kernel(const float* in, float* out, long long n) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) out[i] = mmc::sqrt_(in[i]) * 2.f;
}
cudaError_t launch_scale(const float* in, float* out, long long n, cudaStream_t stream) {
  scale_kernel<<<(n + 255) / 256, 256, 0, stream>>>(in, out, n);
  return cudaGetLastError();
}
"""
BINDING = """
#include <torch/library.h>
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include "stream.h"
cudaError_t launch_scale(const float*, float*, long long, cudaStream_t);
static at::Tensor scale(const at::Tensor& x) {
  const c10::DeviceGuard guard(x.device());
  at::Tensor out = at::empty_like(x);
  mmc::check_launch(launch_scale(x.data_ptr<float>(), out.data_ptr<float>(), x.numel(),
                                 mmc::current_stream(x.device())), "scale");
  return out;
}
TORCH_LIBRARY_FRAGMENT(mmcity_test_cuda, m) { m.def("scale(Tensor x) -> Tensor"); }
TORCH_LIBRARY_IMPL(mmcity_test_cuda, CUDA, m) { m.impl("scale", &scale); }
"""


@pytest.mark.slow
@pytest.mark.ci_slow
@pytest.mark.skipif(_build_cuda.find_nvcc() is None, reason="nvcc is absent")
def test_a_cuda_kernel_is_compiled_linked_and_registered(cache, tmp_path, monkeypatch):
    csrc = tmp_path / "csrc"
    (csrc / "cuda").mkdir(parents=True)
    (csrc / "math").symlink_to(_build.CSRC / "math")
    (csrc / "stream.h").symlink_to(_build.CSRC / "stream.h")
    (csrc / "cuda" / "scale.cu").write_text(KERNEL)
    (csrc / "bind_cuda.cpp").write_text(BINDING)
    monkeypatch.setattr(_build, "CSRC", csrc)

    usage = _build_cuda.check_cuda(("90",))["scale.cu"]["90"]
    assert len(usage) == 1 and "scale_kernel" in usage[0].kernel
    assert usage[0].registers > 0 and usage[0].spill_bytes == 0

    path = _build_cuda.build_cuda(("90",))
    torch.ops.load_library(str(path))
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    assert has_kernel("mmcity_test_cuda::scale", "CUDA")

    (csrc / "cuda" / "scale.cu").write_text(KERNEL.replace("const long long i", "int j; int i"))
    with pytest.raises(_build.BuildError, match="scale.cu"):
        _build_cuda.check_cuda(("90",))


def test_the_command_skips_the_check_without_nvcc(monkeypatch, capsys):
    monkeypatch.setattr(_build_cuda, "find_nvcc", lambda: None)
    assert build_command.main(["--check"]) == 0
    assert "skipped: nvcc was not found" in capsys.readouterr().out


def test_the_command_prints_the_library(capsys):
    assert build_command.main([]) == 0
    assert Path(capsys.readouterr().out.strip()).exists()
