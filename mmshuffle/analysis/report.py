"""A comparison as Markdown and as CSV."""

import csv
import functools
import io
from collections.abc import Callable, Iterable, Sequence

from mmshuffle.engine import shipped
from mmshuffle.reporting import markdown_table

from .comparison import Compared, agrees, count_states
from .complexity import MULTIPLY_ADDS
from .tables import COLUMNS, Table

# Figures that have columns of their own, beside their counted and measured counterparts.
COMPARED = (
    'multiply_adds_m',
    'multiply_adds_g',
    'parameters_m',
    'top1_error',
    'top1_accuracy',
    'coco_map',
    'latency_ms',
)
Column = tuple[str, Callable[[Compared], str]]


def to_markdown(table: Table, rows: Sequence[Compared]) -> str:
    """Format a comparison, with what a reader needs to judge it below the table."""
    columns = _columns(table, rows)
    cells = [[cell(row) for _, cell in columns] for row in rows]
    parts = [
        f'**{table.source}: {table.title}**',
        markdown_table([title for title, _ in columns], cells),
        summary(rows),
    ]
    notes = [table.note] if table.note else []
    if any(row.cost for row in rows):
        notes.append(MULTIPLY_ADDS)
    if any(row.unstable for row in rows):
        notes.append('Figures with a * are not stable: their file says why.')
    notes += _grouped((row.missing, row.row.model) for row in rows)
    counted = [row for row in rows if row.cost]
    notes += _grouped((_why_different(row), row.row.model) for row in counted)
    notes += [f'{found}; no reason is known.' for found in disagreements(counted)]
    if notes:
        parts.append('\n'.join(f'* {note}' for note in notes))
    return '\n\n'.join(parts)


def summary(rows: Sequence[Compared]) -> str:
    """How far a table is reproduced, in words."""
    states = count_states(rows)
    return (
        f'{states["rows"]} rows: {states["built"]} built, {states["counted"]} counted, '
        f'{states["measured"]} measured.'
    )


def to_csv(table: Table, rows: Sequence[Compared]) -> str:
    """Format a comparison with everything that is known, in full precision."""
    files = _latency_files(rows)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator='\n')
    writer.writerow(
        [
            *('table', 'model', 'family', 'config', 'height', 'width', 'missing', 'difference'),
            *(f'published {name}' for name in table.columns),
            *('counted multiply_adds', 'counted parameters', 'multiply_adds difference %'),
            *('measured top1_error', 'measured top5_error', 'measured coco_map', 'metrics file'),
            *(f'measured latency_ms ({name})' for name in files),
            'unstable latencies',
        ]
    )
    for r in rows:
        row, total, run = r.row, r.cost and r.cost.total, r.run
        values = [
            *(table.name, row.model, row.family, row.config, *row.shape, r.missing, row.difference),
            *(row.published.get(name) for name in table.columns),
            *((total.multiply_adds, total.parameters) if total else (None, None)),
            _difference(r),
            *((run.top1_error, run.top5_error, run.coco_map, run.path) if run else [None] * 4),
            *(r.latency_ms.get(name) for name in files),
            '; '.join(sorted(r.unstable)),
        ]
        writer.writerow('' if value is None else value for value in values)
    return stream.getvalue()


def _columns(table: Table, rows: Sequence[Compared]) -> list[Column]:
    """Choose the columns that have something to show."""
    columns: list[Column] = [('model', lambda r: r.row.model)]
    if any(row.row.config for row in rows):
        columns.append(('config', _config_name))
    if len({row.row.shape for row in rows}) > 1:
        columns.append(('input', lambda r: '{}x{}'.format(*r.row.shape)))
    columns += [*_cost_columns(table, rows), *_accuracy_columns(table)]
    if 'latency_ms' in table.columns:
        columns.append(
            ('latency published, ms', lambda r: _printed(r.row.published.get('latency_ms')))
        )
    for name in _latency_files(rows):
        columns.append((f'{name}, ms', functools.partial(_latency, name)))
    for name in table.columns:
        if name not in COMPARED:
            columns.append((COLUMNS[name], functools.partial(_as_printed, name)))
    return columns


