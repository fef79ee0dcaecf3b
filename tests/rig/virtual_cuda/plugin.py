"""Pytest plugin: tests run on the virtual device; what each of them ran there is written down.

``VIRTUAL_CUDA_REPORT`` names a JSON file of all tests: outcome, operators, files of kernels.
"""

import virtual_cuda  # noqa: I001, before torch

import json
from pathlib import Path

import pytest

_results: dict[str, dict] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    before = virtual_cuda.counts()
    try:
        return (yield)
    finally:
        now = virtual_cuda.counts()
        ran = [name for name, count in now.items() if count > before.get(name, 0)]
        item.user_properties.append(("ran", sorted({name.split()[0] for name in ran})))


def pytest_runtest_logreport(report) -> None:
    """Also in the process that hands out the tests to others."""
    if report.when == "call" or report.outcome != "passed":
        ran = dict(report.user_properties).get("ran", [])
        _results[report.nodeid] = {"outcome": report.outcome, "ran": ran}


def pytest_sessionfinish(session) -> None:
    file = virtual_cuda.build.setting("REPORT")
    if file and not hasattr(session.config, "workerinput"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps(_results, indent=1))
