"""Policies that drop single tokens, layer by layer, after every step."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcity.registry import TASK_UTILS

from .kv_store import KVStore
from .policies import CachePolicy


class TokenPolicy(CachePolicy):
    """Base of the policies on tokens.

    The camera head's cache holds one entry per frame and is bounded by a window instead.

    Args:
        camera_window: Steps kept in the camera head's cache besides the first one.
            Defaults to 64.
    """

    is_token_policy = True

    def __init__(self, camera_window: int = 64) -> None:
        self.camera_window = camera_window

    def observe(self, layer: int, q: Tensor, keys: Tensor, num_special: int, frames: int) -> None:
        """Look at one layer during a step.

        Args:
            layer: Number of the layer.
            q: Queries of the new step, ``(B, heads, frames * P, head_dim)``.
            keys: All keys, the new ones last, ``(B, heads, L, head_dim)``.
            num_special: Camera and register tokens at the start of a frame.
            frames: Frames per step.
        """

    def evict(self, stores: Sequence[KVStore], first_tokens: int, new_tokens: int) -> None:
        """Drop tokens after a step.

        Args:
            stores: One per layer; the first step lies at the start, the newest at the end.
            first_tokens: Tokens of the first step.
            new_tokens: Tokens of the newest step.
        """
        raise NotImplementedError


def _split_budget(total: int, weights: Tensor) -> list[int]:
    """Whole numbers in proportion to ``weights`` whose sum is ``total``."""
    exact = weights.double() / weights.double().sum() * total
    shares = exact.floor().long()
    order = (exact - shares).argsort(descending=True)
    shares[order[: total - int(shares.sum())]] += 1
    return shares.tolist()


@TASK_UTILS.register_module()
class DiversityPolicy(TokenPolicy):
    """Keep the tokens whose keys differ most from the mean key (InfiniteVGGT, arXiv 2601.02281).

    Per layer and head, with unit keys k and their mean m over all but the first step, a
    token is worth ``-k . m``. Layers with more diverse keys get a larger share of the
    budget: ``softmax((1 - mean(k . m)) / 0.5)``. The shares are fixed when the budget is
    first exceeded, which keeps the memory constant from then on.

    Args:
        budget: Tokens of all layers together, the first step included.
            Defaults to 1,200,000.
        temperature: Of the softmax over layers. Defaults to 0.5.
        camera_window: See :class:`TokenPolicy`.
    """

    def __init__(
        self, budget: int = 1_200_000, temperature: float = 0.5, camera_window: int = 64
    ) -> None:
        super().__init__(camera_window)
        self.budget = budget
        self.temperature = temperature
        self.reset()

    def reset(self) -> None:
        """Forget the budgets of the layers."""
        self.layer_budgets: list[int] | None = None

    def state_dict(self) -> dict:
        """Budgets of the layers."""
        return {"layer_budgets": self.layer_budgets}

    def load_state_dict(self, state: dict) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.layer_budgets = state["layer_budgets"]

    @staticmethod
    def similarity(keys: Tensor) -> Tensor:
        """Cosine-like similarity of keys ``(B, heads, N, D)`` to their mean, ``(B, heads, N)``."""
        unit = F.normalize(keys.float(), dim=-1)
        return (unit * unit.mean(dim=2, keepdim=True)).sum(-1)

    def evict(self, stores: Sequence[KVStore], first_tokens: int, new_tokens: int) -> None:
        """Share the budget among the layers once, then keep each layer to its part."""
        if self.layer_budgets is None:
            if sum(store.length for store in stores) <= self.budget:
                return
            self._share_budget(stores, first_tokens)
        for store, budget in zip(stores, self.layer_budgets):
            if store.length <= budget:
                continue
            worth = -self.similarity(store.read_keys()[:, :, first_tokens:])
            kept = worth.topk(budget - first_tokens, dim=-1).indices.sort(dim=-1).values
            first = torch.arange(first_tokens, device=kept.device).expand(*kept.shape[:2], -1)
            store.keep(torch.cat([first, kept + first_tokens], dim=-1))

    def _share_budget(self, stores: Sequence[KVStore], first_tokens: int) -> None:
        free = self.budget - first_tokens * len(stores)
        if free < len(stores):
            raise ValueError(
                f"budget: expected tokens beside the first step's {first_tokens} in each of "
                f"{len(stores)} layers, got {self.budget}"
            )
        diversity = torch.stack(
            [1 - self.similarity(s.read_keys()[:, :, first_tokens:]).mean() for s in stores]
        )
        shares = _split_budget(self.budget, torch.softmax(diversity / self.temperature, 0).cpu())
        # A layer needs room for the first step and at least one more token.
        self.layer_budgets = [max(share, first_tokens + 1) for share in shares]


class _MiddlePolicy(TokenPolicy):
    """Protects the first and the newest step and keeps ``budget`` tokens between them."""

    def __init__(self, budget: int | Sequence[int], camera_window: int = 64) -> None:
        super().__init__(camera_window)
        self.budget = budget

    def layer_budget(self, layer: int) -> int:
        """Tokens of a layer between the protected steps."""
        return self.budget if isinstance(self.budget, int) else self.budget[layer]

    def worth(self, layer: int, keys: Tensor) -> Tensor:
        """Worth of all tokens of a layer, ``(B, L)``."""
        raise NotImplementedError

    def after_keep(self, layer: int, index: Tensor) -> None:
        """Called with the kept token numbers ``(B, n)``."""

    def evict(self, stores: Sequence[KVStore], first_tokens: int, new_tokens: int) -> None:
        for layer, store in enumerate(stores):
            budget, length = self.layer_budget(layer), store.length
            end = length - new_tokens
            if end - first_tokens <= budget:
                continue
            worth = self.worth(layer, store.read_keys())[:, first_tokens:end]
            middle = worth.topk(budget, dim=-1).indices.sort(dim=-1).values + first_tokens
            tokens = torch.arange(length, device=middle.device).expand(len(middle), -1)
            index = torch.cat([tokens[:, :first_tokens], middle, tokens[:, end:]], dim=-1)
            store.keep(index.unsqueeze(1))
            self.after_keep(layer, index)


@TASK_UTILS.register_module()
class QueryPolicy(_MiddlePolicy):
    """Keep the tokens that the newest frame asks for (XStreamVGGT, arXiv 2601.01204).

    Queries and keys are averaged over heads; the queries are the special tokens and the
    patches mean-pooled by 16. A token is worth its mean product with these queries.

    Args:
        budget: Tokens per layer besides the protected first and newest steps; one number
            or one per layer. Defaults to 2048.
        pool: Patches pooled into one query. Defaults to 16.
        camera_window: See :class:`TokenPolicy`.
    """

    def __init__(
        self, budget: int | Sequence[int] = 2048, pool: int = 16, camera_window: int = 64
    ) -> None:
        super().__init__(budget, camera_window)
        self.pool = pool
        self.reset()

    def reset(self) -> None:
        """Forget the mean queries."""
        self._queries: dict[int, Tensor] = {}

    def observe(self, layer: int, q: Tensor, keys: Tensor, num_special: int, frames: int) -> None:
        """Keep the mean query of the newest frame."""
        queries = q.float().mean(dim=1).unflatten(1, (frames, -1))  # (B, V, P, D)
        special, patches = queries[:, :, :num_special], queries[:, :, num_special:]
        pooled = [part.mean(dim=2, keepdim=True) for part in patches.split(self.pool, dim=2)]
        # The mean over queries of (query . key) is (mean query) . key.
        self._queries[layer] = torch.cat([special, *pooled], dim=2).flatten(1, 2).mean(dim=1)

    def worth(self, layer: int, keys: Tensor) -> Tensor:
        """Similarity of keys to the mean query, ``(B, L)``."""
        return torch.einsum("bd,bld->bl", self._queries[layer], keys.float().mean(dim=1))


@TASK_UTILS.register_module()
class AttentionPolicy(_MiddlePolicy):
    """Keep the tokens that drew most attention so far (Evict3R, arXiv 2509.17650).

    The attention a token receives in a step is averaged over queries and heads and
    multiplied by the row length (a token of average weight scores 1); its worth is the
    mean of that over the steps it was exposed to.

    Args:
        budget: As in :class:`QueryPolicy`. Defaults to 2048.
        query_chunk: Queries whose attention weights are held at once. Defaults to 512.
        camera_window: See :class:`TokenPolicy`.
    """

    def __init__(
        self, budget: int | Sequence[int] = 2048, query_chunk: int = 512, camera_window: int = 64
    ) -> None:
        super().__init__(budget, camera_window)
        self.query_chunk = query_chunk
        self.reset()

    def reset(self) -> None:
        """Forget the attention that tokens received."""
        self._mass: dict[int, Tensor] = {}
        self._exposure: dict[int, Tensor] = {}

    def state_dict(self) -> dict:
        """Attention received by each token, and over how many steps."""
        return {"mass": dict(self._mass), "exposure": dict(self._exposure)}

    def load_state_dict(self, state: dict) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._mass, self._exposure = dict(state["mass"]), dict(state["exposure"])

    def observe(self, layer: int, q: Tensor, keys: Tensor, num_special: int, frames: int) -> None:
        """Add the attention of the newest frame to what each token received."""
        length = keys.shape[2]
        mass = keys.new_zeros(len(keys), length, dtype=torch.float32)
        for part in q.split(self.query_chunk, dim=2):
            logits = torch.matmul(part, keys.transpose(-1, -2).to(part.dtype))
            weights = (logits.float() / q.shape[-1] ** 0.5).softmax(dim=-1)
            mass += weights.mean(dim=1).sum(dim=1)
        mass *= length / q.shape[2]
        for table, amount in ((self._mass, mass), (self._exposure, torch.ones_like(mass))):
            if layer in table:
                old = table[layer]
                amount = amount + F.pad(old, (0, length - old.shape[1]))
            table[layer] = amount

    def worth(self, layer: int, keys: Tensor) -> Tensor:
        """Mean attention received, ``(B, L)``."""
        return self._mass[layer] / self._exposure[layer]

    def after_keep(self, layer: int, index: Tensor) -> None:
        """Keep the sums of the tokens that stay."""
        for table in (self._mass, self._exposure):
            table[layer] = table[layer].gather(1, index)
