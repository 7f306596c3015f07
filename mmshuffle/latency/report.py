"""A measurement as Markdown."""

from collections.abc import Collection, Sequence
from typing import Any

from mmshuffle.analysis import markdown
from mmshuffle.errors import UserError

from .published import PAPER_TABLES, ncnn_ratio, paper_ratio, short_name
from .record import Record, summary_of
from .statistics import Summary, ranks

EMULATED = (
    'EMULATED: QEMU translated the ARM code. The outputs were checked; the times say nothing about '
    'any ARM processor and are not ranked.'
)
SETTING = ('shape', 'runtime', 'threads', 'precision', 'shuffle')
# The reference where none is named and it was measured.
DEFAULT_REFERENCE = 'shufflenetv1-x1.0-g3'
Entry = dict[str, Any]


def to_markdown(record: Record, reference: str | None = None) -> str:
    """The whole report.

    Args:
        record: The file of a measurement.
        reference: Network that the others are set in relation to.
    """
    parts = [_head(record)]
    if record['target']['emulated']:
        parts.append(f'**{EMULATED}**')
    if record['problem']:
        parts.append(f'**Incomplete: {record["problem"]}**')
    tables = [_table(record, entries, reference) for entries in by_setting(record['results'])]
    if not tables and record['gates']:
        tables = [_gates(record['gates'])]
    parts += tables
    if record['failures']:
        lines = [f'- {title(f)}: {f["config"]}: {f["message"]}' for f in record['failures']]
        parts.append('Not measured:\n\n' + '\n'.join(lines))
    return '\n\n'.join(parts)


def by_setting(results: Sequence[Entry]) -> list[list[Entry]]:
    """Results that may be compared: of one size and setting each."""
    groups: dict[str, list[Entry]] = {}
    for result in results:
        groups.setdefault(title(result), []).append(result)
    return list(groups.values())


def title(entry: Entry) -> str:
    """Size and setting in words."""
    height, width = entry['shape']
    threads = '1 thread' if entry['threads'] == 1 else f'{entry["threads"]} threads'
    words = [f'{height}x{width}', entry['runtime'], threads, entry['precision']]
    if entry['shuffle'] != 'native':
        words.append(f'shuffle {entry["shuffle"]}')
    return ', '.join(words)


def _head(record: Record) -> str:
    device = record['device'] or {}
    target = record['target']['name']
    lines = [f'# Latency on {device.get("soc") or target}', '']
    if device:
        kinds = {str(c['kind'] or device['machine']) for c in device['cores']}
        cores = f'{len(device["cores"])} cores ({", ".join(sorted(kinds))})'
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
    summaries = {entry['config']: summary_of(entry) for entry in entries}
    chosen = _reference(summaries, reference)
    papers = {} if emulated else _papers(entries, chosen)
    head = ['network', 'median ms', '95 % interval', 'p10', 'p90', 'p99', 'min', 'mean ± std']
    if emulated:
        head = [head[0], *(f'emulated {name}' for name in head[1:])]
    else:
        head += ['rank', f'× {chosen}', *papers, 'verdict']
    placed = ranks(summaries)
    rows = []
    for entry in entries:
        summary = summaries[entry['config']]
        row = [entry['config'], *_times(summary)]
        if not emulated:
            ratio = summary.median / summaries[chosen].median
            row += [_rank(placed[entry['config']]), f'{ratio:.2f}']
            row += [*(cell(entry) for cell in papers.values()), _verdict(summary)]
        rows.append(row)
    version = entries[0]['version']
    heading = f'## {title(entries[0])} ({entries[0]["runtime"]} {version})'
    text = f'{heading}\n\n{markdown.table(head, rows)}'
    if not emulated and any(s.sessions == 1 for s in summaries.values()):
        text += '\n\nOne session: the intervals do not show what differs from start to start.'
    return text


def check_reference(names: Collection[str], wanted: str | None) -> None:
    """Refuse a reference that is not among the networks.

    Raises:
        UserError: It is not.
    """
    if wanted is not None and wanted not in names:
        raise UserError(f'--reference {wanted}: give one of {", ".join(sorted(names))}')


def _reference(names: Collection[str], wanted: str | None) -> str:
    """The reference of a table; its first network where the wanted one could not be measured."""
    if wanted in names:
        return wanted
    usual = [name for name in names if short_name(name) == DEFAULT_REFERENCE]
    return next(iter(usual or names))


def _times(s: Summary) -> list[str]:
    interval = f'{_ms(s.interval[0])} to {_ms(s.interval[1])}'
    spread = f'{_ms(s.mean)} ± {_ms(s.std)}'
    return [_ms(s.median), interval, *map(_ms, (s.p10, s.p90, s.p99, s.min)), spread]


def _ms(value: float) -> str:
    """Three digits, or all before the point."""
    if value >= 100:
        return f'{value:.0f}'
    return f'{value:.2f}' if value < 10 else f'{value:.1f}'


def _rank(places: tuple[int, int] | None) -> str:
    if places is None:
        return '-'
    return str(places[0]) if places[0] == places[1] else f'{places[0]} to {places[1]}'


def _verdict(summary: Summary) -> str:
    return 'stable' if summary.stable else f'unstable: {"; ".join(summary.reasons)}'


def _papers(entries: Sequence[Entry], reference: str) -> dict[str, Any]:
    """Columns of published ratios that have a figure here: heading, and function to a cell."""
    columns = {}
    for heading, table in PAPER_TABLES.items():

        def ratio(entry: Entry, table: str = table) -> str:
            found = paper_ratio(table, tuple(entry['shape']), entry['config'], reference)
            return '-' if found is None else f'{found:.2f}'

        columns[heading] = ratio

    def phones(entry: Entry) -> str:
        found = ncnn_ratio(tuple(entry['shape']), entry['config'], reference)
        if found is None:
            return '-'
        bounds = '' if len(found) == 1 else f' [{found[1]:.2f} to {found[2]:.2f}]'
        return f'{found[0]:.2f}{bounds}'

    columns["× in ncnn's runs on 43 ARM devices"] = phones
    return {
        heading: cell
        for heading, cell in columns.items()
        if any(cell(entry) != '-' for entry in entries if entry['config'] != reference)
    }


def _gates(gates: Sequence[Entry]) -> str:
    rows = [
        [
            f'{gate["config"]}, {title(gate)}',
            str(gate['version']),
            '-' if gate['error'] is None else f'{gate["error"]:.1e}',
            f'{gate["tolerance"]:.2g}',
            'passed' if gate['passed'] else f'failed: {gate["reason"]}',
        ]
        for gate in gates
    ]
    head = ['network', 'version', 'largest difference', 'allowed', 'gate']
    return f'## Outputs against PyTorch\n\n{markdown.table(head, rows)}'
