"""A measurement as Markdown."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmshuffle.analysis.tables import load_table
from mmshuffle.engine import files, shipped
from mmshuffle.errors import UserError
from mmshuffle.reporting import markdown_table

from .guidelines import guidelines
from .layers import TYPES
from .request import GUIDELINES
from .statistics import is_stable, paired_ratio, ranks

EMULATED = (
    'EMULATED: QEMU translated the ARM code. The outputs were checked; the times say nothing about '
    'any ARM processor and are not ranked.'
)
ONE_SESSION = 'One session: the intervals do not show what differs from start to start.'
RATIOS = (
    'Ratios are of blocks of the same turn. Their intervals, from {} sessions, are for the mean of '
    'further sessions on this device: a bootstrap over sessions and turns, and no narrower than '
    "Student's interval of the sessions' ratios. Intervals of medians are a bootstrap alone: with "
    'three sessions that differ, they hold the true median in about 75 % of cases.'
)
COUNTS = (
    'COUNTS, no times: what the ARM code of the runtime executes for one inference, the same on '
    'every machine. Memory: accesses of up to 8 bytes; misses of a simulated 64 KiB (4 ways) and '
    '512 KiB (8 ways) cache, lines of 64 bytes, least recently used, nothing fetched ahead.'
)
TIMES = ('median', 'p10', 'p90', 'p99', 'min', 'mean', 'std')  # in the order of their columns
# Columns of counts, and their keys.
COUNTED = {
    'instructions': 'instructions',
    'FP/SIMD': 'fp_simd',
    'load/store': 'load_store',
    'branch': 'branch',
    'integer': 'integer',
    'accesses': 'accesses',
    'bytes': 'bytes',
    'L1 misses': 'l1_misses',
    'L2 misses': 'l2_misses',
}
# Columns of published ratios: of a paper's ``table``, of ``ms``, or ``ratios`` to a ``reference``
# (one, or the median, the least and the largest), for networks on images of ``shape``.
PUBLISHED = files.read_json(Path(__file__).with_name('published.json'))
USUAL_REFERENCE = 'shufflenetv1-x1.0-g3'  # where none is named and it was measured
Record = dict[str, Any]  # of record.py
Entry = dict[str, Any]


def to_markdown(record: Record, reference: str | None = None) -> str:
    """The whole report of a file; ``reference`` is what its ratios are to, if it was measured."""
    plain = [{key.removeprefix('emulated_'): r[key] for key in r} for r in record['results']]
    record = dict(record, results=plain)
    if not record['target']['emulated']:
        add_ratios(plain, reference)
    parts = [_head(record)]
    if record['target']['emulated'] and not record.get('counts'):
        parts.append(f'**{EMULATED}**')
    if record['problem']:
        parts.append(f'**Incomplete: {record["problem"]}**')
    tables = [_table(record, entries, reference) for entries in by_setting(record['results'])]
    counts = record.get('counts', [])
    if counts:
        tables = [COUNTS, *(_counts(entries, reference) for entries in by_setting(counts))]
    if not tables and record['gates']:
        tables = [_gates(record['gates'])]
    parts += tables
    if record['failures']:
        lines = [f'- {title(f)}: {label(f)}: {f["message"]}' for f in record['failures']]
        parts.append('Not measured:\n\n' + '\n'.join(lines))
    if record['request'].get('suite') == GUIDELINES and not record['target']['emulated']:
        for entries in by_setting(record['results']):
            parts += [f'## Guidelines: {title(entries[0])}', guideline_tables(entries)]
    for entries in by_setting(record['profiles']):
        profiles = {label(entry): entry['by_type'] for entry in entries}
        parts += [f'## Time by type of layer: {title(entries[0])}', profile_table(profiles)]
    return '\n\n'.join(parts)


def by_setting(results: Sequence[Entry]) -> list[list[Entry]]:
    """Results that may be compared: of one size and setting, but for the form of the shuffle."""
    titles = dict.fromkeys(map(title, results))
    return [[result for result in results if title(result) == name] for name in titles]


def add_ratios(results: Sequence[Entry], reference: str | None) -> None:
    """Set each result in relation to the reference of its setting: its ``ratio``."""
    for entries in by_setting(results):
        chosen = _reference(entries, reference)
        for entry in entries:
            entry['ratio'] = dict(to=label(chosen), **paired_ratio(entry, chosen))


def title(entry: Entry) -> str:
    """Size and setting in words."""
    height, width = entry['shape']
    threads = '1 thread' if entry['threads'] == 1 else f'{entry["threads"]} threads'
    return f'{height}x{width}, {entry["runtime"]}, {threads}, {entry["precision"]}'


def label(entry: Entry) -> str:
    """The network, with the form of its shuffle where that is not the native one."""
    form = entry['shuffle']
    return entry['config'] if form == 'native' else f'{entry["config"]} ({form})'


def _head(record: Record) -> str:
    device = record['device'] or {}
    target = record['target']['name']
    lines = [f'# Latency on {device.get("soc") or target}', '']
    if device:
        online = [core for core in device['cores'] if core.get('online', True)]
        kinds = sorted({str(core['kind'] or device['machine']) for core in online})
        off = len(device['cores']) - len(online)
        kinds += [f'{off} of them offline'] if off else []
        cores = f'{len(device["cores"])} cores ({", ".join(kinds)})'
        lines += [
            f'- Device: {cores}, {device["memory_mb"]} MB, {device["os"]}, kernel '
            f'{device["kernel"]}, Python {device["python"]}'
        ]
    protocol = record['request'].get('protocol')
    if protocol and record['results']:
        lines.append(
            f'- Protocol: {protocol["sessions"]} sessions, each at least {protocol["loops"]} runs '
            f'and {protocol["seconds"]:g} s a network after a warm-up of '
            f'{protocol["warmup_loops"]} runs and {protocol["warmup_seconds"]:g} s, batch 1'
        )
    if record['request'].get('mlperf'):
        lines.append(
            "- As in MLPerf's single-stream scenario, the figure is p90, of at least 1024 runs and "
            '60 s a session'
        )
    cores = record['cores']
    pinned = 'left to the system' if cores is None else ', '.join(map(str, cores))
    lines.append(f'- Target: {target}; cores: {pinned}; measured: {record["created"]}')
    return '\n'.join(lines)


def _table(record: Record, entries: Sequence[Entry], reference: str | None) -> str:
    emulated = record['target']['emulated']
    networks = {label(entry): entry for entry in entries}
    chosen = _reference(entries, reference)
    base = label(chosen)
    papers = {} if emulated else _papers(entries, chosen['config'])
    head = ['network', 'median ms', '95 % interval', 'p10', 'p90', 'p99', 'min', 'mean ± std']
    if emulated:
        head = [head[0], *(f'emulated {name}' for name in head[1:])]
    else:
        head += ['rank', f'× {base} [95 % interval]', *papers, 'the time is', 'the ratio is']
    placed = ranks(networks)
    rows = []
    for name, entry in networks.items():
        rows.append([name, *_times(entry)])
        if not emulated:
            rows[-1] += [_rank(placed[name]), ratio_cell(entry['ratio'])]
            rows[-1] += [cell(entry) for cell in papers.values()]
            rows[-1] += [verdict(entry), verdict(entry['ratio'])]
    heading = f'## {title(entries[0])} ({entries[0]["runtime"]} {entries[0]["version"]})'
    text = f'{heading}\n\n{markdown_table(head, rows)}'
    sessions = min(entry['sessions'] for entry in entries)
    if not emulated:
        text += '\n\n' + (ONE_SESSION if sessions == 1 else RATIOS.format(sessions))
    return text


def check_reference(names: Collection[str], wanted: str | None) -> None:
    """Raise :class:`UserError` where a reference is not among the networks."""
    if wanted is not None and wanted not in names:
        raise UserError(f'--reference {wanted}: give one of {", ".join(sorted(names))}')


def _reference(entries: Sequence[Entry], wanted: str | None) -> Entry:
    """The reference of a table; its first network where the wanted one could not be measured."""
    usual = [e for e in entries if _short_name(e['config']) == USUAL_REFERENCE]
    return ([e for e in entries if e['config'] == wanted] or usual or entries)[0]


def _times(entry: Entry) -> list[str]:
    median, *shown, mean, std = (_ms(entry[f'{name}_ms']) for name in TIMES)
    return [median, ' to '.join(map(_ms, entry['interval_ms'])), *shown, f'{mean} ± {std}']


def _ms(value: float) -> str:
    """Three digits, or all before the point."""
    if value >= 100:
        return f'{value:.0f}'
    return f'{value:.2f}' if value < 10 else f'{value:.1f}'


def _rank(places: tuple[int, int] | None) -> str:
    if places is None:
        return '-'
    return str(places[0]) if places[0] == places[1] else f'{places[0]} to {places[1]}'


def verdict(figure: Mapping[str, Any]) -> str:
    """The verdict on a time or a ratio, with its reasons."""
    return ': '.join(filter(None, (figure['verdict'], '; '.join(figure['reasons']))))


def ratio_cell(ratio: Mapping[str, Any]) -> str:
    """A ratio with its interval."""
    bounds = ratio['interval']
    return f'{ratio["value"]:.3f}' + (f' [{bounds[0]:.3f} to {bounds[1]:.3f}]' if bounds else '')


def _papers(entries: Sequence[Entry], reference: str) -> dict[str, Callable[[Entry], str]]:
    """Columns of published ratios that have a figure here: heading, and function to a cell."""

    def cell(column: Mapping[str, Any], entry: Entry) -> str:
        found = published_ratio(column, entry['shape'], entry['config'], reference)
        if found is None:
            return '-'
        return f'{found[0]:.2f}' + (f' [{found[1]:.2f} to {found[2]:.2f}]' if found[1:] else '')

    columns = {column['heading']: partial(cell, column) for column in PUBLISHED}
    others = [entry for entry in entries if entry['config'] != reference]
    return {heading: c for heading, c in columns.items() if any(c(e) != '-' for e in others)}


def published_ratio(
    column: Mapping[str, Any], shape: Sequence[int], config: str, reference: str
) -> Sequence[float] | None:
    """Published time of a network over that of another, as one of :data:`PUBLISHED` has it.

    Returns:
        The ratio, behind it its bounds where they are known; None where it is not published.
    """
    mine, other = _short_name(config), _short_name(reference)
    if list(shape) != column.get('shape', list(shape)):
        return None
    if 'ratios' in column:
        return column['ratios'].get(mine) if other == column['reference'] else None
    ms = column.get('ms') or {
        shipped.network(Path(row.config)): row.latency_ms
        for row in load_table(column['table']).rows
        if row.config and row.latency_ms is not None and row.shape == tuple(shape)
    }
    return [ms[mine] / ms[other]] if mine in ms and other in ms else None


def _short_name(config: str) -> str:
    """Name of a config's network, without the recipe."""
    return shipped.RECIPE.sub('', config)


