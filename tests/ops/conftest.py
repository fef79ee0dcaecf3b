"""Fixtures of the operators' tests."""

import pytest
import torch


@pytest.fixture
def thread_counts():
    """``run(n, function)``: the result of a call with n threads; the count is put back."""
    before = torch.get_num_threads()

    def run(n, function):
        torch.set_num_threads(n)
        try:
            return function()
        finally:
            torch.set_num_threads(before)

    return run


@pytest.fixture
def cuda_determinism(monkeypatch):
    """``switch(enabled)``: torch's deterministic algorithms during a test."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    yield lambda enabled: torch.use_deterministic_algorithms(enabled, warn_only=True)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def native(monkeypatch):
    """Native kernels or an error, and the same random numbers in every run."""
    monkeypatch.setenv("MMCITY_OPS_BACKEND", "native")
    torch.manual_seed(0)
