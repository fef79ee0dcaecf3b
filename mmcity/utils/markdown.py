"""Tables for people: Markdown whose columns line up."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Lay rows out as a Markdown table, columns padded to their widest cell.

    Args:
        head: Titles of the columns.
        rows: Cells, as many per row.
    """
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells)]
    cells.insert(1, ["-" * width for width in widths])
    lines = (" | ".join(cell.ljust(w) for cell, w in zip(row, widths)) for row in cells)
    return "\n".join(f"| {line} |" for line in lines)
