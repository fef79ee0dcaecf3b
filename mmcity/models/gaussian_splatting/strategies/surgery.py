"""Edits of the set of Gaussians that keep the optimiser's moments in step.

Each function changes the parameters' ``data`` in place of making new parameters, drops
their gradients, and applies the matching edit to every per-Gaussian tensor of the
optimiser's state. Rows that are new start with zero moments.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from mmcity.models.layers import edit_parameters
from mmcity.structures import is_stray, robust_bounds
from mmcity.structures.geometry import quat_to_rotmat

from ..splats import SplatParameters

#: A split makes children smaller by this factor (3DGS, Kerbl et al. 2023).
SPLIT_SHRINK = 1.6


def _edit(
    splats: SplatParameters,
    optimizer: Optimizer,
    edit_value: Callable[[str, Tensor], Tensor],
    edit_state: Callable[[Tensor], Tensor],
    names: tuple[str, ...] | None = None,
) -> None:
    # A scene with other attributes than colours names its own.
    names = splats.NAMES if names is None else names
    edit_parameters(splats, names, optimizer, edit_value, edit_state)


def _with_zero_rows(state: Tensor, count: int) -> Tensor:
    return torch.cat([state, state.new_zeros(count, *state.shape[1:])])


@torch.no_grad()
def stray_rows(splats: SplatParameters) -> Tensor:
    """``(N,)`` bool: nearly transparent and far from what is opaque, see :func:`is_stray`."""
    opacities = splats.opacities
    return is_stray(splats.means, opacities, robust_bounds(splats.means, opacities))


def keep(splats: SplatParameters, optimizer: Optimizer, mask: Tensor) -> None:
    """Keep the Gaussians where ``mask`` (N,) bool is True."""
    rows = mask.nonzero()[:, 0]
    _edit(splats, optimizer, lambda _, v: v[rows], lambda s: s[rows])


def duplicate(splats: SplatParameters, optimizer: Optimizer, rows: Tensor) -> None:
    """Append a copy of each Gaussian in ``rows`` (M,) int64."""
    _edit(
        splats,
        optimizer,
        lambda _, v: torch.cat([v, v[rows]]),
        lambda s: _with_zero_rows(s, len(rows)),
    )


def split(
    splats: SplatParameters,
    optimizer: Optimizer,
    rows: Tensor,
    generator: torch.Generator | None = None,
) -> None:
    """Replace each Gaussian in ``rows`` by two smaller ones drawn from it.

    The survivors come first, in their order, then the first children of all rows, then the
    second ones.
    """
    with torch.no_grad():
        count = len(splats)
        rest = torch.ones(count, dtype=torch.bool, device=rows.device)
        rest[rows] = False
        rest = rest.nonzero()[:, 0]
        scales = splats.scales[rows]  # (M, 3)
        rotations = quat_to_rotmat(splats.quats[rows])  # (M, 3, 3)
        noise = torch.randn(
            2, len(rows), 3, generator=generator, device=scales.device, dtype=scales.dtype
        )
        offsets = torch.einsum("mij,cmj->cmi", rotations, noise * scales)  # (2, M, 3)
        means = (splats.means[rows] + offsets).reshape(-1, 3)

    def edit_value(name: str, value: Tensor) -> Tensor:
        if name == "means":
            children = means
        elif name == "log_scales":
            children = torch.log(scales / SPLIT_SHRINK).repeat(2, 1)
        else:
            children = torch.cat([value[rows], value[rows]])
        return torch.cat([value[rest], children])

    _edit(splats, optimizer, edit_value, lambda s: _with_zero_rows(s[rest], 2 * len(rows)))


def reset_opacities(splats: SplatParameters, optimizer: Optimizer, ceiling: float) -> None:
    """Lower every opacity to at most ``ceiling`` and forget the opacities' moments."""
    limit = torch.logit(torch.tensor(ceiling)).item()
    _edit(
        splats,
        optimizer,
        lambda _, v: v.clamp_max(limit),
        torch.zeros_like,
        names=("opacity_logits",),
    )


