"""A table of a paper beside what is counted and measured here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmshuffle.engine import shipped
from mmshuffle.errors import UserError

from .measured import Latencies, Run
from .model_cost import ModelCost, count_config
from .tables import Row, Table

# Costs closer than this agree; so do those that only the printed number of digits keeps apart.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Compared:
    """A row with what is known of it here.

    Attributes:
        row: The published row.
        path: Its config file; None where it cannot be built, or not yet.
        cost: Counted cost at the row's image size; None without a config.
        problem: Why it could not be counted.
        run: Tested checkpoint of the config, where an accuracy is published.
        latency_ms: Measured milliseconds of one image, by the name of the latency file.
        unstable: Names of the latency files that call their figure unstable.
    """

    row: Row
    path: Path | None = None
    cost: ModelCost | None = None
    problem: str | None = None
    run: Run | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    unstable: frozenset[str] = frozenset()

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
        if row.later:
            return f'not built yet: {row.later}'
        if self.path is None:
            return f'{row.config} does not exist yet'
        return self.problem and f'not counted: {self.problem}'

    @property
    def measured(self) -> bool:
        """Whether the figure that the paper prints was measured, or a latency."""
        found = self.run and (self.run.top1_error, self.run.coco_map) != (None, None)
        return bool(found or self.latency_ms)


def agrees(published: tuple[float, float] | None, counted: float | None) -> bool:
    """Whether a counted figure is the published one.

    Args:
        published: The figure and half a unit of its last printed digit.
        counted: The counted figure; with nothing to compare, they agree.
    """
    if published is None or counted is None:
        return True
    value, rounding = published
    return abs(counted - value) <= max(rounding, TOLERANCE * value) + 1e-9


def compare(
    table: Table, runs: Mapping[str, Run] | None = None, latencies: Sequence[Latencies] = ()
) -> Iterator[Compared]:
    """Compare a table, row by row, so that a caller can show progress.

    Args:
        table: The published table.
        runs: Tested checkpoints by the name of their config.
        latencies: Latency files.
    """
    for row in table.rows:
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
        found = [(file, key) for file in latencies for key in keys if key in file.median_ms]
        median_ms = {file.name: file.median_ms[key] for file, key in found}
        unstable = frozenset(file.name for file, key in found if key in file.unstable)
        yield Compared(row, path, cost, problem, run, median_ms, unstable)


def count_states(rows: Sequence[Compared]) -> dict[str, int]:
    """How many rows there are, can be built, are counted and are measured."""
    return dict(
        rows=len(rows),
        built=sum(r.path is not None for r in rows),
        counted=sum(r.cost is not None for r in rows),
        measured=sum(r.measured for r in rows),
    )
