"""Reduction of foundation features for rendering: a basis per step, running, or fixed."""

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

from mmcity.utils.checks import check_choice

_MODES = ("per_step", "ema", "fixed")


def fit_pca(features: Tensor, rank: int) -> Tensor:
    """Leading directions of centred features by randomised subspace iteration.

    Args:
        features: ``(S, C)``.
        rank: Directions R.

    Returns:
        Orthonormal ``(C, R)`` float64.
    """
    _, _, basis = torch.pca_lowrank(features.double(), q=rank, center=True, niter=4)
    return basis


def span_basis(prototypes: Tensor, rank: int) -> Tensor:
    """Orthonormal basis ``(C, R)`` of the leading directions of prototypes ``(C, P)``.

    Raises:
        ValueError: If the prototypes span fewer directions than asked for.
    """
    left, strength, _ = torch.linalg.svd(prototypes.double(), full_matrices=False)
    spanned = int((strength > 1e-6 * strength.max().clamp(min=1e-12)).sum())
    if spanned < rank:
        raise ValueError(
            f"reduce_dims: expected at most the {spanned} directions that the prototypes "
            f"{tuple(prototypes.shape)} span, got {rank}: lower it, or choose another pca mode"
        )
    return left[:, :rank]


def _covariance(features: Tensor) -> Tensor:
    """Covariance ``(C, C)`` float64 of the features ``(S, C)`` of all processes."""
    mean = features.mean(0)
    centred = (features - mean).double()
    squares = centred.T @ centred
    if get_world_size() == 1:
        return squares / max(len(features) - 1, 1)
    # What processes have about their own means, and the spread of the means.
    count = squares.new_full((), len(features))
    total = mean.double() * count
    for value in (squares, total, count):
        all_reduce(value)
    apart = mean.double() - total / count
    spread = torch.outer(apart, apart) * len(features)
    all_reduce(spread)
    return (squares + spread) / (count - 1).clamp(min=1)


class FeatureBasis(nn.Module):
    """Projection of C feature channels to R.

    Args:
        channels: C.
        rank: R.
        mode: ``per_step`` fits anew at every call (as published; axes change sign and order
            between steps), ``ema`` keeps a running covariance of the features of all processes
            and aligns the axes with the last basis, ``fixed`` never changes after it was set. The
            basis is saved with the model except with ``per_step``. Defaults to ``ema``.
        momentum: Share of a new batch in the running covariance. Defaults to 0.05.
    """

    def __init__(self, channels: int, rank: int, mode: str = "ema", momentum: float = 0.05) -> None:
        super().__init__()
        check_choice("pca mode", mode, _MODES)
        self.channels, self.rank, self.mode, self.momentum = channels, rank, mode, momentum
        persistent = mode != "per_step"
        self.register_buffer("basis", torch.zeros(channels, rank), persistent=persistent)
        self.register_buffer("covariance", torch.zeros(channels, channels), persistent=persistent)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long), persistent=persistent)
        self._is_set = False  # what ``steps > 0`` says, without a wait for the device

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._is_set = bool(self.steps > 0)

    def set_basis(self, basis: Tensor) -> None:
        """Set a pre-computed basis ``(C, R)``."""
        if tuple(basis.shape) != (self.channels, self.rank):
            raise ValueError(
                f"basis: expected ({self.channels}, {self.rank}), got {tuple(basis.shape)}"
            )
        self.basis.copy_(basis)
        self.steps.fill_(1)
        self._is_set = True

    @torch.no_grad()
    def update(self, features: Tensor) -> Tensor:
        """Basis ``(C, R)`` for a batch of features ``(S, C)``; call once per training step."""
        if self.mode == "per_step":
            return fit_pca(features, self.rank)
        if self.mode == "fixed":
            if not self._is_set:
                raise RuntimeError(
                    "basis: expected for pca mode 'fixed', got none: call set_basis() or load it"
                )
            return self.basis
        if not self.training and self._is_set:
            return self.basis
        covariance = _covariance(features)
        if self._is_set:
            covariance = torch.lerp(self.covariance.double(), covariance, self.momentum)
        self.covariance.copy_(covariance)
        _, vectors = torch.linalg.eigh(covariance)
        basis = vectors[:, -self.rank :].flip(1)
        if self._is_set:
            basis = self._align(basis)
        self.basis.copy_(basis)
        self.steps += 1
        self._is_set = True
        return self.basis

    def _align(self, basis: Tensor) -> Tensor:
        """Rotate within the new subspace onto the last basis, so that axes keep meaning."""
        left, _, right = torch.linalg.svd(basis.T @ self.basis.double())
        return basis @ (left @ right)
