"""Tables of numbers in the log."""

from collections.abc import Mapping

from mmengine.logging import MMLogger
from rich.console import Console
from rich.table import Table


def log_table(table: Table, width: int) -> None:
    """Write a table to the log of the run, ``width`` characters wide."""
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    MMLogger.get_current_instance().info("\n" + capture.get())


def log_columns(title: str, columns: Mapping[str, Mapping[str, float]]) -> None:
    """Write named numbers to the log, one column beside the other; some may lack numbers."""
    table = Table("metric", *columns, title=title)
    for key in dict.fromkeys(key for values in columns.values() for key in values):
        cells = (f"{v[key]:.4g}" if key in v else "" for v in columns.values())
        table.add_row(key, *cells)
    log_table(table, 100)
