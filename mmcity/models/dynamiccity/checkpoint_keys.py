"""Entries of published DynamicCity checkpoints beside our own."""

from collections.abc import Mapping

from torch import Tensor

#: Before the published names of a DiT; those of a VAE are ours.
DENOISER = "denoiser."


def published_weights(checkpoint: Mapping, which: str, source: str) -> dict[str, Tensor]:
    """State dict of a published file.

    Args:
        checkpoint: What the file holds.
        which: ``ema`` or ``model``; a VAE's file has no EMA weights.
        source: Name of the file, for the message.

    Raises:
        ValueError: If the file is none of theirs.
    """
    if which == "ema" and "ema" in checkpoint:
        weights = checkpoint["ema"]
    elif "model_state_dict" in checkpoint:
        weights = checkpoint["model_state_dict"]
    else:
        raise ValueError(
            f"{source}: expected a DynamicCity checkpoint with 'model_state_dict' (and 'ema'), "
            f"got keys {sorted(checkpoint)[:8]}"
        )
    return {key.removeprefix("module."): value for key, value in weights.items()}
