"""Feed-forward parts of a transformer block."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear layers with an activation between them, and dropout behind each.

    Args:
        *widths: Channels in, between the layers, and out.
        keys: Names of the layers in state dicts; dots make modules in modules. Defaults to
            ``fc1``, ``fc2``, ...
        activation: Defaults to exact GELU.
        dropout: Share of values that training drops. Defaults to 0.0.
    """

    def __init__(
        self,
        *widths: int,
        keys: Sequence[str] | None = None,
        activation: Callable[[Tensor], Tensor] = F.gelu,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.keys = tuple(keys or (f"fc{k}" for k in range(1, len(widths))))
        self.activation, self.dropout = activation, dropout
        for key, c_in, c_out in zip(self.keys, widths, widths[1:]):
            holder, (*path, name) = self, key.split(".")
            for part in path:
                if not hasattr(holder, part):
                    holder.add_module(part, nn.Module())
                holder = getattr(holder, part)
            holder.add_module(name, nn.Linear(c_in, c_out))

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers in their order."""
        return [self.get_submodule(key) for key in self.keys]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        for key, linear in zip(self.keys, self.linears):
            x = linear(x) if key == self.keys[-1] else self.activation(linear(x))
            x = F.dropout(x, self.dropout, self.training) if self.dropout else x
        return x


class SwiGLU(nn.Module):
    """Gated feed-forward of the giant DINOv2 model; parameter names ``w12`` and ``w3``.

    The hidden width is two thirds of the nominal one, rounded up to a multiple of 8, so
    that the parameter count matches that of :class:`Mlp`.
    """

    def __init__(
        self, in_features: int, hidden_features: int, out_features: int | None = None
    ) -> None:
        super().__init__()
        hidden = (int(hidden_features * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(in_features, 2 * hidden)
        self.w3 = nn.Linear(hidden, out_features or in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        gate, value = torch.chunk(self.w12(x), 2, dim=-1)
        return self.w3(F.silu(gate) * value)
