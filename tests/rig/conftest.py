"""Tests of this folder need a device: the virtual one, which ``tests/rig/run.py`` gives them.

Those of the systems also run on a real GPU; what only the virtual one can count is skipped there.
"""

import sys
from types import ModuleType

import pytest
import torch

collect_ignore_glob = ["*"]
if "virtual_cuda" in sys.modules:
    collect_ignore_glob = []
elif torch.cuda.is_available():
    collect_ignore_glob = ["selftest/*", "test_*.py"]

    class _Absent(ModuleType):
        def __getattr__(self, name: str):
            if name.startswith("_"):
                raise AttributeError(name)
            return lambda *args, **kwargs: pytest.skip(f"needs the virtual device ({name})")

    sys.modules["virtual_cuda"] = _Absent("virtual_cuda")
