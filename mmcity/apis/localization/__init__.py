"""Localisation of pictures in mapped scenes."""

from .localizer import Localizer
from .localizer_file import load_localizer, read_localizer_file, write_localizer_file
from .queries import localize_queries
from .report import LocalizationReport, localization_table, read_pose_file, read_report
from .result import LocalizationResult
from .tiled_localizer import TiledLocalizer

__all__ = [
    "LocalizationReport",
    "LocalizationResult",
    "Localizer",
    "TiledLocalizer",
    "load_localizer",
    "localization_table",
    "localize_queries",
    "read_localizer_file",
    "read_pose_file",
    "read_report",
    "write_localizer_file",
]
