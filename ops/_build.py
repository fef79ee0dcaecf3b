"""Builds and loads the native libraries (first version: CPU only)."""

import functools
import hashlib
from pathlib import Path

import torch

CSRC = Path(__file__).resolve().parent / "csrc"
CXX_FLAGS = ["-O3", "-fopenmp", "-g0", "-fno-math-errno", "-fno-trapping-math"]


@functools.lru_cache(maxsize=1)
def load_cpu_library() -> bool:
    """Compile ``csrc/register.cpp`` and ``csrc/cpu/*.cpp`` (once, cached) and load them."""
    from torch.utils.cpp_extension import load

    sources = [CSRC / "register.cpp", *sorted((CSRC / "cpu").glob("*.cpp"))]
    headers = sorted(CSRC.glob("**/*.h"))
    digest = hashlib.sha256(" ".join(CXX_FLAGS).encode())
    for path in [*sources, *headers]:
        digest.update(path.read_bytes())
    torch_tag = torch.__version__.replace(".", "_").replace("+", "_")
    name = f"mmcity_cpu_{torch_tag}_{digest.hexdigest()[:12]}"
    load(
        name=name,
        sources=[str(path) for path in sources],
        extra_include_paths=[str(CSRC)],
        extra_cflags=CXX_FLAGS,
        extra_ldflags=["-fopenmp"],
        is_python_module=False,
    )
    return True
