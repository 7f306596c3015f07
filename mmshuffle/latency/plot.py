"""Latency against image size, as a plot."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmshuffle.reporting import new_figure, to_png

from .report import Record, by_setting, label, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = 'os^vDPX<>*'


def draw(record: Record) -> bytes | None:
    """Draw the medians, with their intervals.

    Returns:
        A PNG file; None where there is nothing to draw: one size only, or an emulated device.

    Raises:
        UserError: matplotlib is not installed.
    """
    sizes = {tuple(result['shape']) for result in record['results']}
    if record['target']['emulated'] or len(sizes) < 2:
        return None
    panels: dict[str, list[dict]] = {}
    for entries in by_setting(record['results']):
        panels.setdefault(title(entries[0]).partition(', ')[2], []).extend(entries)
    figure = new_figure(6.4 * len(panels), 4.8)
    device = (record['device'] or {}).get('soc') or record['target']['name']
    state = '' if record['complete'] else ' (incomplete)'
    figure.suptitle(f'{device}{state}', fontsize=10)
    for axis, (name, entries) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items()
    ):
        _draw_panel(axis, entries)
        axis.set_title(name, fontsize=9)
    return to_png(figure)


def _draw_panel(axis: 'Axes', entries: Sequence[dict]) -> None:
    for number, name in enumerate(dict.fromkeys(map(label, entries))):
        mine = sorted(
            (entry for entry in entries if label(entry) == name),
            key=lambda entry: math.prod(entry['shape']),
        )
        sizes = [math.prod(entry['shape']) / 1e6 for entry in mine]
        medians = [entry['median_ms'] for entry in mine]
        bounds = zip(*(entry['interval_ms'] for entry in mine))
        axis.errorbar(
            sizes,
            medians,
            [[abs(m - b) for m, b in zip(medians, side)] for side in bounds],
            marker=MARKS[number % len(MARKS)],
            capsize=2,
            label=name,
        )
    axis.set(xscale='log', yscale='log', xlabel='image, megapixels', ylabel='median, ms')
    axis.grid(True, which='both', alpha=0.3)
    axis.legend(fontsize=7)
