"""The setting that a training which does not fit should turn first."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from mmcity.engine.launch import find_hook

from .measure import Memory

__all__ = ["Setting", "first_setting", "scene_cap"]

#: Arguments of models that trade time for memory.
_CHECKPOINTING = ("gradient_checkpointing", "with_checkpoint", "with_cp")
#: Parts without a backward pass.
_FROZEN = ("teacher", "vae")
_GROWTH_HOOKS = ("DensificationHook", "AnchorGrowthHook")
_CAPS = ("max_gaussians", "max_anchors")


@dataclass(frozen=True)
class Setting:
    """A setting of a config, and what it helps against.

    Attributes:
        option: As it is typed.
        reason: Why this one.
    """

    option: str
    reason: str

    def __str__(self) -> str:
        return f"{self.option} ({self.reason})"


def _switches(value: Any, place: str) -> Iterator[str]:
    """Dotted keys of checkpointing that is off."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key in _CHECKPOINTING and part is False:
                yield f"{place}.{key}"
            elif key not in _FROZEN:
                yield from _switches(part, f"{place}.{key}")


def scene_cap(cfg: Config) -> tuple[str, int | None] | None:
    """Dotted key and value of the most Gaussians or anchors; None for models that do not grow."""
    place = next(filter(None, (find_hook(cfg, kind) for kind in _GROWTH_HOOKS)), None)
    if place is None:
        return None
    strategy = _value(cfg, f"{place}.strategy") or {}
    known = "max_anchors" if "Anchor" in str(strategy.get("type")) else "max_gaussians"
    name = next((name for name in _CAPS if name in strategy), known)
    return f"{place}.strategy.{name}", strategy.get(name)


def _value(cfg: Config, place: str) -> Any:
    value: Any = cfg
    for key in place.split("."):
        value = value[int(key)] if isinstance(value, (list, tuple)) else value.get(key)
    return value


def _is_half(cfg: Config) -> bool:
    wrapper = cfg.get("optim_wrapper") or {}
    parts = [wrapper, *(part for part in wrapper.values() if isinstance(part, Mapping))]
    return any("Precision" in str(p.get("type")) or "Amp" in str(p.get("type")) for p in parts)


def first_setting(cfg: Config, memory: Memory | None = None, gpus: int = 1) -> Setting:
    """The setting to turn first where a training runs out of memory.

    What fills the memory decides: against activations gradient checkpointing, then a smaller
    batch, then half precision; against parameters, gradients and optimiser state fewer
    Gaussians or anchors, or spreading them over the GPUs.

    Args:
        cfg: Whole config.
        memory: What is in it at the peak. Defaults to None: not known, mostly activations.
        gpus: Processes of the training. Defaults to 1.
    """
    peak = memory.peak if memory else 0
    share = memory.activations / peak if peak else 1.0
    held = f"parameters, gradients and optimiser state are {1 - share:.0%} of the peak"
    kept = f"activations are {share:.0%} of the peak" if memory else "activations fill it mostly"
    batch = (cfg.get("train_dataloader") or {}).get("batch_size", 1)
    cap = scene_cap(cfg)
    fewer = Setting(
        f"train_dataloader.batch_size={max(batch // 2, 1)} "
        "optim_wrapper.accumulative_counts=2", kept,
    )  # fmt: skip
    if cap is not None:
        place, value = cap
        bound = f"{place}={value // 2 if value else 'N'}"
        if share <= 0.5 and "ShardedScene" in str(cfg.get("model_wrapper_cfg", {}).get("type")):
            return Setting(f"--gpus {2 * gpus}, which share the anchors, or {bound}", held)
        if batch > 1 and share > 0.5:
            return Setting(f"train_dataloader.batch_size={batch // 2}", kept)
        return Setting(bound, held if share <= 0.5 else kept)
    if share <= 0.5:
        if "FullyShard" in str((cfg.get("strategy") or {}).get("type")):
            return Setting(f"--gpus {2 * gpus}", held)
        return Setting(
            "runner_type=FlexibleRunner strategy.type=FullyShardStrategy on several GPUs", held
        )
    switch = next(_switches(cfg.model, "model"), None)
    if switch is not None:
        return Setting(f"{switch}=True", kept)
    if batch > 1:
        return fewer
    if not _is_half(cfg):
        return Setting("--amp", kept)
    return Setting(
        "runner_type=FlexibleRunner strategy.type=FullyShardStrategy on several GPUs, or smaller "
        "inputs", kept,
    )  # fmt: skip
