"""Markdown tables, and pictures by matplotlib without its global state and without a display."""

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> 'Figure':
    """Make an empty figure of a width and height in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: 'Figure', dpi: int = 150) -> bytes:
    """Draw a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi)
    return buffer.getvalue()


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table: the first column to the left, the others to the right.

    A bar in a cell is escaped, so that it does not start another column.
    """
    lines = [_line(head), '|---' + '|---:' * (len(head) - 1) + '|']
    return '\n'.join([*lines, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'
