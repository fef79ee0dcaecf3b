"""Networks that are not trained, so that they have to be given weights before they run."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmcity.utils.cli import UserError
from mmcity.utils.published_weights import random_weights_allowed

_MARK = "missing_weights"


class MissingWeightsError(UserError, RuntimeError):
    """A network that wants trained weights has random numbers."""


def freeze(network: nn.Module) -> nn.Module:
    """The network in evaluation mode without gradients, which notes what is loaded into it."""
    if not hasattr(network, _MARK):
        setattr(network, _MARK, {name for name, _ in network.named_parameters()})
        network._register_load_state_dict_pre_hook(_note_weights, with_module=True)
    return network.requires_grad_(False).eval()


def _note_weights(
    network: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *_: Any
) -> None:
    missing = getattr(network, _MARK)
    setattr(network, _MARK, {name for name in missing if prefix + name not in state_dict})


def check_loaded(network: nn.Module, name: str) -> None:
    """Refuse to run a frozen network whose weights nobody has loaded.

    ``MMCITY_RANDOM_WEIGHTS=1`` (the tools' ``--random-weights``) lets it run all the same.

    Args:
        network: From :func:`freeze`; others pass.
        name: Its place in the config, for the message.

    Raises:
        MissingWeightsError: If some of its parameters are the random numbers it was made with.
    """
    missing = getattr(network, _MARK, None)
    if not missing or random_weights_allowed():
        return
    count = sum(1 for _ in network.parameters())
    raise MissingWeightsError(
        f"{name}: expected trained weights in a network that is not trained here, got random "
        f"numbers in {len(missing)} of {count} parameters, such as {min(missing)}: name its "
        f"weights by {name}.init_cfg=dict(type='Pretrained', checkpoint=FILE), load a checkpoint "
        "that holds them, or go on with --random-weights to try things out"
    )
