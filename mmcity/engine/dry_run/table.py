"""Table of the GPU memory that all published configs need."""

import os
from collections.abc import Iterator
from dataclasses import astuple, replace
from fnmatch import fnmatch
from pathlib import Path

from mmengine.config import Config

from mmcity.engine.launch import load_config
from mmcity.utils.cli import find_root
from mmcity.utils.fileio import to_json, write_text

from .batches import sizes_of
from .estimate import GIB, DryRun, dry_run

__all__ = ["published_configs", "write_memory_table"]

#: Width and height of photographs, px, of published captures that the config does not tell.
CAPTURES = {
    "citygsx_campus": (5472, 3648),
    "citygsx_matrixcity": (1920, 1080),
    "citygsx_residence": (5472, 3648),
    "citygsx_sciart": (5472, 3648),
    "rap_7scenes_sfm_*": (640, 480),
    "rap_cambridge_court": (1920, 1080),
}
#: Memory of common GPUs.
CLASSES = (8, 12, 16, 24, 40, 48, 80, 141)
COLUMNS = ("config", "batch", "sizes", "parameters", "gradients", "optimizer", "activations")
COLUMNS += ("training", "prediction", "GPU")
HEAD = f"""\
# GPU memory of all configs

Written by `tools/analysis_tools/memory_table.py`; [how it is counted](gpu_memory.md). GB of 2^30
bytes on one GPU, at the batch size of the config, without the context of CUDA and workspaces. The
last column holds the smallest usual GPU that has room for those too, in training if the config
trains, else in prediction.

- Gradients and activations are those of the moment at which a training step needs most. Before the
  backward pass has filled gradients these are 0. Predictions have the batch size of the tests.
- A cell is empty where the config has no training or no test.
- Scenes have the size that the config allows at most, else 3 million Gaussians or 1 million
  anchors; smaller ones need less.
- Photographs count with the size of their data set; where neither config nor data set tells it,
  as 1600 x 1200 before the config's resize.
- Clips without a length have ten frames, of 518 x 392 where the data decide. Each further frame of
  StreamVGGT-1B takes 0.2 GB with `policy="full"`, which the evaluations use.
- In predictions of GaussTR every voxel counts as occupied.
- `streamvggt_1b_distill_fsdp` divides parameters, gradients and optimiser state by the number of
  GPUs, of which there is one here; `mmcity dry-run --gpus 8` tells its share.

| {" | ".join(COLUMNS)} |
| --- |{" ---: |" * (len(COLUMNS) - 1)}
"""


def published_configs() -> list[Path]:
    """All configs but those that others build on, relative to the root."""
    root = find_root()
    files = (root / "configs").rglob("*.py")
    return sorted(f.relative_to(root) for f in files if "_base_" not in f.parts)


def table_row(config: Path, known: dict[str, DryRun] | None = None) -> str:
    """Line of the table on a config.

    Args:
        config: Relative to the root.
        known: Results by what they depend on, to which this one is added. Defaults to None.
    """
    known = {} if known is None else known
    cfg = load_config(find_root() / config)
    photographs = _photographs_of(config)
    key = _needs(cfg, photographs)
    if key not in known:
        known[key] = dry_run(cfg, gpu_memory="1GB", image_size=photographs)
    return _line(replace(known[key], config=str(config)))


def _photographs_of(config: Path) -> tuple[int, int] | None:
    return next((size for name, size in CAPTURES.items() if fnmatch(config.stem, name)), None)


def _needs(cfg: Config, photographs: tuple[int, int] | None) -> str:
    """All that the numbers of a row depend on; scenes of one data set share it."""
    names = ("model", "optim_wrapper", "model_wrapper_cfg", "strategy")
    parts = [cfg.get(name) for name in names]
    parts += [cfg.default_hooks.get(name) for name in ("growth", "ema")]
    parts.append((cfg.get("train_cfg") or {}).get("max_iters"))
    for training, name in ((True, "train_dataloader"), (False, "test_dataloader")):
        parts.append(astuple(sizes_of(cfg, training, image_size=photographs)))
        dataset = (cfg.get(name) or {}).get("dataset") or {}
        parts += [dataset.get(key) for key in ("type", "depth_dir", "use_neighbours", "crop")]
    return to_json(parts, default=str)


def _line(found: DryRun) -> str:
    training = found.training
    names = ("parameters", "gradients", "optimizer", "activations", "peak")
    numbers = [f"{getattr(training, name) / GIB:.2f}" if training else "" for name in names]
    numbers.append(f"{found.prediction.peak / GIB:.2f}" if found.prediction else "")
    fitting = (c for c in CLASSES if replace(found, gpu_memory=c * GIB).verdict == "fits")
    sizes = found.sizes
    shape = [f"{sizes.width} x {sizes.height}"] if sizes.width else []
    shape += [f"{sizes.frames} frames"] if sizes.frames > 1 else []
    shape += [f"{found.count:,} {found.element}s"] if found.count else []
    name = found.config.removeprefix("configs/").removesuffix(".py")
    cells = [name, str(sizes.batch), ", ".join(shape), *numbers, f"{next(fitting, 'several')}"]
    return f"| {' | '.join(cells)} |"


def _lines() -> Iterator[str]:
    known: dict[str, DryRun] = {}
    for config in published_configs():
        yield table_row(config, known)


def write_memory_table(out: str | os.PathLike = "docs/user_guides/gpu_memory_table.md") -> Path:
    """Write the table of the memory that all configs need.

    Args:
        out: File. Defaults to the page of the documentation.
    """
    write_text(out, HEAD + "".join(f"{line}\n" for line in _lines()))
    return Path(out)
