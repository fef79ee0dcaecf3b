"""Networks from a local clone of a torch.hub repository, with weights by path."""

from pathlib import Path

import torch
from torch import nn

from mmcity.utils.torch_files import read_torch


def load_local_hub(
    repo: str | Path,
    entry: str,
    weights: str | Path | None = None,
    key: str | None = None,
    **kwargs,
) -> nn.Module:
    """Build an entry of a cloned repository; nothing is downloaded.

    Args:
        repo: Folder with the repository's ``hubconf.py``. Its code is run.
        entry: Name of the entry point.
        weights: State dict. Defaults to None (as the entry leaves them).
        key: Key of the state dict inside the file. Defaults to None.
        kwargs: Arguments of the entry.

    Raises:
        FileNotFoundError: If the folder or the weights are not there.
    """
    repo = Path(repo)
    if not (repo / "hubconf.py").is_file():
        raise FileNotFoundError(
            f"{repo}: expected hubconf.py, found none: give a local clone of the model's repository"
        )
    if weights is not None and not Path(weights).is_file():
        raise FileNotFoundError(f"{weights}: expected the weights, found no such file")
    network = torch.hub.load(str(repo), entry, source="local", trust_repo=True, **kwargs)
    if weights is not None:
        state = read_torch(weights)
        network.load_state_dict(state[key] if key is not None else state)
    return network.requires_grad_(False).eval()
