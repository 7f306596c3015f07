"""A measurement as Markdown."""

from collections import Counter
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
from .statistics import paired_ratio, ranks

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
DEVICE = '- Device: {cores}, {memory_mb} MB, {os}, kernel {kernel}, Python {python}'
PROTOCOL = (
    '- Protocol: {sessions} sessions, each at least {loops} runs and {seconds:g} s a network after '
    'a warm-up of {warmup_loops} runs and {warmup_seconds:g} s, batch 1'
)
MLPERF = (
    "- As in MLPerf's single-stream scenario, the figure is p90, of at least 1024 runs and 60 s a "
    'session'
)
COUNTED = {  # columns of counts, and their keys
    name: name.lower().replace('/', '_').replace(' ', '_')
    for name in (
        *('instructions', 'FP/SIMD', 'load/store', 'branch', 'integer'),
        *('accesses', 'bytes', 'L1 misses', 'L2 misses'),
    )
}
# Columns of published ratios: of a paper's ``table``, of ``ms``, or ``ratios`` to a ``reference``
# (one, or the median, the least and the largest), for networks on images of ``shape``.
PUBLISHED = files.read_json(Path(__file__).with_name('published.json'))
USUAL_REFERENCE = 'shufflenetv1-x1.0-g3'  # where none is named and it was measured
Record = dict[str, Any]  # of record.py
Entry = dict[str, Any]
Columns = dict[str, Callable[[Entry], str]]  # of a table: the heading, and what makes a cell


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
        lines.append(DEVICE.format_map(dict(device, cores=cores)))
    protocol = record['request'].get('protocol')
    if protocol and record['results']:
        lines.append(PROTOCOL.format_map(protocol))
    if record['request'].get('mlperf'):
        lines.append(MLPERF)
    cores = record['cores']
    pinned = 'left to the system' if cores is None else ', '.join(map(str, cores))
    lines.append(f'- Target: {target}; cores: {pinned}; measured: {record["created"]}')
    return '\n'.join(lines)


def _table(record: Record, entries: Sequence[Entry], reference: str | None) -> str:
    columns = {'median ms': _time('median')}
    columns['95 % interval'] = lambda entry: ' to '.join(map(_ms, entry['interval_ms']))
    columns |= {name: _time(name) for name in ('p10', 'p90', 'p99', 'min')}
    columns['mean ± std'] = lambda entry: f'{_time("mean")(entry)} ± {_time("std")(entry)}'
    if record['target']['emulated']:
        columns = {f'emulated {name}': cell for name, cell in columns.items()}
        return _under_title(entries, {'network': label, **columns})
    chosen = _reference(entries, reference)
    placed = ranks({label(entry): entry for entry in entries})
    columns |= {
        'rank': lambda e: ' to '.join(map(str, dict.fromkeys(placed[label(e)] or '-'))),
        f'× {label(chosen)} [95 % interval]': lambda entry: ratio_cell(entry['ratio']),
        **_papers(entries, chosen['config']),
        'the time is': verdict,
        'the ratio is': lambda entry: verdict(entry['ratio']),
    }
    sessions = min(entry['sessions'] for entry in entries)
    note = ONE_SESSION if sessions == 1 else RATIOS.format(sessions)
    return f'{_under_title(entries, {"network": label, **columns})}\n\n{note}'


def _under_title(entries: Sequence[Entry], columns: Columns, unit: str = '') -> str:
    """A table of entries of one setting, under a heading."""
    first = entries[0]
    rows = [[cell(entry) for cell in columns.values()] for entry in entries]
    heading = f'## {title(first)} ({first["runtime"]} {first["version"]}){unit}'
    return f'{heading}\n\n{markdown_table(list(columns), rows)}'


def check_reference(names: Collection[str], wanted: str | None) -> None:
    """Raise :class:`UserError` where a reference is not among the networks."""
    if wanted is not None and wanted not in names:
        raise UserError(f'--reference {wanted}: give one of {", ".join(sorted(names))}')


def _reference(entries: Sequence[Entry], wanted: str | None) -> Entry:
    """The reference of a table; its first network where the wanted one could not be measured."""
    usual = [e for e in entries if _short_name(e['config']) == USUAL_REFERENCE]
    return ([e for e in entries if e['config'] == wanted] or usual or entries)[0]


def _time(name: str) -> Callable[[Entry], str]:
    return lambda entry: _ms(entry[f'{name}_ms'])


