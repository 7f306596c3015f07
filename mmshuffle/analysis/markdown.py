"""Markdown tables."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table: the first column to the left, the others to the right.

    A bar in a cell is escaped, so that it does not start another column.
    """
    lines = [_line(head), '|---' + '|---:' * (len(head) - 1) + '|']
    return '\n'.join([*lines, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'
