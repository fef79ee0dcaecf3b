"""Checkpoints of scenes whose anchors are spread over processes.

The file that the run points to holds all that every process has, and an index; each process
writes the rows of its tables beside it. Any number of processes reads them again, each only the
files that hold its part.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmcity.utils.torch_files import read_torch, write_torch

from .loader import CheckpointError

#: Key of the index in a checkpoint.
SHARDS = "scene_shards"
MODULE = "anchors"  # submodule whose tables are spread
OPTIMIZER = "optimizer"


def scene_tables(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Tensor]:
    """Tables with one row per anchor, and the optimiser's moments of them, on the CPU.

    Names are ``anchors.NAME`` and ``optimizer.anchors.NAME/KEY``.
    """
    anchors, tables = getattr(model, MODULE), {}
    for name in (*anchors.PARAMETERS, *anchors.BUFFERS):
        table = getattr(anchors, name)
        tables[f"{MODULE}.{name}"] = table.detach().cpu()
        state = {} if optimizer is None else optimizer.state.get(table, {})
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == table.shape and value.ndim:
                tables[f"{OPTIMIZER}.{MODULE}.{name}/{key}"] = value.detach().cpu()
    return tables


def shard_name(path: Path, rank: int, world_size: int) -> str:
    """Name of one process's file beside a checkpoint."""
    return f"{path.stem}.shard{rank}of{world_size}.pth"


def shard_files(path: str | Path) -> list[Path]:
    """Files of rows that belong to a checkpoint."""
    path = Path(path)
    return sorted(path.parent.glob(f"{path.stem}.shard*of*.pth"))


def write_shard(path: Path, tables: dict[str, Tensor], rank: int, world_size: int) -> dict:
    """Write the rows of one process; gives its entry of the index."""
    name = shard_name(path, rank, world_size)
    # The run removes older checkpoints when this one is done.
    write_torch(path.parent / name, tables, durable=True)
    return dict(file=name, rows=len(tables[f"{MODULE}.positions"]))


def read_rows(index: list[dict], folder: Path, rank: int, world_size: int) -> dict[str, Tensor]:
    """Rows that process ``rank`` of ``world_size`` takes over.

    With as many processes as wrote the checkpoint these are the rows of the same process;
    otherwise the rows of all, behind one another, are cut into equal parts.

    Raises:
        CheckpointError: If a file is missing or holds another number of rows.
    """
    counts = [entry["rows"] for entry in index]
    total = sum(counts)
    if world_size == len(index):
        first, last = sum(counts[:rank]), sum(counts[: rank + 1])
    else:
        first, last = total * rank // world_size, total * (rank + 1) // world_size
    parts: dict[str, list[Tensor]] = {}
    start = 0
    for entry in index:
        low, high = max(first - start, 0), min(last - start, entry["rows"])
        if low < high or (entry is index[-1] and not parts):
            path = folder / entry["file"]
            if not path.is_file():
                raise CheckpointError(
                    f"{path}: expected all {len(index)} shard files of the checkpoint of a "
                    "shared scene beside it, found no such file"
                )
            tables = read_torch(path, mmap=True)
            if len(tables[f"{MODULE}.positions"]) != entry["rows"]:
                raise CheckpointError(f"{path}: expected the rows of its index, got another number")
            for name, table in tables.items():
                parts.setdefault(name, []).append(table[max(low, 0) : max(high, 0)].clone())
        start += entry["rows"]
    return {name: torch.cat(tables) for name, tables in parts.items()}


def fill_rows(checkpoint: dict[str, Any], tables: dict[str, Tensor]) -> None:
    """Put tables where an ordinary checkpoint has them."""
    groups = checkpoint.get("optimizer", {}).get("param_groups", [])
    numbers = {group.get("name"): group["params"][0] for group in groups}
    for name, table in tables.items():
        if name.startswith(f"{OPTIMIZER}."):
            parameter, key = name.removeprefix(f"{OPTIMIZER}.").split("/")
            if parameter in numbers:
                checkpoint["optimizer"]["state"].setdefault(numbers[parameter], {})[key] = table
        else:
            checkpoint["state_dict"][name] = table


def replace_rows(checkpoint: dict[str, Any], scene: dict[str, Any]) -> None:
    """Before saving: an index, or the rows of all processes, instead of those of rank 0.

    Args:
        checkpoint: Changed in place; the optimiser's state is of process 0.
        scene: ``tables`` of all rows, or an ``index``.
    """
    tables = scene.get("tables")
    if tables is not None:
        fill_rows(checkpoint, tables)
        return
    checkpoint[SHARDS] = scene["index"]
    prefix = f"{MODULE}."
    groups = checkpoint.get("optimizer", {}).get("param_groups", [])
    for name in scene["names"]:
        if name.startswith(prefix):
            checkpoint["state_dict"].pop(name, None)
    for group in groups:
        if str(group.get("name")).startswith(prefix):
            number = group["params"][0]
            state = checkpoint["optimizer"]["state"].get(number, {})
            # Scalars such as the number of steps are the same everywhere.
            kept = {k: v for k, v in state.items() if not isinstance(v, Tensor) or not v.ndim}
            checkpoint["optimizer"]["state"][number] = kept


def merge_shards(checkpoint: dict[str, Any], folder: str | Path) -> dict[str, Any]:
    """An ordinary checkpoint from an index and its files; others are left as they are."""
    index = checkpoint.pop(SHARDS, None) if isinstance(checkpoint, dict) else None
    if index is not None:
        fill_rows(checkpoint, read_rows(index["shards"], Path(folder), 0, 1))
    return checkpoint
