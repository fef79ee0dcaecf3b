"""Memory, time and disk that a config needs, found without a GPU, data or weights."""

from .advice import Setting, first_setting
from .batches import Sizes, make_batch, sizes_of
from .dry_mode import DryMode, MemoryMeter
from .estimate import DryRun, dry_run, parse_memory
from .measure import Memory, Step, measure_prediction, measure_training

__all__ = [
    "DryMode",
    "DryRun",
    "Memory",
    "MemoryMeter",
    "Setting",
    "Sizes",
    "Step",
    "dry_run",
    "first_setting",
    "make_batch",
    "measure_prediction",
    "measure_training",
    "parse_memory",
    "sizes_of",
]
