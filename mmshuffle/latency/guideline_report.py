"""The guidelines' tables with this device's speeds beside the printed ones."""

from collections.abc import Sequence
from typing import Any

from mmshuffle.analysis import markdown

from .guidelines import Guideline, guidelines
from .record import summary_of
from .statistics import Summary


def to_markdown(entries: Sequence[dict[str, Any]]) -> str:
    """Tables 1 to 4 of the ShuffleNet V2 paper.

    Args:
        entries: Results of one setting, none of them emulated.
    """
    summaries = {entry['config']: summary_of(entry) for entry in entries}
    tables = [_table(guideline, summaries) for guideline in guidelines()]
    return '\n\n'.join(filter(None, tables))


def _table(guideline: Guideline, summaries: dict[str, Summary]) -> str:
    """A table; empty where none of its networks was measured."""
    found = [[summaries.get(network.name) for network in row.networks] for row in guideline.rows]
    if not any(map(any, found)):
        return ''
    rows = [
        [*row.label, *map(_speed, here), *(f'{speed:.1f}' for speed in row.published)]
        for row, here in zip(guideline.rows, found)
    ]
    here = [f'{column} here' for column in guideline.columns]
    paper = [f'{column} paper' for column in guideline.columns]
    table = markdown.table([*guideline.head, *here, *paper], rows)
    heading = f'### {guideline.name}: {guideline.title}'
    note = 'Images/s; in the paper with a single thread. Figures with a * are not stable.'
    return f'{heading}\n\n{note}\n\n{table}'


def _speed(summary: Summary | None) -> str:
    """Images/s of a network."""
    if summary is None:
        return '-'
    return f'{1000 / summary.median:.1f}' + ('' if summary.stable else '*')