def _cost_columns(table: Table, rows: Sequence[Compared]) -> list[Column]:
    columns: list[Column] = []
    published = {'multiply_adds_m', 'multiply_adds_g'} & set(table.columns)
    if published:
        columns.append(('multiply-adds published, M', _published_cost))
    if any(row.cost for row in rows):
        columns.append(('multiply-adds counted, M', lambda r: _number(r.multiply_adds, 1)))
    if published:
        columns.append(('difference', lambda r: _percent(_difference(r))))
    if any(row.row.parameters for row in rows):
        what = 'published' if 'parameters_m' in table.columns else 'of the published size'
        columns += [
            (f'parameters {what}, M', _published_parameters),
            ('parameters counted, M', lambda r: _number(r.parameters, 2)),
        ]
    return columns


def _accuracy_columns(table: Table) -> list[Column]:
    columns: list[Column] = []
    if {'top1_error', 'top1_accuracy'} & set(table.columns):
        columns += [
            ('top-1 error published, %', lambda r: _printed(r.row.top1_error)),
            ('top-1 error measured, %', lambda r: _number(r.run and r.run.top1_error, 1)),
        ]
    if 'coco_map' in table.columns:
        columns += [
            ('COCO AP published, %', lambda r: _printed(r.row.published.get('coco_map'))),
            ('COCO AP measured, %', lambda r: _number(r.run and r.run.coco_map, 1)),
        ]
    return columns


def _latency(name: str, row: Compared) -> str:
    return _number(row.latency_ms.get(name), 1) + ('*' if name in row.unstable else '')


def _as_printed(name: str, row: Compared) -> str:
    return str(row.row.published.get(name, '-'))


def _latency_files(rows: Iterable[Compared]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.latency_ms))


def _config_name(row: Compared) -> str:
    if row.path is None:
        return '-'
    return shipped.network(row.path)


def _published_cost(row: Compared) -> str:
    return '-' if row.row.multiply_adds is None else f'{row.row.multiply_adds[0]:g}'


def _published_parameters(row: Compared) -> str:
    return '-' if row.row.parameters is None else f'{row.row.parameters[0]:.4g}'


def _difference(row: Compared) -> float | None:
    """Counted against published multiply-adds in percent."""
    if row.row.multiply_adds is None or row.multiply_adds is None:
        return None
    return 100 * (row.multiply_adds / row.row.multiply_adds[0] - 1)


def _number(value: float | None, digits: int) -> str:
    return '-' if value is None else f'{value:.{digits}f}'


def _printed(value: float | None) -> str:
    """A published figure with the digits that it was printed with, at least one."""
    return '-' if value is None else str(float(value))


def _percent(value: float | None) -> str:
    # Adding 0 turns -0.0 into 0.0.
    return '-' if value is None else f'{round(value, 1) + 0.0:+.1f} %'


def _grouped(pairs: Iterable[tuple[str | None, str]]) -> list[str]:
    """One line a reason, with the models that it holds for."""
    models: dict[str, list[str]] = {}
    for reason, model in pairs:
        if reason:
            models.setdefault(reason, []).append(model)
    return [f'{", ".join(dict.fromkeys(names))}: {why}.' for why, names in models.items()]


def _why_different(row: Compared) -> str | None:
    return row.row.difference and f'published and counted figures differ: {row.row.difference}'


def disagreements(rows: Iterable[Compared]) -> list[str]:
    """Name the rows whose counted cost is not the printed one, without a reason in the table."""
    found = []
    for r in rows:
        for what, published, counted in (
            ('multiply-adds', r.row.multiply_adds, r.multiply_adds),
            ('parameters', r.row.parameters, r.parameters),
        ):
            if not r.row.difference and not agrees(published, counted):
                found.append(f'{r.row.model}: {what} {counted:.3f} M, printed {published[0]:g} M')
    return found
