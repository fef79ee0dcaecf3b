"""Two-layer perceptron with an optional bounded output."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcity.models.layers.mlp import Mlp
from mmcity.registry import MODELS
from mmcity.utils.checks import check_choice


@MODELS.register_module()
class MLP(Mlp):
    """Linear, ReLU, Linear, then optionally a sigmoid and a range.

    Args:
        input_dim: Channels in.
        hidden_dim: Hidden width. Defaults to None (4 times ``input_dim``).
        output_dim: Channels out. Defaults to None (``input_dim``).
        mode: ``sigmoid`` bounds the output. Defaults to None.
        range: With ``mode``: lower and upper end of the output. Defaults to None (0, 1).
        initial_output: What the untrained module gives for every input, one number or one per
            channel; the last weights start at zero. Defaults to None (PyTorch's
            initialisation).
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int | None = None,
        output_dim: int | None = None,
        mode: str | None = None,
        range: tuple[float, float] | None = None,
        initial_output: float | Sequence[float] | None = None,
    ) -> None:
        hidden_dim, output_dim = hidden_dim or 4 * input_dim, output_dim or input_dim
        keys = ("layers.0", "layers.1")
        super().__init__(input_dim, hidden_dim, output_dim, keys=keys, activation=F.relu)
        check_choice("mode", mode, (None, "sigmoid"))
        if range is not None and mode is None:
            raise ValueError("mode: expected 'sigmoid' for a range, got another")
        self.mode = mode
        self.range = None if range is None else tuple(range)
        if initial_output is not None:
            self._start_at(initial_output)

    @torch.no_grad()
    def _start_at(self, output: float | Sequence[float]) -> None:
        last = self.linears[-1]
        output = torch.as_tensor(output, dtype=torch.float32).expand(last.out_features)
        if self.mode == "sigmoid":
            low, high = self.range or (0.0, 1.0)
            if not ((output > low) & (output < high)).all():
                raise ValueError(
                    f"initial_output: expected between {low} and {high}, got {output.tolist()}"
                )
            output = torch.logit((output - low) / (high - low))
        last.weight.zero_()
        last.bias.copy_(output)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., input_dim)`` to ``(..., output_dim)``."""
        x = super().forward(x)
        if self.mode == "sigmoid":
            x = x.sigmoid()
            if self.range is not None:
                low, high = self.range
                x = low + (high - low) * x
        return x
