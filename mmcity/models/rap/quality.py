"""BRISQUE: how natural an image looks, without a reference (Mittal et al., 2012)."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import gammaln
from torch import Tensor

from mmcity.registry import TASK_UTILS
from mmcity.utils.fileio import read_text

_GRAY = (0.2125, 0.7154, 0.0721)
_KERNEL, _SIGMA = 7, 7 / 6
_GAMMA = 0.05
#: Ranges of the 36 features that published models were trained with.
_LOW = (
    *(0.336999, 0.019667, 0.23, -0.125959, 0.000167, 0.000616, 0.231, -0.125873, 0.000165),
    *(0.0006, 0.241, -0.128814, 0.000179, 0.000386, 0.243, -0.13308, 0.000182, 0.000421),
    *(0.436998, 0.016929, 0.247, -0.200231, 0.000104, 0.000834, 0.257, -0.200017, 0.000112),
    *(0.000876, 0.257, -0.155072, 0.000112, 0.000356, 0.258, -0.154374, 0.000117, 0.000351),
)
_HIGH = (
    *(9.999411, 0.807472, 1.644021, 0.202917, 0.712384, 0.468672, 1.644021, 0.169548, 0.713132),
    *(0.467896, 1.553016, 0.101368, 0.687324, 0.533087, 1.554016, 0.101, 0.689177, 0.533133),
    *(3.639918, 0.800955, 1.096995, 0.175286, 0.755547, 0.39927, 1.095995, 0.155928, 0.751488),
    *(0.402398, 1.041992, 0.093209, 0.623516, 0.532925, 1.042992, 0.093714, 0.621958, 0.534484),
)


def _blur(gray: Tensor) -> Tensor:
    """Gaussian mean of pictures ``(B, H, W)`` with repeated borders."""
    offsets = torch.arange(_KERNEL, dtype=gray.dtype, device=gray.device) - _KERNEL // 2
    kernel = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(gray[:, None], (_KERNEL // 2,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]


def mscn_map(gray: Tensor) -> Tensor:
    """Mean-subtracted, contrast-normalised coefficients of pictures ``(B, H, W)``."""
    mean = _blur(gray)
    deviation = (_blur(gray * gray) - mean * mean).clamp_min(0).sqrt()
    return (gray - mean) / (deviation + 1 / 255)


def _ratio(shape: np.ndarray) -> np.ndarray:
    """Squared mean over variance of a generalised Gaussian; rises with its shape."""
    return np.exp(2 * gammaln(2 / shape) - gammaln(1 / shape) - gammaln(3 / shape))


def _solve_shape(ratio: np.ndarray) -> np.ndarray:
    """Shape whose :func:`_ratio` is given, by bisection on its logarithm."""
    low, high = np.full_like(ratio, np.log(0.02)), np.full_like(ratio, np.log(100.0))
    for _ in range(60):
        middle = (low + high) / 2
        is_low = _ratio(np.exp(middle)) < ratio
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    return np.exp((low + high) / 2)


def _asymmetric_fit(values: Tensor) -> list[np.ndarray]:
    """Shape, mean, left and right variance ``(B,)`` of an asymmetric generalised Gaussian."""
    x = values.flatten(1).double()  # (B, P)
    is_left = (x < 0).double()
    square = x * x
    left = (square * is_left).sum(1) / is_left.sum(1).clamp_min(1)
    right = (square * (1 - is_left)).sum(1) / (1 - is_left).sum(1).clamp_min(1)
    tiny = torch.finfo(torch.float64).tiny
    skew = (left / right.clamp_min(tiny)).sqrt()
    ratio = x.abs().mean(1) ** 2 / square.mean(1).clamp_min(tiny)
    ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = _solve_shape(ratio.cpu().numpy())
    scale = np.exp(gammaln(2 / shape) - 0.5 * (gammaln(1 / shape) + gammaln(3 / shape)))
    left, right = left.cpu().numpy(), right.cpu().numpy()
    return [shape, (np.sqrt(right) - np.sqrt(left)) * scale, left, right]


def _features_of_scale(gray: Tensor) -> list[np.ndarray]:
    mscn = mscn_map(gray)
    shape, _, left, right = _asymmetric_fit(mscn)
    features = [shape, (left + right) / 2]
    for product in (
        mscn[:, :, :-1] * mscn[:, :, 1:],
        mscn[:, :-1] * mscn[:, 1:],
        mscn[:, :-1, :-1] * mscn[:, 1:, 1:],
        mscn[:, 1:, :-1] * mscn[:, :-1, 1:],
    ):
        features += _asymmetric_fit(product)
    return features


def brisque_features(images: Tensor) -> np.ndarray:
    """36 statistics of images: 18 at full size, 18 at half size.

    Args:
        images (Tensor): ``(B, 3, H, W)``, nominally in [0, 1], not clamped.

    Returns:
        np.ndarray: ``(B, 36)`` float64.

    Raises:
        ValueError: If a side has fewer than 4 pixels, so that none are neighbours at half size.
    """
    if min(images.shape[-2:]) < 4:
        raise ValueError(
            "images: expected at least 4 pixels a side, got "
            f"{images.shape[-2]} x {images.shape[-1]}: render larger pictures"
        )
    images = images.float()
    gray = torch.einsum("bchw,c->bhw", images, images.new_tensor(_GRAY))
    # The factor itself, not the ratio of two sizes: an odd last row or column is left out.
    half = F.interpolate(gray[:, None], scale_factor=0.5, mode="bilinear")[:, 0]
    return np.stack(_features_of_scale(gray) + _features_of_scale(half), axis=1)


def read_svr_model(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray, float]:
    """Support vectors ``(S, 36)``, coefficients ``(S,)`` and rho of a LIBSVM text model.

    Raises:
        ValueError: If the file is no epsilon-SVR with an RBF kernel of gamma 0.05.
    """
    header, _, body = read_text(path).partition("\nSV\n")
    fields = dict(line.split(maxsplit=1) for line in header.splitlines() if " " in line)
    if fields.get("svm_type") != "epsilon_svr" or fields.get("kernel_type") != "rbf":
        raise ValueError(f"{path}: expected a LIBSVM epsilon_svr model with an rbf kernel")
    if abs(float(fields.get("gamma", "nan")) - _GAMMA) > 1e-9:
        raise ValueError(f"{path}: expected gamma {_GAMMA}, got {fields.get('gamma')}")
    rows = [line.split() for line in body.splitlines() if line.strip()]
    vectors, coefficients = np.zeros((len(rows), len(_LOW))), np.zeros(len(rows))
    for k, (coefficient, *entries) in enumerate(rows):
        coefficients[k] = float(coefficient)
        for entry in entries:
            index, value = entry.split(":")
            vectors[k, int(index) - 1] = float(value)
    return vectors, coefficients, float(fields["rho"])


def _packaged_model() -> Path:
    """Model file of the ``brisque`` package, which is not imported."""
    spec = importlib.util.find_spec("brisque")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        path = Path(folder) / "models" / "svm.txt"
        if path.is_file():
            return path
    raise FileNotFoundError(
        "model: expected the regression model of BRISQUE, found none: install it with `pip "
        "install --no-deps brisque`, or give the path of a LIBSVM model (svm.txt)"
    )


@TASK_UTILS.register_module()
class BRISQUE:
    """Score of images; lower is more natural, artefacts of a bad render exceed 50.

    Args:
        model (str, optional): LIBSVM text file. Defaults to the one that the ``brisque``
            package brings.

    Raises:
        FileNotFoundError: If there is neither.
    """

    def __init__(self, model: str | os.PathLike | None = None) -> None:
        path = _packaged_model() if model is None else model
        self.vectors, self.coefficients, self.rho = read_svr_model(path)

    def score_features(self, features: np.ndarray) -> np.ndarray:
        """Scores ``(B,)`` of statistics ``(B, 36)``."""
        low, high = np.array(_LOW), np.array(_HIGH)
        scaled = 2 * (features - low) / (high - low) - 1
        gaps = ((scaled[:, None] - self.vectors) ** 2).sum(-1)
        return np.exp(-_GAMMA * gaps) @ self.coefficients - self.rho

    def __call__(self, images: Tensor) -> np.ndarray:
        """Scores ``(B,)`` of images ``(B, 3, H, W)``."""
        return self.score_features(brisque_features(images))
