"""Formats of Gaussians that this machine can write, for tests of all of them."""

import importlib.util

import pytest

from mmcity.structures import WRITABLE_SUFFIXES

_NO_USD = pytest.mark.skipif(
    importlib.util.find_spec("pxr") is None,
    reason="usd-core is not installed (requirements/usd.txt)",
)
SUFFIXES = [
    pytest.param(suffix, marks=_NO_USD) if suffix.startswith(".usd") else suffix
    for suffix in WRITABLE_SUFFIXES
]
