"""Lengths of trainings: every schedule of a config follows the number of iterations."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from mmengine.config import Config

from .config_check import ConfigError

#: Parts of a config in which iterations are counted.
_PARTS = ("train_cfg", "param_scheduler", "model", "default_hooks", "custom_hooks")
#: Names of iterations, and of lengths that may be 0; regular expressions of dotted keys.
_POINTS = (
    *(r"train_cfg\.val_begin", r"param_scheduler\b.*\.(begin|end|milestones|T_max|delay)"),
    *(r"model\b.*\.\w*_(from|end|coarse)_iter", r"model\b.*\.(coarse_iter|teacher_iters)"),
    *(r"model\.(sh_degree_interval|feature_mask_start|depth_iterations)",),
    r".*\bstrategy\.(refine_start|refine_stop|start|stop|reset_every)",
)
#: Lengths that may not be 0.
_LENGTHS = (r"train_cfg\.val_interval", r".*\bcheckpoint\.interval", r".*\bexport\.interval")
#: Steps between two edits of a scene; the views between them are what the next one knows.
_EDITS = (r".*\bstrategy\.(refine_every|interval)",)
_FEWEST_BETWEEN_EDITS = 10
#: Lists of pairs of an iteration and what holds from it on.
_PAIRS = (r"train_cfg\.dynamic_intervals", r"model\.resolution_schedule")
#: Lengths that follow one another, from the ``begin`` beside them on.
_CHAINS = (r"param_scheduler\b.*\.periods",)


def scale_schedule(
    cfg: Config, max_iters: int, fewest_between_edits: int = _FEWEST_BETWEEN_EDITS
) -> dict[str, tuple[Any, Any]]:
    """Set the number of iterations of a training, and scale all its schedules with it, in place.

    Learning rates, growth, resolutions, losses that begin late, validations and checkpoints come
    at the same share of the training as before. A config of the right length is left as it is.

    Args:
        cfg: Config that counts iterations.
        max_iters: Number of iterations.
        fewest_between_edits: Least steps between two edits of a growing scene. Defaults to 10.

    Returns:
        Old and new value of each dotted key that has changed.

    Raises:
        ConfigError: If the number is none, or the config counts epochs.
    """
    if max_iters < 1:
        raise ConfigError(f"--max-iters: expected a whole number from 1 on, got {max_iters}")
    old = (cfg.get("train_cfg") or {}).get("max_iters")
    if old is None:
        raise ConfigError(
            f"--max-iters, --minutes: expected a config with train_cfg.max_iters, got "
            f"{cfg.filename}: for one that counts epochs give --cfg-options train_cfg.max_epochs=N"
        )
    if max_iters == old:
        return {}
    changed = []  # all are worked out before the first one is set
    for key, holder, name in _leaves({part: cfg.get(part) for part in _PARTS}):
        scale = _scaling(key, holder, fewest_between_edits)
        if scale is not None and holder[name] is not None:
            changed.append((key, holder, name, scale(holder[name], max_iters / old)))
    changed = _one_step_at_least(changed)
    changed.append(("train_cfg.max_iters", cfg.train_cfg, "max_iters", max_iters))
    found = {key: (holder[name], new) for key, holder, name, new in changed if holder[name] != new}
    for _, holder, name, new in changed:
        holder[name] = new
    if cfg.get("max_iters") == old:  # the variable of the config
        cfg.max_iters = max_iters
    return found


def _one_step_at_least(changed: Sequence[tuple]) -> list[tuple]:
    """Scaled values with ends of learning rate schedules behind their begins."""
    begins = {id(holder): new for _, holder, name, new in changed if name == "begin"}
    kept = []
    for key, holder, name, new in changed:
        if key.startswith("param_scheduler") and name in ("end", "T_max"):
            begin = begins.get(id(holder), 0) if name == "end" else 0
            new = max(new, begin + 1)
        kept.append((key, holder, name, new))
    return kept


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, holder and name of every value that is no dict and no list of dicts."""
    for name, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        here = f"{path}.{name}" if path else str(name)
        is_list = isinstance(value, (list, tuple)) and any(isinstance(v, Mapping) for v in value)
        if isinstance(value, Mapping) or is_list:
            yield from _leaves(value, here)
        else:
            yield here, node, name


def _scaling(key: str, holder: Any, fewest: int) -> Callable[[Any, float], Any] | None:
    """Function of a value and a factor for a key that counts iterations, else None."""
    if not isinstance(holder, Mapping) or holder.get("by_epoch"):
        return None

    def is_one_of(patterns: Sequence[str]) -> bool:
        return any(re.fullmatch(pattern, key) for pattern in patterns)

    if is_one_of(_POINTS):
        return _scaled
    if is_one_of(_LENGTHS):
        return lambda value, factor: value if value <= 0 else max(_scaled(value, factor), 1)
    if is_one_of(_EDITS):
        return lambda value, factor: max(_scaled(value, factor), min(value, fewest))
    if is_one_of(_PAIRS):
        return lambda value, factor: [(_scaled(start, factor), what) for start, what in value]
    if is_one_of(_CHAINS):
        begin = holder.get("begin", 0)
        return lambda value, factor: _scaled_chain(value, factor, begin)
    return None


def _scaled(value: Any, factor: float) -> Any:
    """A number of iterations, or several, times a factor."""
    if isinstance(value, (list, tuple)):
        return type(value)(_scaled(item, factor) for item in value)
    return round(value * factor)


def _scaled_chain(lengths: Sequence[int], factor: float, begin: int) -> list[int]:
    """Lengths of which the ends are scaled, so that roundings do not add up."""
    ends = [begin]
    for length in lengths:
        ends.append(ends[-1] + length)
    return [_scaled(end, factor) - _scaled(start, factor) for start, end in pairwise(ends)]