def _counts(entries: Sequence[Entry], reference: str | None) -> str:
    """What one inference executes, and the share of each type of layer where it is known."""
    chosen = _reference(entries, reference)
    papers = _papers(entries, chosen['config'])
    head = ['network', *COUNTED, f'× {label(chosen)}', *papers]
    rows = []
    for entry in entries:
        found = entry['executed']
        ratio = found['instructions'] / chosen['executed']['instructions']
        cells = [f'{found[key] / 1e6:.2f}' for key in COUNTED.values()]
        rows.append([label(entry), *cells, f'{ratio:.3f}', *(c(entry) for c in papers.values())])
    heading = f'## {title(entries[0])} ({entries[0]["runtime"]} {entries[0]["version"]}), millions'
    parts = [heading, markdown_table(head, rows)]
    profiles: dict[str, dict[str, float]] = {}
    for entry in entries:
        for layer in entry['layers']:
            sums = profiles.setdefault(label(entry), {})
            sums[layer['type']] = sums.get(layer['type'], 0) + layer['instructions'] / 1e6
    if profiles:
        kinds = dict.fromkeys(kind for sums in profiles.values() for kind in sums)
        parts += ['Instructions by type of layer:', profile_table(profiles, sorted(kinds), 'M')]
    return '\n\n'.join(parts)


