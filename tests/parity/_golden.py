"""Loading of golden vectors and the comparisons that their README asks for."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import golden_dir
from tests.devices import DEVICE  # "cuda" also takes the tolerances of that backend

FLAGS = ("borderline", "radii_ambiguous", "box_ambiguous", "ambiguous")


def find_cases(prefix: str, set_name: str = "ops", suffix: str = ".npz") -> list[Path]:
    """All files of a set whose name starts with ``prefix``, whatever their number and sizes.

    Another folder (``MMCITY_GOLDEN``) may lack some kinds of files: their tests are skipped.
    """
    paths = sorted(golden_dir(set_name).glob(f"{prefix}*{suffix}"))
    if not paths and not os.environ.get("MMCITY_GOLDEN"):
        raise FileNotFoundError(f"no golden file {prefix}*{suffix} in {golden_dir(set_name)}")
    return paths


def vectors(prefix: str, set_name: str = "ops", suffix: str = ".npz") -> pytest.MarkDecorator:
    """Run a test for the ``path`` of each file that :func:`find_cases` lists."""
    paths = find_cases(prefix, set_name, suffix)
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


class Golden:
    """Arrays of one ``.npz`` file as tensors of the type under test.

    Args:
        path: The file.
        dtype: Floating arrays are converted to this type; integers and bools stay.
    """

    def __init__(self, path: Path, dtype: torch.dtype = torch.float64) -> None:
        self.path, self.dtype = path, dtype
        with np.load(path) as data:
            self.arrays = {key: data[key] for key in data.files}

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> Tensor:
        tensor = torch.from_numpy(np.array(self.arrays[key]))
        return tensor.to(DEVICE, self.dtype if tensor.is_floating_point() else tensor.dtype)

    def scalar(self, key: str):
        """A size, number or word of the file as a python value."""
        return self.arrays[key].item()

    def leaf(self, key: str) -> Tensor:
        """A tensor that collects a gradient."""
        return self[key].requires_grad_()

    def stored_as(self, key: str) -> np.dtype:
        return self.arrays[key].dtype


def relative_l2(got: Tensor, want: Tensor) -> float:
    """||got - want|| / ||want||, in float64."""
    got, want = got.detach().double().cpu(), want.double().cpu()
    return float((got - want).norm() / want.norm().clamp_min(1e-300))


def single_tolerance(path: Path) -> float:
    """Relative L2 of float64 results to arrays that are stored as float32."""
    return 8e-8 if "extreme" in path.stem else 6e-8


def gradient_tolerance(golden: Golden, key: str) -> float:
    """Relative L2 that the golden README suggests."""
    if golden.dtype == torch.float32:
        return 1e-4 if DEVICE == "cpu" else 1e-3
    return single_tolerance(golden.path) if golden.stored_as(key) == np.float32 else 1e-9


def assert_close_l2(name: str, got: Tensor, golden: Golden, key: str, scale: float = 1.0) -> None:
    """Relative L2 within the tolerance of the type under test; float32 also bounds the maximum."""
    want = torch.from_numpy(np.array(golden.arrays[key])).double()
    assert got.shape == want.shape, f"{name}: {tuple(got.shape)} against {tuple(want.shape)}"
    error = relative_l2(got, want)
    limit = scale * gradient_tolerance(golden, key)
    assert error <= limit, f"{golden.path.name}: {name}: relative L2 {error:.3g} > {limit:.3g}"
    if golden.dtype == torch.float32:
        worst = float((got.detach().double().cpu() - want).abs().max())
        bound = scale * (1e-3 if DEVICE == "cpu" else 1e-2) * float(want.abs().max())
        assert worst <= bound, f"{golden.path.name}: {name}: max error {worst:.3g} > {bound:.3g}"


def like_recorded(values: Tensor, recorded: np.ndarray | Tensor) -> Tensor:
    """Every n-th entry along each axis, so that as many remain as a file keeps."""
    pairs = zip(values.shape, recorded.shape, strict=True)
    return values[tuple(slice(None, None, -(-all_ // kept)) for all_, kept in pairs)]


def decay_of(steps: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """First value, share that is left at last and step of the last value of a recorded decay.

    They are those of the log-linear line through the values before the last one; whether all
    values lie on it, and stay at the last, is left to the test.
    """
    logs, steps = np.log(np.asarray(values, np.float64)), np.asarray(steps, np.float64)
    moving = np.abs(logs - logs[-1]) > 1e-9
    if not moving.any():
        return float(np.exp(logs[-1])), 1.0, 1.0
    assert moving.sum() > 1, "a record of a decay needs two values before its last"
    slope, start = np.polyfit(steps[moving], logs[moving], 1)
    return float(np.exp(start)), float(np.exp(logs[-1] - start)), float((logs[-1] - start) / slope)


def delayed_decay_of(steps: np.ndarray, values: np.ndarray) -> tuple[float, ...]:
    """The same after a rise along a quarter sine, with the rise's length and its first factor."""
    for begin in range(len(steps) - 2):
        first, ratio, end = decay_of(steps[begin:], values[begin:])
        factors = np.asarray(values) / (first * ratio ** np.clip(steps / end, 0, 1))
        if np.abs(factors[begin:] - 1).max() < 1e-9:
            break
    assert begin > 1 and steps[0] == 0, "a record of a delay needs its first step and another"
    rise = np.arcsin((factors[begin - 1] - factors[0]) / (1 - factors[0]))
    return first, ratio, end, steps[begin - 1] * np.pi / 2 / rise, factors[0]


def assert_images_close(
    name: str, got: Tensor, golden: Golden, key: str, *, atol32: float = 2e-5, keep=None
) -> None:
    """Images equal where ``keep`` [C, H, W] holds (default: outside ``borderline``)."""
    want = torch.from_numpy(np.array(golden.arrays[key])).double()
    if keep is None:
        keep = ~torch.from_numpy(golden.arrays["borderline"])
    keep = keep.cpu()
    got, want = got.detach().double().cpu()[keep], want[keep]
    if golden.dtype == torch.float32:
        atol32 = atol32 if DEVICE == "cpu" else max(atol32, 1e-4)
        worst = float((got - want).abs().max())
        assert worst <= atol32, f"{golden.path.name}: {name}: max error {worst:.3g} > {atol32:g}"
    else:
        error = relative_l2(got, want)
        limit = single_tolerance(golden.path)
        assert error <= limit, f"{golden.path.name}: {name}: relative L2 {error:.3g} > {limit:g}"
