"""A table of a paper beside what is counted and measured here."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmshuffle.engine import shipped
from mmshuffle.errors import UserError
from mmshuffle.reporting import markdown_table

from .complexity import MULTIPLY_ADDS
from .measured import FIGURES, Latencies, Run
from .model_cost import ModelCost, count_config
from .tables import COLUMNS, Row, Table

# Costs closer than this agree; so do those that only the printed number of digits keeps apart.
TOLERANCE = 0.01
# Figures that have columns of their own, beside their counted and measured counterparts.
COMPARED = (
    *('multiply_adds_m', 'multiply_adds_g', 'parameters_m', 'top1_error', 'top1_accuracy'),
    *('coco_map', 'latency_ms'),
)


@dataclass(frozen=True)
class Compared:
    """A row with what is known of it here."""

    row: Row  # the published row
    path: Path | None = None  # its config file; None where it has none
    cost: ModelCost | None = None  # counted cost at the row's image size; None without a config
    problem: str | None = None  # why it could not be counted
    run: Run | None = None  # tested checkpoint of the config, where an accuracy is published
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # measured, by latency file
    unstable: frozenset[str] = frozenset()  # latency files that call their figure unstable

    @property
    def multiply_adds(self) -> float | None:
        """Counted multiply-adds in M."""
        return None if self.cost is None else self.cost.total.multiply_adds / 1e6

    @property
    def parameters(self) -> float | None:
        """Counted parameters in M."""
        return None if self.cost is None else self.cost.total.parameters / 1e6

    @property
    def missing(self) -> str | None:
        """Why there is no cost; None where there is one."""
        row = self.row
        if row.unbuildable:
            return f'not built: {row.unbuildable}'
        if row.suite:
            return f'built and measured by tools/latency.py --suite {row.suite}'
        if self.path is None:
            return f'{row.config} does not exist yet'
        return self.problem and f'not counted: {self.problem}'

    @property
    def measured(self) -> bool:
        """Whether the figure that the paper prints was measured, or a latency."""
        found = self.run and (self.run.top1_error, self.run.coco_map) != (None, None)
        return bool(found or self.latency_ms)


def agrees(published: tuple[float, float] | None, counted: float | None) -> bool:
    """Whether a counted figure is the published one, given with half a unit of its last digit."""
    if published is None or counted is None:
        return True
    value, rounding = published
    return abs(counted - value) <= max(rounding, TOLERANCE * value) + 1e-9


def compare(
    table: Table,
    runs: Mapping[str, Run] | None = None,
    latencies: Sequence[Latencies] = (),
    rows: Sequence[Row] | None = None,
) -> Iterator[Compared]:
    """Compare a table, or some of its rows, row by row, so that a caller can show progress.

    Tested checkpoints are given by the name of their config.
    """
    for row in table.rows if rows is None else rows:
        path = shipped.locate(row.config) if row.config else None
        if path is None:
            yield Compared(row)
            continue
        cost = problem = None
        try:
            cost = count_config(str(path), row.shape)
        except UserError as error:
            problem = str(error)
        # A run has the accuracy at the config's own image size.
        run = (runs or {}).get(path.stem) if row.has_accuracy else None
        keys = [(name, row.shape) for name in (path.stem, shipped.network(path))]
        found = {f.name: f.figures[key] for f in latencies for key in keys if key in f.figures}
        median_ms = {name: milliseconds for name, (milliseconds, _) in found.items()}
        unstable = frozenset(name for name, (_, stable) in found.items() if not stable)
        yield Compared(row, path, cost, problem, run, median_ms, unstable)


def count_states(rows: Sequence[Compared]) -> dict[str, int]:
    """How many rows there are, can be built, are counted and are measured."""
    return dict(
        rows=len(rows),
        built=sum(r.path is not None or r.row.suite is not None for r in rows),
        counted=sum(r.cost is not None for r in rows),
        measured=sum(r.measured for r in rows),
    )


def table_cells(table: Table, rows: Sequence[Compared]) -> tuple[list[str], list[list[str]]]:
    """The head and the cells of a comparison, in the columns that have something to show."""
    published, known = set(table.columns), table.is_published
    costs = published & {'multiply_adds_m', 'multiply_adds_g'}
    size = 'published' if 'parameters_m' in published else 'of the published size'
    top1, coco = published & {'top1_error', 'top1_accuracy'}, published & {'coco_map'}
    configs, counted = any(row.row.config for row in rows), any(row.cost for row in rows)
    sizes, shapes = any(row.row.parameters for row in rows), {row.row.shape for row in rows}
    files = _latency_files(rows)
    records = []
    for r in rows:
        given, printed, n = r.row.published, r.row, _number
        cells = [
            (True, 'model', printed.model),
            (configs, 'config', '-' if r.path is None else shipped.network(r.path)),
            (len(shapes) > 1, 'input', '{}x{}'.format(*printed.shape)),
            (costs, 'multiply-adds published, M', n(printed.multiply_adds, 'g')),
            (counted, 'multiply-adds counted, M', n(r.multiply_adds, '.1f')),
            (costs, 'difference', _percent(_difference(r))),
            (sizes, f'parameters {size}, M', n(printed.parameters, '.4g')),
            (sizes, 'parameters counted, M', n(r.parameters, '.2f')),
            (top1 and known, 'top-1 error published, %', n(printed.top1_error)),
            (top1, 'top-1 error measured, %', _measured(r.run, 'top1_error')),
            (coco and known, 'COCO AP published, %', n(given.get('coco_map'))),
            (coco, 'COCO AP measured, %', _measured(r.run, 'coco_map')),
            ('latency_ms' in published, 'latency published, ms', n(given.get('latency_ms'))),
        ]
        for name in files:
            text = n(r.latency_ms.get(name), '.1f') + '*' * (name in r.unstable)
            cells.append((True, f'{name}, ms', text))
        for name in table.columns:
            cells.append((name not in COMPARED, COLUMNS[name], str(given.get(name, '-'))))
        records.append({title: cell for wanted, title, cell in cells if wanted})
    return list(records[0]), [list(record.values()) for record in records]


def notes(table: Table, rows: Sequence[Compared]) -> list[str]:
    """What a reader needs to judge a comparison."""
    found = [table.note] if table.note else []
    if any(row.run and len(row.run.seeds) > 1 for row in rows):
        found.append('Measured figures of several seeds: their mean (lowest to highest).')
    if any(row.cost for row in rows):
        found.append(MULTIPLY_ADDS)
    if any(row.unstable for row in rows):
        found.append('Figures with a * are not stable: their file says why.')
    found += _grouped((row.missing, row.row.model) for row in rows)
    counted = [row for row in rows if row.cost]
    differ = 'published and counted figures differ: '
    found += _grouped(
        (r.row.difference and differ + r.row.difference, r.row.model) for r in counted
    )
    return found + [f'{line}; no reason is known.' for line in disagreements(counted)]


def to_markdown(table: Table, rows: Sequence[Compared]) -> str:
    """Format a comparison, with its notes below the table."""
    parts = [
        f'**{table.source}: {table.title}**',
        markdown_table(*table_cells(table, rows)),
        summary(rows),
        '\n'.join(f'* {note}' for note in notes(table, rows)),
    ]
    return '\n\n'.join(filter(None, parts))


def summary(rows: Sequence[Compared]) -> str:
    """How far a table is reproduced, in words."""
    text = '{rows} rows: {built} built, {counted} counted, {measured} measured.'
    return text.format(**count_states(rows))


def to_csv(table: Table, rows: Sequence[Compared]) -> str:
    """Format a comparison with everything that is known, in full precision."""
    files, records = _latency_files(rows), []
    for r in rows:
        row, total, run = r.row, r.cost and r.cost.total, r.run
        record = dict(table=table.name, model=row.model, family=row.family, config=row.config)
        record |= dict(zip(('height', 'width'), row.shape))
        record |= dict(missing=r.missing, difference=row.difference)
        record |= {f'published {name}': row.published.get(name) for name in table.columns}
        record |= {
            'counted multiply_adds': total and total.multiply_adds,
            'counted parameters': total and total.parameters,
            'multiply_adds difference %': _difference(r),
            **{f'measured {name}': run and getattr(run, name) for name, _ in FIGURES.values()},
            'seeds': run and max(len(run.seeds), 1),
            **{
                f'{name} by seed': run and '; '.join(map(str, run.by_seed(name)))
                for name in ('top1_error', 'coco_map')
            },
            'metrics file': run and run.path,
            **{f'measured latency_ms ({name})': r.latency_ms.get(name) for name in files},
            'unstable latencies': '; '.join(sorted(r.unstable)),
        }
        records.append(record)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(records[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def _latency_files(rows: Iterable[Compared]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.latency_ms))


def _difference(row: Compared) -> float | None:
    """Counted against published multiply-adds in percent."""
    if row.row.multiply_adds is None or row.multiply_adds is None:
        return None
    return 100 * (row.multiply_adds / row.row.multiply_adds[0] - 1)


def _number(value: float | tuple[float, float] | None, form: str = '') -> str:
    """A figure, without its rounding; by default with the digits it has, at least one."""
    value = value[0] if isinstance(value, tuple) else value
    return '-' if value is None else format(float(value), form)


def _measured(run: Run | None, figure: str) -> str:
    """A measured figure in percent, with its range where there are several seeds."""
    text, seeds = _number(run and getattr(run, figure), '.1f'), run.by_seed(figure) if run else []
    return f'{text} ({min(seeds):.1f} to {max(seeds):.1f})' if len(seeds) > 1 else text


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
