"""Gives every Python process the virtual device: with this folder on PYTHONPATH, VIRTUAL_CUDA=1."""

import os

if os.environ.get("VIRTUAL_CUDA", "0") not in ("", "0"):
    import virtual_cuda  # noqa: F401
