"""Distribution of synthesised views over the photographs."""

from typing import Any, NamedTuple

import numpy as np
import torch

from mmcity.registry import TASK_UTILS


class SetPlan(NamedTuple):
    """Plan of a set of synthesised views, as plain values.

    Attributes:
        number (int): Of the set; with the seed it decides all random draws.
        sources (list[int]): Photograph near which each view is drawn, in rising order.
        moved (list[bool]): False: the view stays at the pose of its photograph.
    """

    number: int
    sources: list[int]
    moved: list[bool]


@TASK_UTILS.register_module()
class UniformBudget:
    """The same number of views near every photograph, as published."""

    #: Validation metric that is watched; None for none.
    monitor: str | None = None
    #: Further arguments of :class:`ViewSynthesizer`.
    synthesizer_options: dict[str, Any] = {}

    def start(self, photographs: int, views_per_image: int, seed: int) -> None:
        """Learn the size of the scene and of a set."""
        self.photographs, self.views_per_image, self.seed = photographs, views_per_image, seed

    def plan(self, number: int) -> SetPlan:
        """Plan of a set."""
        sources = np.arange(self.photographs).repeat(self.views_per_image).tolist()
        return SetPlan(number, sources, [True] * len(sources))

    def learn_observability(self, plan: SetPlan, observability: np.ndarray) -> None:
        """Hear how well the map knows what the candidates of each view showed."""

    def learn_errors(self, plan: SetPlan, errors: torch.Tensor) -> None:
        """Hear the errors ``(S, 2)`` of a set's views at first sight."""

    def judge(self, value: float) -> str | None:
        """Hear the watched metric; a line for the log if that changed something."""

    def state_dict(self) -> dict[str, Any]:
        """State that has to survive a restart."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""


@TASK_UTILS.register_module()
class ValueBudget(UniformBudget):
    """Spends views where the pose network is weak and the map is observable.

    A photograph's share of the views of a set is proportional to weakness times observability.
    Weakness is the pose network's error on the views near that photograph when it first saw them
    (position and rotation, each relative to its mean). Observability is the share of what the
    candidates near that photograph showed which the map knows from enough photographs, see
    :class:`MapObservability`; candidates below ``min_observability`` are refused.

    As synthesis from a poor map hurts (sparse views above all), a metric of the selection split
    guards it: whenever it gets worse, fewer views of a set are perturbed, the others stay at the
    poses of their photographs, where the map was fitted. When it improves, they come back.

    Args:
        power (float): Exponent of the weakness; 0 leaves observability alone. Defaults to 1.
        floor (float): Share of the views that all photographs get alike. Defaults to 0.25.
        memory (float): Weight of what was learnt before against what the last set showed.
            Defaults to 0.5.
        max_ratio (float): Largest weakness, of the mean, so that no hopeless place takes all
            views. Defaults to 4.
        min_observability (float): Candidates below are refused. Defaults to 0.5.
        observability (dict, optional): Arguments of :class:`MapObservability`.
        monitor (str, optional): Metric of the selection split, lower is better; None for no
            guard. Defaults to ``pose/median_trans``.
        tolerance (float): Relative rise over the best value that counts as worse. Defaults to
            0.05.
        patience (int): Validations in a row that must be worse. Defaults to 2.
        back_off (float): Factor on the share of perturbed views then. Defaults to 0.5.
        min_share (float): Smallest share of perturbed views. Defaults to 0.1.
    """

    def __init__(
        self,
        power: float = 1.0,
        floor: float = 0.25,
        memory: float = 0.5,
        max_ratio: float = 4.0,
        min_observability: float = 0.5,
        observability: dict | None = None,
        monitor: str | None = "pose/median_trans",
        tolerance: float = 0.05,
        patience: int = 2,
        back_off: float = 0.5,
        min_share: float = 0.1,
    ) -> None:
        shares = dict(floor=floor, memory=memory, min_observability=min_observability)
        for name, value in {**shares, "back_off": back_off, "min_share": min_share}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: expected a number of 0 to 1, got {value}")
        if back_off == 0 or max_ratio < 1 or patience < 1 or min(power, tolerance) < 0:
            raise ValueError(
                "back_off: expected more than 0; max_ratio and patience: at least 1; power and "
                f"tolerance: at least 0; got {back_off}, {max_ratio}, {patience}, {power}, "
                f"{tolerance}"
            )
        self.power, self.floor, self.memory, self.max_ratio = power, floor, memory, max_ratio
        self.monitor, self.tolerance, self.patience = monitor, tolerance, patience
        self.back_off, self.min_share = back_off, min_share
        self.synthesizer_options = dict(
            min_observability=min_observability, observability=dict(observability or {})
        )
        #: Share of the views that are perturbed.
        self.share = 1.0
        self._best, self._worse = float("inf"), 0

    def start(self, photographs: int, views_per_image: int, seed: int) -> None:
        """See :class:`UniformBudget`."""
        super().start(photographs, views_per_image, seed)
        #: Recent error of each photograph's views, position and rotation; NaN: none seen.
        self.errors = np.full((photographs, 2), np.nan)
        self.observability = np.ones(photographs)

    def weakness(self) -> np.ndarray:
        """Recent error of each photograph ``(N,)``, mean about 1, at most ``max_ratio``."""
        known = np.isfinite(self.errors).all(1)
        if not known.any():
            return np.ones(self.photographs)
        relative = self.errors[known] / self.errors[known].mean(0).clip(1e-12)
        out = np.ones(self.photographs)
        out[known] = relative.mean(1).clip(max=self.max_ratio)
        return out

    def plan(self, number: int) -> SetPlan:
        """See :class:`UniformBudget`."""
        rng = np.random.RandomState([self.seed, number, 1])
        total = self.photographs * self.views_per_image
        value = self.weakness() ** self.power * self.observability
        value = value if value.sum() > 0 else np.ones(self.photographs)
        shares = self.floor / self.photographs + (1 - self.floor) * value / value.sum()
        # Systematic sampling: each photograph gets its share rounded up or down.
        at = (np.arange(total) + rng.uniform()) / total
        sources = np.searchsorted(shares.cumsum(), at).clip(max=self.photographs - 1)
        moved = np.zeros(total, bool)
        moved[rng.permutation(total)[: round(self.share * total)]] = True
        return SetPlan(number, sources.tolist(), moved.tolist())

    def learn_observability(self, plan: SetPlan, observability: np.ndarray) -> None:
        """See :class:`UniformBudget`; NaN for views that had no candidate."""
        sums, counts = self._by_source(plan, np.asarray(observability, float)[:, None])
        known = counts > 0
        new = sums[known, 0] / counts[known]
        old = self.observability[known]
        self.observability[known] = self.memory * old + (1 - self.memory) * new

    def learn_errors(self, plan: SetPlan, errors: torch.Tensor) -> None:
        """See :class:`UniformBudget`; NaN for views that were not seen."""
        sums, counts = self._by_source(plan, errors.double().cpu().numpy())
        known = counts > 0
        new = sums[known] / counts[known, None]
        old = np.where(np.isfinite(self.errors[known]), self.errors[known], new)
        self.errors[known] = self.memory * old + (1 - self.memory) * new

    def _by_source(self, plan: SetPlan, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums ``(N, D)`` and counts ``(N,)`` of finite rows ``(S, D)`` by photograph."""
        finite = np.isfinite(values).all(1)
        sources = np.asarray(plan.sources)[finite]
        sums = np.zeros((self.photographs, values.shape[1]))
        np.add.at(sums, sources, values[finite])
        return sums, np.bincount(sources, minlength=self.photographs).astype(float)

    def judge(self, value: float) -> str | None:
        """See :class:`UniformBudget`."""
        before = self.share
        if value <= self._best:
            self._best, self._worse = value, 0
            self.share = min(1.0, self.share / self.back_off)
        # Not a number is worse than anything.
        elif not value <= self._best * (1 + self.tolerance):
            self._worse += 1
            if self._worse >= self.patience:
                self._worse = 0
                self.share = max(self.min_share, self.share * self.back_off)
        else:
            self._worse = 0
        if self.share == before:
            return None
        return (
            f"{self.monitor} of the selection split is {value:.4g}, its best {self._best:.4g}: "
            f"{self.share:.0%} of the synthesised views are perturbed from now on"
        )

    def state_dict(self) -> dict[str, Any]:
        """See :class:`UniformBudget`."""
        return {
            "errors": torch.from_numpy(self.errors.copy()),
            "observability": torch.from_numpy(self.observability.copy()),
            "guard": [self.share, self._best, self._worse],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`UniformBudget`."""
        if len(state["errors"]) != self.photographs:
            raise ValueError(
                f"checkpoint: expected {self.photographs} photographs as in the training split "
                f"to resume, got {len(state['errors'])}"
            )
        # Resuming reads a checkpoint to the device.
        self.errors = state["errors"].cpu().numpy().copy()
        self.observability = state["observability"].cpu().numpy().copy()
        self.share, self._best, self._worse = state["guard"]
