"""Measurements of speed and memory, each beside a plain form of the same maths."""

from .generation import measure_generation
from .localization import measure_localization
from .ops import measure_ops, ops_tables
from .streaming import measure_streaming, plot_streaming
from .volumes import measure_volumes

__all__ = [
    "measure_generation",
    "measure_localization",
    "measure_ops",
    "measure_streaming",
    "measure_volumes",
    "ops_tables",
    "plot_streaming",
]
