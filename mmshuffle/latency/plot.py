"""Latency against image size, as a plot."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

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
    for mark, name in zip(itertools.cycle(MARKS), dict.fromkeys(map(label, entries))):
        mine = [entry for entry in entries if label(entry) == name]
        figures = [(math.prod(e['shape']) / 1e6, e['median_ms'], *e['interval_ms']) for e in mine]
        sizes, medians, *bounds = np.array(sorted(figures)).T
        axis.errorbar(sizes, medians, abs(bounds - medians), marker=mark, capsize=2, label=name)
    axis.set(xscale='log', yscale='log', xlabel='image, megapixels', ylabel='median, ms')
    axis.grid(True, which='both', alpha=0.3)
    axis.legend(fontsize=7)
