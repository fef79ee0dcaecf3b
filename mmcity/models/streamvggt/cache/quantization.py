"""Eight-bit storage of keys (per channel) and values (per token)."""

from dataclasses import dataclass

import torch
from torch import Tensor

#: Tokens that share one scale per key channel; channels that share one per value token.
GROUP_SIZE = 64


@dataclass(frozen=True)
class QuantFormat:
    """An eight-bit number format.

    Key scales are powers of two: a token that moves to a group with a finer scale keeps its
    exact value, so repeated regrouping does not add up rounding errors.
    """

    dtype: torch.dtype
    largest: float

    def _encode(self, scaled: Tensor) -> Tensor:
        scaled = scaled.clamp(-self.largest, self.largest)
        if not self.dtype.is_floating_point:
            scaled = scaled.round()
        return scaled.to(self.dtype)

    def encode_keys(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise one group of keys ``(..., N, D)``; returns payload and ``(..., D)`` int8."""
        peak = keys.float().abs().amax(dim=-2)
        exponent = torch.ceil(torch.log2(peak.clamp_min(1e-30) / self.largest)).clamp(-126, 126)
        payload = self._encode(keys.float() * torch.exp2(-exponent).unsqueeze(-2))
        return payload, exponent.to(torch.int8)

    def encode_values(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise values ``(..., N, D)``; returns payload and scales ``(..., N, D / group)``."""
        groups = values.float().unflatten(-1, (-1, value_group(values.shape[-1])))
        scale = groups.abs().amax(dim=-1) / self.largest
        scale = scale.clamp_min(1e-30).to(torch.bfloat16)
        payload = self._encode(groups / scale.float().unsqueeze(-1))
        return payload.flatten(-2), scale

    @staticmethod
    def decode_keys(payload: Tensor, exponent: Tensor, dtype: torch.dtype) -> Tensor:
        """Inverse of :meth:`encode_keys`, exponents given per token ``(..., N, D)``."""
        return payload.to(dtype) * torch.exp2(exponent.to(dtype))

    @staticmethod
    def decode_values(payload: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        """Inverse of :meth:`encode_values`."""
        groups = payload.to(dtype).unflatten(-1, (scale.shape[-1], -1))
        return (groups * scale.to(dtype).unsqueeze(-1)).flatten(-2)


def value_group(head_dim: int) -> int:
    """Channels of a value group: 64 where the head is a multiple of it, else the head."""
    return GROUP_SIZE if head_dim % GROUP_SIZE == 0 else head_dim


FORMATS = {"int8": QuantFormat(torch.int8, 127.0), "fp8": QuantFormat(torch.float8_e4m3fn, 448.0)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def parse_cache_dtype(name: str | torch.dtype | None) -> torch.dtype | QuantFormat | None:
    """Storage format from its name: fp32, bf16, fp16, fp8 or int8; None keeps what comes.

    Raises:
        ValueError: For any other name.
    """
    if name is None or isinstance(name, torch.dtype):
        return name
    if name in FORMATS:
        return FORMATS[name]
    if name in DTYPES:
        return DTYPES[name]
    raise ValueError(f"cache dtype: expected one of {[*DTYPES, *FORMATS]} or None, got {name!r}")
