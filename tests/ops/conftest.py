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
