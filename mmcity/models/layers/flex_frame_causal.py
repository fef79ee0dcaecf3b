"""Frame-causal attention as one block-sparse kernel."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=16)
def _block_mask(tokens: int, step_tokens: int, window: int | None, device: str):
    from torch.nn.attention.flex_attention import create_block_mask

    def is_seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        now, then = query // step_tokens, key // step_tokens
        seen = then <= now
        if window is not None:
            seen = seen & ((then == 0) | (then > now - window))
        return seen

    return create_block_mask(is_seen, None, None, tokens, tokens, device=device)


@lru_cache(maxsize=1)
def _compiled_kernel():
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def flex_frame_causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    step_tokens: int,
    window: int | None = None,
    compiled: bool = True,
) -> Tensor:
    """The rule of :func:`frame_causal_attention` through torch's flex attention.

    One kernel for the whole sequence, which leaves out the blocks that the rule forbids; of
    use on GPUs, where many calls per layer cost more than they save. It is compiled for every
    new size.

    Args:
        q: Queries ``(B, heads, N, head_dim)``, N a multiple of ``step_tokens``.
        k: Keys, same shape.
        v: Values, same shape.
        step_tokens: Tokens per time step.
        window: Steps seen besides the first one; None for all.
        compiled: False runs the unfused form, which holds all scores; for checks.
            Defaults to True.

    Returns:
        ``(B, heads, N, head_dim)``.

    Raises:
        ValueError: If N is no multiple of ``step_tokens``.
        NotImplementedError: If a gradient is wanted on the CPU, where the kernel has none.
    """
    tokens = q.shape[-2]
    if tokens % step_tokens:
        raise ValueError(f"tokens: expected a multiple of step_tokens {step_tokens}, got {tokens}")
    if q.device.type == "cpu" and torch.is_grad_enabled() and q.requires_grad:
        raise NotImplementedError(
            "causal_kernel: expected 'steps' for training on the CPU, got flex attention, which "
            "has no backward pass there"
        )
    mask = _block_mask(tokens, step_tokens, window, str(q.device))
    if compiled:
        return _compiled_kernel()(q, k, v, block_mask=mask)
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention(q, k, v, block_mask=mask)
