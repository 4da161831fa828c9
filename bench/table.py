"""A table on a terminal, and in Markdown."""

import importlib.util
import sys
from collections.abc import Sequence


def show(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> None:
    """Print it; the columns `left` begin at their left edge."""
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None)
        for number, name in enumerate(head):
            table.add_column(name, justify="left" if number in left else "right", no_wrap=number not in left)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    cells = [head, *rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same for a report."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)]
    return "\n".join(lines) + "\n"
