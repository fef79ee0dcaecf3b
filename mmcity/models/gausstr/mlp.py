"""Two-layer perceptron with an optional bounded output."""

from torch import Tensor, nn

from mmcity.registry import MODELS

__all__ = ["MLP"]


@MODELS.register_module()
class MLP(nn.Module):
    """Linear, ReLU, Linear, then optionally a sigmoid and a range.

    Args:
        input_dim: Channels in.
        hidden_dim: Hidden width. Defaults to None (4 times ``input_dim``).
        output_dim: Channels out. Defaults to None (``input_dim``).
        mode: ``sigmoid`` bounds the output. Defaults to None.
        range: With ``mode``: lower and upper end of the output. Defaults to None (0, 1).
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int | None = None,
        output_dim: int | None = None,
        mode: str | None = None,
        range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        if mode not in (None, "sigmoid"):
            raise ValueError(f"mode must be None or 'sigmoid', got {mode!r}")
        if range is not None and mode is None:
            raise ValueError("a range needs mode='sigmoid'")
        hidden_dim = hidden_dim or 4 * input_dim
        self.layers = nn.ModuleList(
            [nn.Linear(input_dim, hidden_dim), nn.Linear(hidden_dim, output_dim or input_dim)]
        )
        self.mode = mode
        self.range = None if range is None else tuple(range)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[1](self.layers[0](x).relu())
        if self.mode == "sigmoid":
            x = x.sigmoid()
            if self.range is not None:
                low, high = self.range
                x = low + (high - low) * x
        return x
