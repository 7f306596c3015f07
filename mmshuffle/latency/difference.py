"""Measurements of the same networks side by side, as Markdown."""

from collections.abc import Mapping, Sequence

from mmshuffle.errors import UserError
from mmshuffle.reporting import markdown_table

from .report import Entry, Record, add_ratios, label, title


def difference_table(records: Mapping[str, Record], reference: str | None = None) -> str:
    """Compare the networks that all have in the same setting: two in detail, more by their spread.

    A difference of two is called one only where both figures are trusted and their intervals do not
    overlap. Ratios are to ``reference``, or to the usual network.

    Raises:
        UserError: One is emulated, or they have nothing in common.
    """
    if any(record['target']['emulated'] for record in records.values()):
        raise UserError('times of emulation are not compared: they say nothing about a device')
    found = [
        {(label(r), r['part'], title(r)): dict(r) for r in x['results']} for x in records.values()
    ]
    keys = [key for key in found[0] if all(key in results for results in found)]
    if not keys:
        raise UserError('they have no network in common at the same size and setting')
    for results in found:
        add_ratios([results[key] for key in keys], reference)
    rows = {f'{key[0]}, {key[2]}': [results[key] for results in found] for key in keys}
    bases = {entry['ratio']['to'] for entries in rows.values() for entry in entries}
    base = f'× {bases.pop() if len(bases) == 1 else "reference"}'
    return (_two if len(records) == 2 else _many)(rows, list(records), base)


def _figures(entry: Entry) -> list[tuple[float, Sequence[float] | None, bool]]:
    """Time and ratio of a result: value, interval, and whether they are trusted."""
    ratio = entry['ratio']
    time = entry['median_ms'], entry['interval_ms'], not entry['reasons']
    return [time, (ratio['value'], ratio['interval'], not ratio['reasons'])]


def _two(rows: Mapping[str, Sequence[Entry]], names: Sequence[str], base: str) -> str:
    cells = []
    for name, entries in rows.items():
        cells.append([name])
        for (mine, here, sure), (other, there, safe) in zip(*map(_figures, entries)):
            verdict = _verdict(here, there) if sure and safe else 'not known: unstable'
            cells[-1] += [f'{mine:.3f}', f'{other:.3f}', f'{other / mine - 1:+.1%}', verdict]
    head = ['network']
    for unit in ('ms', base):
        head += [*(f'{name}, {unit}' for name in names), 'change', 'second is']
    return markdown_table(head, cells)


def _verdict(first: Sequence[float], second: Sequence[float]) -> str:
    if first[0] <= second[1] and second[0] <= first[1]:
        return 'same'
    return 'faster' if second[1] < first[0] else 'slower'


def _many(rows: Mapping[str, Sequence[Entry]], names: Sequence[str], base: str) -> str:
    """Least and largest figure, and the spread: the largest over the least, minus 1."""
    cells, worst = [], [0.0, 0.0]
    for name, entries in rows.items():
        cells.append([name])
        for place, figures in enumerate(zip(*map(_figures, entries))):
            values, _, trusted = zip(*figures)
            spread = max(values) / min(values) - 1
            worst[place] = max(worst[place], spread)
            cells[-1] += [f'{min(values):.3f} to {max(values):.3f}', f'{spread:.1%}']
            cells[-1].append(f'{sum(trusted)} of {len(names)}')
    cells.append(['largest spread', '', f'{worst[0]:.1%}', '', '', f'{worst[1]:.1%}', ''])
    head = ['network', 'median, ms', 'spread', 'stable', base, 'spread', 'reliable']
    return markdown_table(head, cells)
