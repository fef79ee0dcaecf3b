"""State of every random generator of a process, for exact resume."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dist import all_gather_object

from mmcity.engine.distributed.watch import watched


def get_random_state() -> dict:
    """State of the python, numpy and torch generators of this process, in plain types.

    Returns:
        dict: ``python``, ``numpy``, ``torch`` and, with CUDA, ``cuda`` (one entry per
        visible device).
    """
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    state = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict) -> None:
    """Put the generators of this process back to what :func:`get_random_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    keys = keys.cpu().numpy().astype(np.uint32)
    np.random.set_state((kind, keys, position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        # A resumed run may see another number of devices than the saved one did.
        count = min(len(state["cuda"]), torch.cuda.device_count())
        for device in range(count):
            torch.cuda.set_rng_state(state["cuda"][device].cpu(), device)


def gather_random_states(state: dict | None = None) -> list[dict]:
    """States of all ranks, in rank order; every rank has to call it.

    Args:
        state: What this rank contributes. Defaults to its present state.
    """
    with watched("all_gather_object of random states"):
        return all_gather_object(get_random_state() if state is None else state)


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Run a block that may draw random numbers without moving the generators."""
    state = get_random_state()
    try:
        yield
    finally:
        set_random_state(state)
