"""Distances between two sets of features: FID, KID, inception score, precision and recall."""

import torch
from torch import Tensor


def _check(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    if real.dim() != 2 or fake.dim() != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"features: expected (N, D) with one D, got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    if len(real) < 2 or len(fake) < 2:
        raise ValueError(f"features: expected at least 2 a set, got {len(real)} and {len(fake)}")
    return real.double(), fake.double()


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Frechet distance of the Gaussians fitted to two feature sets (Heusel et al., 2017).

    Args:
        real: ``(N, D)``.
        fake: ``(M, D)``.

    Returns:
        ``|mu_r - mu_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2))`` with unbiased covariances.
    """
    real, fake = _check(real, fake)
    mean = real.mean(0) - fake.mean(0)
    a = (real - real.mean(0)) / (len(real) - 1) ** 0.5
    b = (fake - fake.mean(0)) / (len(fake) - 1) ** 0.5
    # tr((S_r S_f)^(1/2)) with S = A^T A is the nuclear norm of A B^T.
    root = torch.linalg.svdvals(a @ b.T).sum()
    return float(mean.square().sum() + a.square().sum() + b.square().sum() - 2 * root)


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """Unbiased squared MMD under the kernel ``(a.b / D + 1)^3`` (KID, Binkowski et al., 2018)."""
    real, fake = _check(real, fake)
    n, m, dim = len(real), len(fake), real.shape[1]

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / dim + 1.0) ** 3

    rr, ff = kernel(real, real), kernel(fake, fake)
    within_real = (rr.sum() - rr.diagonal().sum()) / (n * (n - 1))
    within_fake = (ff.sum() - ff.diagonal().sum()) / (m * (m - 1))
    return float(within_real + within_fake - 2.0 * kernel(real, fake).mean())


def subset_kernel_distance(
    real: Tensor, fake: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of :func:`kernel_distance` over random subsets.

    Args:
        real: ``(N, D)``.
        fake: ``(M, D)``.
        subsets: Number of draws. Defaults to 100.
        size: Samples of each set in a draw, at most what there is. Defaults to 1000.
        seed: Of the draws. Defaults to 0.
    """
    generator = torch.Generator().manual_seed(seed)
    size = min(size, len(real), len(fake))
    values = []
    for _ in range(subsets):
        a = torch.randperm(len(real), generator=generator)[:size]
        b = torch.randperm(len(fake), generator=generator)[:size]
        values.append(kernel_distance(real[a], fake[b]))
    values = torch.tensor(values, dtype=torch.float64)
    return float(values.mean()), float(values.std(unbiased=False))


def inception_score(logits: Tensor, splits: int = 10) -> tuple[float, float]:
    """``exp(E KL(p(y|x) || p(y)))`` over consecutive splits (Salimans et al., 2016).

    Args:
        logits: ``(N, K)``.
        splits: Number of splits; the first ones are longer if N does not divide.

    Returns:
        Mean and population standard deviation over the splits.
    """
    if not 1 <= splits <= len(logits):
        raise ValueError(f"splits: expected 1..{len(logits)}, got {splits}")
    scores = []
    for part in torch.tensor_split(logits.double(), splits):
        log_p = part.log_softmax(dim=1)
        p = log_p.exp()
        divergence = (p * (log_p - p.mean(0, keepdim=True).log())).sum(1)
        scores.append(divergence.mean().exp())
    scores = torch.stack(scores)
    return float(scores.mean()), float(scores.std(unbiased=False))


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Share of samples inside the k-nearest-neighbour balls of the other set.

    Source: Kynkaanniemi et al., arXiv 1904.06991; a sample is not its own neighbour.

    Returns:
        Precision (generated samples near a real one) and recall (roles swapped).
    """
    real, fake = _check(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(f"k: expected 1..{min(len(real), len(fake)) - 1}, got {k}")

    def covered(reference: Tensor, queries: Tensor) -> float:
        own = torch.cdist(reference, reference)
        own.fill_diagonal_(float("inf"))
        radius = own.kthvalue(k, dim=1).values
        return float((torch.cdist(queries, reference) <= radius).any(dim=1).double().mean())

    return covered(real, fake), covered(fake, real)
