"""Measurements of speed and memory beside plain forms of the same maths; quality of scenes."""

from .generation import measure_generation
from .localization import measure_localization
from .ops import measure_ops, ops_tables
from .scenes import compare_reports, comparison_table, scenes_table, train_scenes
from .streaming import measure_streaming, plot_streaming
from .volumes import measure_volumes

__all__ = [
    "compare_reports",
    "comparison_table",
    "measure_generation",
    "measure_localization",
    "measure_ops",
    "measure_streaming",
    "measure_volumes",
    "ops_tables",
    "plot_streaming",
    "scenes_table",
    "train_scenes",
]
