"""The memory of a stream: keys and values of all layers, bounded by a policy."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcity.models.layers import Attend
from mmcity.utils.checks import check_choice

from .kv_store import KVStore
from .policies import CachePolicy, WindowPolicy, build_policy

CAMERA_CACHE_MODES = ("per_iteration", "upstream")


class _StepTable:
    """Numbers and descriptors of the held steps, in the order of the pages."""

    def __init__(self) -> None:
        self.ids: Tensor | None = None  # (B, n)
        self.descriptors: Tensor | None = None  # (B, n, C)

    def append(self, number: int, descriptor: Tensor) -> None:
        ids = torch.full((len(descriptor), 1), number, device=descriptor.device)
        if self.ids is None:
            self.ids, self.descriptors = ids, descriptor[:, None]
        else:
            self.ids = torch.cat([self.ids, ids], dim=1)
            self.descriptors = torch.cat([self.descriptors, descriptor[:, None]], dim=1)

    def remove(self, page: Tensor) -> None:
        entries = torch.arange(len(page), device=page.device)
        for name in ("ids", "descriptors"):
            table = getattr(self, name).clone()
            table[entries, page] = getattr(self, name)[:, -1]
            setattr(self, name, table[:, :-1])


def _remove_steps(
    table: _StepTable, columns: Tensor, stores: list[KVStore], page_tokens: int
) -> None:
    """Drop steps (columns of the table, ``(B, m)``) from a table and its stores."""
    # From the back, so that the page moved into a hole is never one that is due itself.
    for page in columns.sort(dim=1, descending=True).values.unbind(1):
        for store in stores:
            store.remove_page(page, page_tokens)
        table.remove(page)


class StreamCache:
    """Keys and values of the aggregator's global blocks and of the camera trunk.

    Keys are stored after norm and rotation (positions are spatial only), so nothing is ever
    recomputed. One instance serves one stream, or a batch of streams in lockstep.

    Args:
        num_layers: Global blocks.
        camera_layers: Blocks of the camera trunk.
        camera_iterations: Refinement passes of the camera head.
        policy: What to keep; see :func:`build_policy`. Defaults to everything.
        dtype: Storage of the aggregator's part, see :class:`KVStore`. The camera part is
            small and keeps the camera head's float32. Defaults to None (as computed).
        camera_cache_mode: ``'per_iteration'`` keeps the refinement passes apart, which
            equals the full pass; ``'upstream'`` lets them share one cache as the published
            code does. Defaults to ``'per_iteration'``.
        max_steps: Steps to allocate ahead where the policy sets no bound.
            Defaults to None (grow by halves).
    """

    def __init__(
        self,
        num_layers: int,
        camera_layers: int,
        camera_iterations: int,
        policy: CachePolicy | dict | str | None = None,
        dtype: str | torch.dtype | None = None,
        camera_cache_mode: str = "per_iteration",
        max_steps: int | None = None,
    ) -> None:
        check_choice("camera_cache_mode", camera_cache_mode, CAMERA_CACHE_MODES)
        self.policy = build_policy(policy)
        self.camera_cache_mode = camera_cache_mode
        self.camera_iterations = camera_iterations
        self._max_steps = self.policy.max_steps() or max_steps or 0
        self.layers = [KVStore(dtype) for _ in range(num_layers)]
        shared = camera_cache_mode == "upstream"
        self.camera = [
            [KVStore() for _ in range(1 if shared else camera_iterations)]
            for _ in range(camera_layers)
        ]
        self._camera_policy = self.policy
        if self.policy.is_token_policy:
            self._camera_policy = WindowPolicy(self.policy.camera_window)
        self.reset()

    def reset(self) -> None:
        """Start a new sequence; the memory is kept."""
        self.num_steps = 0
        self.step_frames = 0
        self.step_tokens = 0
        self._num_special = 0
        self._table = _StepTable()
        self._camera_table = _StepTable()
        self.policy.reset()
        for store in [*self.layers, *self._camera_stores]:
            store.clear()

    @property
    def _camera_stores(self) -> list[KVStore]:
        return [store for stores in self.camera for store in stores]

    @property
    def is_empty(self) -> bool:
        """Whether the next step is the first one."""
        return self.num_steps == 0

    @property
    def step_ids(self) -> Tensor | None:
        """Numbers of the steps held ``(B, n)``; None for policies on tokens or when empty."""
        return None if self.policy.is_token_policy else self._table.ids

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens held."""
        return sum(store.nbytes for store in [*self.layers, *self._camera_stores])

    @property
    def allocated_nbytes(self) -> int:
        """Bytes of the memory held."""
        return sum(store.allocated_nbytes for store in [*self.layers, *self._camera_stores])

    def begin_step(
        self, descriptor: Tensor, frames: int, frame_tokens: int, num_special: int
    ) -> None:
        """Make room for a step.

        Args:
            descriptor: What the step looks like, ``(B, C)``.
            frames: Frames of the step; the same in all steps.
            frame_tokens: Tokens per frame; the same in all steps.
            num_special: Camera and register tokens of a frame.
        """
        step_tokens = frames * frame_tokens
        if self.is_empty:
            self.step_frames, self.step_tokens = frames, step_tokens
            self._num_special = num_special
            self._allocate()
        elif (frames, step_tokens) != (self.step_frames, self.step_tokens):
            raise ValueError(
                f"stream: expected {self.step_frames} frames and {self.step_tokens} tokens per "
                f"step as in the beginning, got {frames} and {step_tokens}: keep all frames of a "
                "stream at one size, else start a new cache"
            )
        elif len(descriptor) != len(self._camera_table.ids):
            raise ValueError(
                f"stream: expected batch size {len(self._camera_table.ids)} as in the beginning, "
                f"got {len(descriptor)}"
            )
        else:
            if not self.policy.is_token_policy:
                columns = self._due(self.policy, self._table, descriptor)
                _remove_steps(self._table, columns, self.layers, self.step_tokens)
            columns = self._due(self._camera_policy, self._camera_table, descriptor)
            self._remove_camera_steps(columns)
        if not self.policy.is_token_policy:
            self._table.append(self.num_steps, descriptor)
        self._camera_table.append(self.num_steps, descriptor)

    @staticmethod
    def _due(policy: CachePolicy, table: _StepTable, descriptor: Tensor) -> Tensor:
        return policy.steps_to_drop(table.ids, table.descriptors, descriptor)

    def _allocate(self) -> None:
        for store in self.layers:
            store.capacity = self._max_steps * self.step_tokens
        camera_steps = self._camera_policy.max_steps() or self._max_steps
        for store in self._camera_stores:
            store.capacity = camera_steps * self._camera_page

    @property
    def _camera_page(self) -> int:
        """Entries of one step in one store of the camera part."""
        shared = self.camera_cache_mode == "upstream"
        return self.step_frames * (self.camera_iterations if shared else 1)

    def _remove_camera_steps(self, columns: Tensor) -> None:
        _remove_steps(self._camera_table, columns, self._camera_stores, self._camera_page)

    def attend(self, layer: int) -> Attend:
        """Attention of a global block over all held tokens; stores the new ones."""
        return partial(self._attend, layer)

    def _attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        store = self.layers[layer]
        store.append(k, v)
        keys, values = store.read(q.dtype)
        if self.policy.is_token_policy:
            self.policy.observe(layer, q, keys, self._num_special, self.step_frames)
        return F.scaled_dot_product_attention(q, keys, values)

    def camera_attend(self, iteration: int, layer: int) -> Attend:
        """Attention of a camera trunk block in one refinement pass."""
        stores = self.camera[layer]
        store = stores[iteration % len(stores)]

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            store.append(k, v)
            return F.scaled_dot_product_attention(q, *store.read(q.dtype))

        return attend

    def end_step(self) -> None:
        """Count the step and let policies on tokens evict."""
        self.num_steps += 1
        if self.policy.is_token_policy:
            self.policy.evict(self.layers, self.step_tokens, self.step_tokens)

    def evict(self, steps: list[int]) -> None:
        """Drop steps by number (policies on frames only); unknown numbers are an error."""
        if self.policy.is_token_policy:
            raise ValueError("policy: expected one on frames to drop steps, got one on tokens")
        for step in steps:
            for table, stores, page in (
                (self._table, self.layers, self.step_tokens),
                (self._camera_table, self._camera_stores, self._camera_page),
            ):
                found = table.ids == step
                if not bool(found.any(dim=1).all()):
                    raise ValueError(f"step: expected one of {table.ids.tolist()}, got {step}")
                _remove_steps(table, found.long().argmax(1, keepdim=True), stores, page)

    def state_dict(self) -> dict:
        """Everything needed to go on later, as plain containers of tensors and numbers."""
        return {
            "num_steps": self.num_steps,
            "step_frames": self.step_frames,
            "step_tokens": self.step_tokens,
            "num_special": self._num_special,
            "camera_cache_mode": self.camera_cache_mode,
            "policy": self.policy.state_dict(),
            "policy_type": type(self.policy).__name__,
            "tables": [
                {"ids": table.ids, "descriptors": table.descriptors}
                for table in (self._table, self._camera_table)
            ],
            "layers": [store.state_dict() for store in self.layers],
            "camera": [store.state_dict() for store in self._camera_stores],
        }

    def load_state_dict(self, state: dict, device: torch.device | str | None = None) -> None:
        """Restore :meth:`state_dict`, optionally on another device.

        Raises:
            ValueError: If the state is of another policy, camera cache mode or depth.
        """
        for name, own in (
            ("policy_type", type(self.policy).__name__),
            ("camera_cache_mode", self.camera_cache_mode),
        ):
            if state[name] != own:
                raise ValueError(f"{name}: expected {own!r} of the cache, got {state[name]!r}")
        if len(state["layers"]) != len(self.layers):
            raise ValueError(
                f"saved state: expected {len(self.layers)} layers, got {len(state['layers'])}"
            )
        self.reset()
        self.num_steps = state["num_steps"]
        self.step_frames, self.step_tokens = state["step_frames"], state["step_tokens"]
        self._num_special = state["num_special"]
        self.policy.load_state_dict(state["policy"])
        for table, saved in zip((self._table, self._camera_table), state["tables"]):
            for name, value in saved.items():
                setattr(table, name, None if value is None else value.to(device))
        self._allocate()
        for store, saved in zip(self.layers, state["layers"]):
            store.load_state_dict(saved, device)
        for store, saved in zip(self._camera_stores, state["camera"]):
            store.load_state_dict(saved, device)
