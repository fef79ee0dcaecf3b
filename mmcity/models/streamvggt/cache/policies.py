"""Policies by which a bounded cache keeps frames or tokens; none needs training.

All policies keep the first step, because it defines the world frame.
"""

import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcity.registry import TASK_UTILS


class CachePolicy:
    """Base of all policies.

    A policy decides on whole time steps before a new one is appended
    (:meth:`steps_to_drop`), or on single tokens after the step (``is_token_policy``; see
    :mod:`.token_policies`).
    """

    is_token_policy = False

    def max_steps(self) -> int | None:
        """Most steps ever held, None if unbounded."""
        return None

    def steps_to_drop(self, step_ids: Tensor, stored: Tensor, new: Tensor) -> Tensor:
        """Columns of ``step_ids`` to drop before the next step is appended.

        Args:
            step_ids: Numbers of the held steps ``(B, n)``; 0 is the first step.
            stored: Their descriptors ``(B, n, C)``, unit length.
            new: Descriptor of the coming step ``(B, C)``.

        Returns:
            ``(B, m)``.
        """
        return step_ids.new_empty(step_ids.shape[0], 0)

    def state_dict(self) -> dict:
        """State of the policy between steps."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Restore :meth:`state_dict`."""

    def reset(self) -> None:
        """Forget what was remembered."""


@TASK_UTILS.register_module()
class FullPolicy(CachePolicy):
    """Keep everything: the reference."""


class _RankedPolicy(CachePolicy):
    """First step plus the ``num_frames`` best ones, the newest included."""

    def __init__(self, num_frames: int) -> None:
        if num_frames < 1:
            raise ValueError(f"num_frames: expected at least 1, got {num_frames}")
        self.num_frames = num_frames

    def max_steps(self) -> int:
        return self.num_frames + 1

    def rank(self, step_ids: Tensor, stored: Tensor, new: Tensor) -> Tensor:
        """Worth of each held step ``(B, n)``."""
        raise NotImplementedError

    def steps_to_drop(self, step_ids: Tensor, stored: Tensor, new: Tensor) -> Tensor:
        excess = step_ids.shape[1] - self.num_frames  # first + num_frames - 1 fit
        if excess <= 0:
            return super().steps_to_drop(step_ids, stored, new)
        worth = self.rank(step_ids, stored, new).float()
        worth = worth.masked_fill(step_ids == 0, torch.inf)
        return worth.topk(excess, dim=1, largest=False).indices


@TASK_UTILS.register_module()
class WindowPolicy(_RankedPolicy):
    """First step and the last ``num_frames`` steps, the newest included.

    Args:
        num_frames: Window length. Defaults to 5.
    """

    def __init__(self, num_frames: int = 5) -> None:
        super().__init__(num_frames)

    def rank(self, step_ids: Tensor, stored: Tensor, new: Tensor) -> Tensor:
        """Steps by age: the oldest goes first."""
        return step_ids


@TASK_UTILS.register_module()
class KnnPolicy(_RankedPolicy):
    """First step, the newest, and the held steps most similar to it.

    Similarity is the cosine of the mean patch tokens. Dropped steps do not come back.

    Args:
        num_frames: Steps besides the first one. Defaults to 50.
    """

    def __init__(self, num_frames: int = 50) -> None:
        super().__init__(num_frames)

    def rank(self, step_ids: Tensor, stored: Tensor, new: Tensor) -> Tensor:
        """Cosine similarity of stored steps to the new one."""
        return F.cosine_similarity(stored.float(), new.float().unsqueeze(1), dim=-1)


@TASK_UTILS.register_module()
@dataclass(eq=False)
class ChunkPolicy(CachePolicy):
    """Restart the cache every ``num_frames`` steps and join the parts by similarities.

    The restarted cache sees the last ``overlap`` steps of the old part again; the Sim(3)
    between the two predictions of these steps carries the new part into the world of the
    first one. The restart itself is done by :class:`StreamSession`.

    Args:
        num_frames: Steps per chunk. Defaults to 60.
        overlap: Steps shared by neighbouring chunks. Defaults to 8.
        loop_closure: Look for places seen before and correct the chunk poses.
            Defaults to False.
        loop_similarity: Cosine of descriptors above which a place counts as seen before.
            Defaults to 0.95.
        max_keyframes: Frames kept for loop closure. Defaults to 100.
    """

    num_frames: int = 60
    overlap: int = 8
    loop_closure: bool = False
    loop_similarity: float = 0.95
    max_keyframes: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.overlap < self.num_frames:
            raise ValueError(
                f"overlap: expected at least 1 and below num_frames {self.num_frames}, got "
                f"{self.overlap}"
            )

    def max_steps(self) -> int:
        """Steps that are kept."""
        return self.num_frames


SHORT_NAMES = {
    "full": ("FullPolicy", ()),
    "window": ("WindowPolicy", ("num_frames",)),
    "knn": ("KnnPolicy", ("num_frames",)),
    "chunk": ("ChunkPolicy", ("num_frames", "overlap")),
    "diversity": ("DiversityPolicy", ("budget",)),
    "query": ("QueryPolicy", ("budget",)),
    "attention": ("AttentionPolicy", ("budget",)),
}


def build_policy(policy: CachePolicy | dict | str | None) -> CachePolicy:
    """A policy from an object, a config dict, or a short form such as ``'window(5)'``.

    Raises:
        ValueError: If a short form is not understood.
    """
    if policy is None:
        return FullPolicy()
    if isinstance(policy, CachePolicy):
        return policy
    if isinstance(policy, str):
        match = re.fullmatch(r"(\w+)(?:\(([\d\s,_]*)\))?", policy.strip())
        if match is None or match[1] not in SHORT_NAMES:
            raise ValueError(
                f"policy: expected one of {list(SHORT_NAMES)}, with arguments as in 'window(5)' "
                f"or 'chunk(60, 8)', got {policy!r}"
            )
        kind, names = SHORT_NAMES[match[1]]
        values = [int(part) for part in (match[2] or "").split(",") if part.strip()]
        if len(values) > len(names):
            raise ValueError(f"policy {match[1]!r}: expected {list(names)}, got {policy!r}")
        policy = {"type": kind, **dict(zip(names, values))}
    return TASK_UTILS.build(policy)