def sample_rows(weights: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw ``count`` rows with replacement, in proportion to ``weights`` (N,).

    Inverse of the cumulative sum in float64: unlike ``torch.multinomial`` it has no limit
    of 2^24 rows.
    """
    edges = weights.double().cumsum(0)
    draws = torch.rand(count, generator=generator, device=weights.device, dtype=torch.float64)
    return torch.searchsorted(edges, draws * edges[-1]).clamp_max(len(weights) - 1)


def relocation_values(opacities: Tensor, scales: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity and scale of n equal Gaussians at one place that look like one did.

    With n = ``counts`` copies: o' = 1 - (1 - o)^(1/n), and the scale shrinks by
    o / sum_{i=1..n} sum_{k=0..i-1} C(i-1, k) (-1)^k o'^(k+1) / sqrt(k+1)
    (Kheradmand et al. 2024, equation 9). Counts beyond 51 are taken as 51.

    Args:
        opacities: (M,) in (0, 1).
        scales: (M, 3).
        counts: (M,) int64, at least 1.

    Returns:
        (M,) opacities and (M, 3) scales.
    """
    n_max = 51
    counts = counts.clamp(1, n_max)
    old = opacities.double()
    new = 1 - (1 - old).pow(1.0 / counts)
    # Summing over i first gives sum_{i=k+1..n} C(i-1, k) = C(n, k+1).
    order = torch.arange(1, n_max + 1, dtype=torch.float64, device=old.device)  # k + 1
    log_choose = (
        torch.lgamma(counts[:, None] + 1.0)
        - torch.lgamma(order + 1)
        - torch.lgamma((counts[:, None] - order).clamp_min(0) + 1.0)
    )
    sign = torch.where(order % 2 == 1, 1.0, -1.0)
    terms = sign * log_choose.exp() * new[:, None].pow(order) / order.sqrt()
    terms = torch.where(order <= counts[:, None], terms, 0.0)
    shrink = old / terms.sum(1)
    return new.to(opacities), scales * shrink.to(scales)[:, None]


def _share(
    splats: SplatParameters, sources: Tensor, min_opacity: float
) -> tuple[Tensor, Callable[[str, Tensor], Tensor]]:
    """Rows that get copies, and what gives a table their new opacities and scales."""
    rows, copies = sources.unique(return_counts=True)
    opacities, scales = relocation_values(splats.opacities[rows], splats.scales[rows], copies + 1)
    shared = {"opacity_logits": opacities.clamp(min_opacity, 1 - 1e-6).logit()}
    shared["log_scales"] = scales.log()

    def put(name: str, value: Tensor) -> Tensor:
        if name in shared:
            value[rows] = shared[name]
        return value

    return rows, put


@torch.no_grad()
def relocate(
    splats: SplatParameters, optimizer: Optimizer, dead: Tensor, sources: Tensor, min_opacity: float
) -> None:
    """Move the Gaussians ``dead`` (M,) onto ``sources`` (M,), sharing their look.

    The moments of the sources are forgotten, as their opacity and scale jump; those of the
    dead start anew too.
    """
    rows, put = _share(splats, sources, min_opacity)

    def edit_value(name: str, value: Tensor) -> Tensor:
        value = put(name, value)
        value[dead] = value[sources]
        return value

    def edit_state(state: Tensor) -> Tensor:
        state[rows] = 0
        state[dead] = 0
        return state

    _edit(splats, optimizer, edit_value, edit_state)


@torch.no_grad()
def add_copies(
    splats: SplatParameters, optimizer: Optimizer, sources: Tensor, min_opacity: float
) -> None:
    """Append a Gaussian on each of ``sources`` (M,), sharing the look among the copies."""
    rows, put = _share(splats, sources, min_opacity)

    def edit_value(name: str, value: Tensor) -> Tensor:
        value = put(name, value)
        return torch.cat([value, value[sources]])

    def edit_state(state: Tensor) -> Tensor:
        state[rows] = 0
        return _with_zero_rows(state, len(sources))

    _edit(splats, optimizer, edit_value, edit_state)