def _gates(gates: Sequence[Entry]) -> str:
    rows = [
        [
            f'{label(gate)}, {title(gate)}',
            str(gate['version']),
            '-' if gate['error'] is None else f'{gate["error"]:.1e}',
            f'{gate["tolerance"]:.2g}',
            'passed' if gate['passed'] else f'failed: {gate["reason"]}',
        ]
        for gate in gates
    ]
    head = ['network', 'version', 'largest difference', 'allowed', 'gate']
    return f'## Outputs against PyTorch\n\n{markdown_table(head, rows)}'


def profile_table(
    profiles: Mapping[str, Mapping[str, float]], types: Sequence[str] = TYPES, unit: str = 'ms'
) -> str:
    """Profiles, by the name of the network, as a table with columns in the order of ``types``."""
    kinds = [kind for kind in types if any(kind in profile for profile in profiles.values())]
    rows = []
    for name, profile in profiles.items():
        total = sum(profile.values())
        cells = [
            f'{profile[kind]:.3f} ({profile[kind] / total:.0%})' if kind in profile else '-'
            for kind in kinds
        ]
        rows.append([name, *cells, f'{total:.3f}'])
    return markdown_table(['network', *(f'{kind}, {unit}' for kind in kinds), f'sum, {unit}'], rows)


def guideline_tables(entries: Sequence[dict[str, Any]]) -> str:
    """Tables 1 to 4 of the ShuffleNet V2 paper, of one setting on a real device."""
    networks = {entry['config']: entry for entry in entries}
    parts = []
    for guideline in guidelines():
        found = [[networks.get(network.name) for network in r.networks] for r in guideline.rows]
        if not any(map(any, found)):
            continue
        rows = [
            [*row.label, *map(_speed, here), *(f'{speed:.1f}' for speed in row.published)]
            for row, here in zip(guideline.rows, found)
        ]
        figures = [f'{name} {where}' for where in ('here', 'paper') for name in guideline.columns]
        parts += [
            f'### {guideline.name}: {guideline.title}',
            'Images/s; in the paper with a single thread. Figures with a * are not stable.',
            markdown_table([*guideline.head, *figures], rows),
        ]
    return '\n\n'.join(parts)


def _speed(entry: Entry | None) -> str:
    """Images/s of a network."""
    if entry is None:
        return '-'
    return f'{1000 / entry["median_ms"]:.1f}' + ('' if is_stable(entry) else '*')