def _ms(value: float) -> str:
    """Three digits, or all before the point."""
    if value >= 100:
        return f'{value:.0f}'
    return f'{value:.2f}' if value < 10 else f'{value:.1f}'


def verdict(figure: Mapping[str, Any]) -> str:
    """The verdict on a time or a ratio, with its reasons."""
    return ': '.join(filter(None, (figure['verdict'], '; '.join(figure['reasons']))))


def ratio_cell(ratio: Mapping[str, Any]) -> str:
    """A ratio with its interval."""
    bounds = ratio['interval']
    return f'{ratio["value"]:.3f}' + (f' [{bounds[0]:.3f} to {bounds[1]:.3f}]' if bounds else '')


def _papers(entries: Sequence[Entry], reference: str) -> Columns:
    """Columns of published ratios, and of accuracies, that have a figure here."""
    columns = {column['heading']: partial(_published, column, reference) for column in PUBLISHED}
    others = [entry for entry in entries if entry['config'] != reference]
    columns = {name: cell for name, cell in columns.items() if any(cell(e) != '-' for e in others)}
    if any('accuracy' in entry for entry in entries):
        columns['int8 (against fp32)'] = _accuracy
    return columns


def _published(column: Mapping[str, Any], reference: str, entry: Entry) -> str:
    """Published time of a network over that of the reference, with bounds where they are known."""
    shape, mine, other = entry['shape'], _short_name(entry['config']), _short_name(reference)
    if 'ratios' in column:
        found = column['ratios'].get(mine) if other == column['reference'] else None
    else:
        ms = column.get('ms') or {
            shipped.network(Path(row.config)): row.latency_ms
            for row in load_table(column['table']).rows
            if row.config and row.latency_ms is not None and list(row.shape) == shape
        }
        found = [ms[mine] / ms[other]] if mine in ms and other in ms else None
    if found is None or shape != column.get('shape', shape):
        return '-'
    return f'{found[0]:.2f}' + (f' [{found[1]:.2f} to {found[2]:.2f}]' if found[1:] else '')


def _short_name(config: str) -> str:
    """Name of a config's network, without the recipe."""
    return shipped.RECIPE.sub('', config)


def _counts(entries: Sequence[Entry], reference: str | None) -> str:
    """What one inference executes, and the share of each type of layer where it is known."""
    chosen = _reference(entries, reference)
    base = chosen['executed']['instructions']
    columns = {name: partial(_millions, key) for name, key in COUNTED.items()}
    columns[f'× {label(chosen)}'] = lambda e: f'{e["executed"]["instructions"] / base:.3f}'
    columns |= _papers(entries, chosen['config'])
    parts = [_under_title(entries, {'network': label, **columns}, ', millions')]
    profiles = {label(entry): Counter() for entry in entries if entry['layers']}
    for entry in entries:
        for layer in entry['layers']:
            profiles[label(entry)][layer['type']] += layer['instructions'] / 1e6
    if profiles:
        kinds = sorted(set().union(*profiles.values()))
        parts += ['Instructions by type of layer:', profile_table(profiles, kinds, 'M')]
    return '\n\n'.join(parts)


def _accuracy(entry: Entry) -> str:
    """What int8 costs, where it is known."""
    found = entry.get('accuracy')
    if found is None:
        return '-'
    points = f'{found["int8"]:.1f} ({found["int8"] - found["fp32"]:+.1f})'
    return f'{found["name"]} {points}, {found["weights"]}'


def _millions(key: str, entry: Entry) -> str:
    return f'{entry["executed"][key] / 1e6:.2f}'


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
        columns, rows = guideline['columns'], guideline['rows']
        found = [[networks.get(network.name) for network in row['networks']] for row in rows]
        if not any(map(any, found)):
            continue
        cells = [
            [*row['label'], *map(_speed, here), *(f'{speed:.1f}' for speed in row['published'])]
            for row, here in zip(rows, found)
        ]
        figures = [f'{name} {where}' for where in ('here', 'paper') for name in columns]
        parts += [
            f'### {guideline["name"]}: {guideline["title"]}',
            'Images/s; in the paper with a single thread. Figures with a * are not stable.',
            markdown_table([*guideline['head'], *figures], cells),
        ]
    return '\n\n'.join(parts)


def _speed(entry: Entry | None) -> str:
    """Images/s of a network."""
    if entry is None:
        return '-'
    return f'{1000 / entry["median_ms"]:.1f}' + '*' * bool(entry['reasons'])
