"""Growing and pruning of anchors, in time linear in their number (up to sorting)."""

import math
from dataclasses import dataclass

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.optim import Optimizer

from mmcity.models.layers import Strategy, edit_parameters
from mmcity.registry import STRATEGIES

from .anchors import OctreeAnchors
from .levels import keys_to_voxels, visible_share, voxel_keys
from .shards import OneShard, voxel_owner


def is_due(iteration: int, batch: int, interval: int, residual: int = 0) -> bool:
    """Whether one of ``iteration .. iteration + batch - 1`` is ``residual`` modulo ``interval``."""
    return (residual - iteration) % interval < batch


@dataclass
class _New:
    """Anchors to add."""

    keys: Tensor
    positions: Tensor
    levels: Tensor
    log_scale: float
    features: Tensor
    scores: Tensor


@STRATEGIES.register_module()
@dataclass(eq=False)
class AnchorGrowthStrategy(Strategy):
    """Schedule and thresholds by which anchors are added and removed.

    Args:
        interval: Iterations between two adjustments. Defaults to 100.
        start: First iteration of adjustments. Defaults to 500.
        stop: Iteration after which the set is fixed and no statistics are kept. Defaults to
            50000.
        grad_threshold: Gradient of a projected mean, per normalised device coordinate, that
            asks for an anchor. Lower: more anchors. Defaults to 2e-4.
        success: Share of the interval in which something must have been seen. Defaults to 0.8.
        update_ratio: Exponent by which the threshold rises per level. Defaults to 0.2.
        extra_ratio: Share of the threshold that makes an anchor ask for finer levels.
            Defaults to 0.25.
        extra_up: By how much it does. Defaults to 0.01.
        min_opacity: Mean opacity below which an anchor is removed. Defaults to 0.005.
        max_log_scale: Bound on the log scales of the Gaussians when pruning, as the original
            does (it depends on the unit of the world); None for no bound. Defaults to 0.05.
        max_anchors: Bound on the number of anchors; those with the largest gradients win.
            Defaults to None.
        max_bytes: Bound on their bytes with gradients and two moments. Defaults to None.
        disable: Keep the first set. Defaults to False.
    """

    interval: int = 100
    start: int = 500
    stop: int = 50000
    grad_threshold: float = 2e-4
    success: float = 0.8
    update_ratio: float = 0.2
    extra_ratio: float = 0.25
    extra_up: float = 0.01
    min_opacity: float = 0.005
    max_log_scale: float | None = 0.05
    max_anchors: int | None = None
    max_bytes: float | None = None
    disable: bool = False

    _has_said_full = False

    def keeps_statistics(self, iteration: int) -> bool:
        """See :meth:`Strategy.keeps_statistics`."""
        return not self.disable and iteration <= self.stop

    def step(
        self,
        anchors: OctreeAnchors,
        optimizer: Optimizer,
        iteration: int,
        centers: Tensor,
        batch: int = 1,
        shards: OneShard | None = None,
    ) -> dict[str, int]:
        """Adjust the set if it is time to.

        Args:
            anchors: Changed in place.
            optimizer: Moments are kept in step.
            iteration: First iteration of the batch, counted from 1 in views.
            centers: ``(C, 3)`` training camera centres.
            batch: Views per step. Defaults to 1.
            shards: The processes that share the anchors. Defaults to None: all are here.

        Returns:
            Counts of what was done, empty if it was not time.
        """
        if self.disable or not self.start < iteration <= self.stop:
            return {}
        if not is_due(iteration, batch, self.interval):
            return {}
        shards = shards or OneShard()
        count = int(shards.sum(torch.tensor(len(anchors))))
        room = self.room(anchors, count)
        done = grow_and_prune(anchors, optimizer, iteration, centers, self, room, shards)
        if done["refused"] and not self._has_said_full:
            self._has_said_full = True
            print_log(
                f"iteration {iteration}: the budget of anchors is reached "
                f"({count + done['added'] - done['removed']}); only "
                "pruning makes room from here on. Raise max_anchors or max_bytes for more",
                "current",
            )
        return done

    def room(self, anchors: OctreeAnchors, count: int | None = None) -> int | None:
        """Anchors that may be added to ``count`` (Defaults to those here) within the budget."""
        count = len(anchors) if count is None else count
        limits = [] if self.max_anchors is None else [self.max_anchors]
        if self.max_bytes is not None:
            values = [getattr(anchors, name) for name in anchors.PARAMETERS]
            floats = sum(math.prod(value.shape[1:]) for value in values)
            limits.append(int(self.max_bytes // (4 * 4 * floats)))
        return max(min(limits) - count, 0) if limits else None


def grow_and_prune(
    anchors: OctreeAnchors,
    optimizer: Optimizer,
    iteration: int,
    centers: Tensor,
    options: AnchorGrowthStrategy,
    room: int | None = None,
    shards: OneShard | None = None,
) -> dict[str, int]:
    """One adjustment: add anchors where gradients are large, remove transparent ones.

    With several processes each brings its candidates to the one that owns their voxel, which
    drops what is occupied and keeps what it adds; moving anchors on is the caller's job.

    Args:
        anchors: Changed in place.
        optimizer: Moments of new anchors are 0.
        iteration: Present iteration; while levels still join, none grows into finer ones.
        centers: ``(C, 3)`` training camera centres.
        options: Thresholds.
        room: Anchors that may be added, in all. Defaults to None: no bound.
        shards: The processes that share the anchors. Defaults to None: all are here.

    Returns:
        Counts ``added``, ``removed``, ``refused``, over all processes.
    """
    shards = shards or OneShard()
    with torch.no_grad():
        seen = anchors.gradient_count > 0.5 * options.interval * options.success  # (N, k)
        mean = anchors.gradient_sum / anchors.gradient_count.clamp_min(1)
        gradient = torch.where(seen, mean, 0.0)
        new = _candidates(anchors, gradient, seen, iteration, centers, options, shards)
        total = int(shards.sum(torch.tensor(sum(len(part.positions) for part in new))))
        refused = 0
        if room is not None and total > room:
            new, refused = _best(new, room, shards), total - room
        _append(anchors, optimizer, new)
        fresh = len(anchors) - len(seen)
        anchors.gradient_sum[: len(seen)][seen] = 0
        anchors.gradient_count[: len(seen)][seen] = 0
        removed = _prune(anchors, optimizer, options)
        fresh, removed = shards.sum(torch.tensor([fresh, removed])).tolist()
    return dict(added=fresh, removed=removed, refused=refused)


def _candidates(
    anchors: OctreeAnchors,
    gradient: Tensor,
    seen: Tensor,
    iteration: int,
    centers: Tensor,
    options: AnchorGrowthStrategy,
    shards: OneShard,
) -> list[_New]:
    n_levels, fork = int(anchors.n_levels), anchors.fork
    is_coarse = anchors.is_coarse(iteration)
    rise = float(fork) ** options.update_ratio
    per_anchor = gradient.sum(1) / (seen.sum(1) + 1e-6)
    sizes = anchors.log_scales[:, None, :3].exp()
    places = (anchors.positions[:, None] + anchors.offsets * sizes).detach()  # (N, k, 3)
    # Positions of each level, present and new, for the test of occupied voxels.
    held = {level: [anchors.positions[anchors.levels == level]] for level in range(n_levels)}
    counts = torch.bincount(anchors.levels.long(), minlength=n_levels)
    counts = shards.sum(counts).tolist()  # of all processes, which must go the same way
    new: list[_New] = []
    for level in range(n_levels):
        if not counts[level]:
            continue
        low = options.grad_threshold * rise**level
        high = low * rise
        own = (anchors.levels == level)[:, None]
        if not is_coarse:
            wants_more = per_anchor >= options.extra_ratio * low
            anchors.extra_levels += options.extra_up * wants_more
        jobs = [(level, own & (gradient >= low) & (gradient < high), True)]
        if not is_coarse and level < n_levels - 1:
            jobs.append((level + 1, own & (gradient >= high), False))
        for target, chosen, inherits in jobs:
            if not counts[target]:
                continue
            flat = chosen.reshape(-1).nonzero()[:, 0]
            found = _at_level(
                anchors, places, gradient, flat, level=target, held=held[target],
                inherits=inherits, centers=centers, shards=shards,
            )  # fmt: skip
            new.append(found)
            held[target].append(found.positions)
            counts[target] += int(shards.sum(torch.tensor(len(found.positions))))
    return new


def _at_level(
    anchors: OctreeAnchors,
    places: Tensor,
    gradient: Tensor,
    flat: Tensor,
    level: int,
    held: list[Tensor],
    inherits: bool,
    centers: Tensor,
    shards: OneShard,
) -> _New:
    size = anchors.voxel_size / float(anchors.fork) ** level
    width = anchors.features.shape[1]
    keys = voxel_keys(places.reshape(-1, 3)[flat], anchors.origin, size)
    values = gradient.reshape(-1)[flat, None]
    if inherits:
        values = torch.cat([values, anchors.features[flat // anchors.n_offsets]], 1)
    keys, values = _merge(keys, values)
    owners = voxel_owner(keys, level, shards.world_size)
    keys, values = shards.to_owners(owners, keys), shards.to_owners(owners, values)
    keys, values = _merge(keys, values)
    taken = voxel_keys(torch.cat(held), anchors.origin, size).unique()
    taken = shards.to_owners(voxel_owner(taken, level, shards.world_size), taken).unique()
    if len(taken):
        free = taken[torch.searchsorted(taken, keys).clamp_max(len(taken) - 1)] != keys
        keys, values = keys[free], values[free]
    positions = keys_to_voxels(keys).to(places) * size + anchors.origin
    levels = torch.full((len(keys),), level, dtype=anchors.levels.dtype, device=keys.device)
    shares = visible_share(
        positions,
        levels,
        centers.to(positions),
        standard_dist=float(anchors.standard_dist),
        n_levels=int(anchors.n_levels),
        fork=anchors.fork,
    )
    rows = (shares > max(anchors.visible_threshold, 0)).nonzero()[:, 0]
    features = values[rows, 1:] if inherits else values.new_zeros(len(rows), width)
    # The gradient of a larger voxel moves more of the picture.
    scores = values[rows, 0] * float(size)
    log_size = math.log(float(size))
    return _New(keys[rows], positions[rows], levels[rows], log_size, features, scores)


def _merge(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys once each, in order, with the largest of each of their values ``(N, C)``."""
    unique, inverse = keys.unique(return_inverse=True)
    merged = values.new_zeros(len(unique), values.shape[1])
    return unique, merged.index_reduce(0, inverse, values, "amax", include_self=False)


def _best(new: list[_New], room: int, shards: OneShard) -> list[_New]:
    """The ``room`` best of all processes; ties go to the earlier level, then the lower key."""
    scores = torch.cat([part.scores for part in new])
    keys = torch.cat([part.keys for part in new])
    jobs = torch.cat([torch.full_like(part.keys, job) for job, part in enumerate(new)])
    all_scores, all_keys, all_jobs = (shards.gather(rows) for rows in (scores, keys, jobs))
    order = all_keys.argsort(stable=True)
    order = order[all_jobs[order].argsort(stable=True)]
    order = order[all_scores[order].argsort(descending=True, stable=True)]
    keep = torch.zeros(len(all_scores), dtype=torch.bool, device=scores.device)
    keep[order[:room]] = True
    first = shards.first_row(len(scores))
    keep = keep[first : first + len(scores)]
    out = []
    for part, mask in zip(new, keep.split([len(part.scores) for part in new])):
        rows = (getattr(part, name)[mask] for name in ("features", "scores"))
        places = (part.keys[mask], part.positions[mask], part.levels[mask])
        out.append(_New(*places, part.log_scale, *rows))
    return out


def _append(anchors: OctreeAnchors, optimizer: Optimizer, new: list[_New]) -> None:
    if not new:
        return
    counts = [len(part.positions) for part in new]
    total = sum(counts)
    rows = dict(
        positions=torch.cat([part.positions for part in new]),
        features=torch.cat([part.features for part in new]),
        log_scales=torch.cat(
            [part.positions.new_full((len(part.positions), 6), part.log_scale) for part in new]
        ),
        levels=torch.cat([part.levels for part in new]),
    )

    def extended(name: str, value: Tensor) -> Tensor:
        return torch.cat([value, rows.get(name, value.new_zeros(total, *value.shape[1:]))])

    edit_parameters(
        anchors,
        anchors.PARAMETERS,
        optimizer,
        extended,
        lambda state: torch.cat([state, state.new_zeros(total, *state.shape[1:])]),
    )
    for name in anchors.BUFFERS:
        buffer = getattr(anchors, name)
        buffer.data = extended(name, buffer.data)


def _prune(anchors: OctreeAnchors, optimizer: Optimizer, options: AnchorGrowthStrategy) -> int:
    often = anchors.view_count > options.interval * options.success
    dead = often & (anchors.opacity_sum < options.min_opacity * anchors.view_count)
    anchors.opacity_sum[often] = 0
    anchors.view_count[often] = 0
    count = int(dead.sum())
    if not count:
        return 0
    rows = (~dead).nonzero()[:, 0]

    def kept(name: str, value: Tensor) -> Tensor:
        value = value[rows]
        if name == "log_scales" and options.max_log_scale is not None:
            value[:, 3:] = value[:, 3:].clamp_max(options.max_log_scale)
        return value

    edit_parameters(anchors, anchors.PARAMETERS, optimizer, kept, lambda state: state[rows])
    for name in anchors.BUFFERS:
        buffer = getattr(anchors, name)
        buffer.data = buffer.data[rows]
    return count
