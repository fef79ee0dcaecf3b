"""Names of a CityGS-X scene in the original's files and in this toolbox."""

import numpy as np
import torch
from torch import Tensor

_BUFFERS = ("opacity_sum", "view_count")
_LOGIT_TENTH = float(np.log(0.1 / 0.9))
MLPS = ("opacity_mlp", "cov_mlp", "color_mlp", "feature_bank_mlp", "appearance")


def _numbered(columns: dict[str, np.ndarray], prefix: str) -> list[str]:
    names = [name for name in columns if name.startswith(prefix)]
    return sorted(names, key=lambda name: int(name[len(prefix) :]))


def columns_to_state(columns: dict[str, np.ndarray], origin: np.ndarray) -> dict[str, Tensor]:
    """State of the anchors from the columns of the original's PLY.

    Args:
        columns: Columns by name, ``(N,)`` each.
        origin: ``(3,)`` ``init_pos`` of ``additional_attributes.npz``.

    Returns:
        Entries of ``CityGSX.state_dict()`` below ``anchors.``; the number of levels is that of
        the deepest anchor.
    """

    def stacked(names: list[str]) -> Tensor:
        return torch.from_numpy(np.stack([columns[n] for n in names], 1).astype(np.float32))

    count = len(columns["x"])
    flat = stacked(_numbered(columns, "f_offset_"))  # (N, 3 k): axis by axis
    k = flat.shape[1] // 3
    levels = torch.from_numpy(np.asarray(columns["level"]).round().astype(np.int32))
    n_levels = int(levels.max()) + 1 if count else 1
    zeros = torch.zeros(count, k)
    state = dict(
        positions=stacked(["x", "y", "z"]),
        offsets=flat.reshape(count, 3, k).transpose(1, 2).contiguous(),
        features=stacked(_numbered(columns, "f_anchor_feat_")),
        log_scales=stacked(_numbered(columns, "scale_")),
        levels=levels,
        extra_levels=torch.from_numpy(np.asarray(columns["extra_level"], dtype=np.float32)),
        gradient_sum=zeros,
        gradient_count=zeros.clone(),
        origin=torch.as_tensor(np.asarray(origin, dtype=np.float32).reshape(3)),
        voxel_size=torch.tensor(float(columns["info"][0])),
        standard_dist=torch.tensor(float(columns["info"][1])),
        n_levels=torch.tensor(n_levels),
        init_level=torch.tensor(n_levels // 2),
        **{name: torch.zeros(count) for name in _BUFFERS},
    )
    return {f"anchors.{name}": value for name, value in state.items()}


def state_to_columns(state: dict[str, Tensor]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns of the original's PLY in its order, and ``init_pos``; see
    :func:`columns_to_state`."""
    a = {k.removeprefix("anchors."): v for k, v in state.items() if k.startswith("anchors.")}
    count = len(a["positions"])
    if count < 2:
        raise ValueError(f"anchors: expected at least 2 in the original's file, got {count}")
    info = torch.zeros(count)
    info[0], info[1] = a["voxel_size"], a["standard_dist"]
    offsets = a["offsets"].transpose(1, 2).reshape(count, -1)
    columns = dict(zip("xyz", a["positions"].T))
    columns.update(level=a["levels"], extra_level=a["extra_levels"], info=info)
    columns.update({f"f_offset_{i}": column for i, column in enumerate(offsets.T)})
    columns.update({f"f_anchor_feat_{i}": c for i, c in enumerate(a["features"].T)})
    columns["opacity"] = torch.full((count,), _LOGIT_TENTH)
    columns.update({f"scale_{i}": column for i, column in enumerate(a["log_scales"].T)})
    columns.update({f"rot_{i}": torch.full((count,), float(i == 0)) for i in range(4)})
    arrays = {name: value.detach().cpu().float().numpy() for name, value in columns.items()}
    return arrays, a["origin"].cpu().numpy()


def mlps_to_state(checkpoint: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """State of the decoder from ``checkpoints.pth``.

    Raises:
        ValueError: If a network is missing or unknown.
    """
    missing = [name for name in MLPS[:3] if name not in checkpoint]
    unknown = sorted(set(checkpoint) - set(MLPS))
    if missing or unknown:
        raise ValueError(f"checkpoints.pth: expected networks {missing} too, got unknown {unknown}")
    return {
        f"decoder.{name}.{key}": value
        for name, part in checkpoint.items()
        for key, value in part.items()
    }


def state_to_mlps(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The inverse of :func:`mlps_to_state`."""
    out: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        if key.startswith("decoder."):
            _, name, rest = key.split(".", 2)
            out.setdefault(name, {})[rest] = value
    return out
