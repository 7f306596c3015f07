"""The papers' tables of these networks, as data: one JSON file a paper, one row a line.

Figures are as printed, in the units of :data:`COLUMNS`; differences between columns, which anyone
can take, are left out. A table that prints several models, groups or image sizes side by side has a
row for each.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmshuffle.errors import UserError

# Every figure that a row may have: what it is, and its unit.
COLUMNS = {
    'multiply_adds_m': 'multiply-adds, M',
    'multiply_adds_g': 'multiply-adds, G',
    'parameters_m': 'parameters, M',
    'size_mb': 'size, MB',
    'top1_error': 'top-1 error, %',
    'top1_accuracy': 'top-1 accuracy, %',
    'top5_accuracy': 'top-5 accuracy, %',
    'coco_map': 'COCO AP, %',
    'latency_ms': 'latency, ms',
    'arm_images_per_s': 'ARM, images/s',
    'cpu_images_per_s': 'CPU, images/s',
    'gpu_images_per_s': 'GPU, images/s',
    'gpu_batches_per_s': 'GPU, batches/s',
    'gpu_batch_size': 'GPU, batch size',
    'arm_channels': 'ARM, channels',
    'cpu_channels': 'CPU, channels',
    'gpu_channels': 'GPU, channels',
    **{f'stage{i}_channels': f'Stage{i}, channels' for i in (2, 3, 4)},
    **{f'conv{i}_channels': f'conv{i}, channels' for i in range(1, 7)},
    'bits': 'bits',
    'compression_ratio': 'times smaller',
}


@dataclass(frozen=True)
class Row:
    """A model with its published figures.

    Exactly one of ``config``, ``suite`` and ``unbuildable`` is set.
    """

    model: str  # the paper's label, with what tells rows of one label apart
    family: str  # networks that a plot draws in one colour
    # Figures by the names of :data:`COLUMNS`, None of a config that no paper has.
    published: dict[str, float | str | None]
    shape: tuple[int, int] = (224, 224)  # height and width of the image
    config: str | None = None  # path of the config from the root of the project
    suite: str | None = None  # of tools/latency.py, for blocks that are no network
    unbuildable: str | None = None  # why nobody can build it, or not as part of this project
    pretrained: str | None = None  # config whose training gives a detector its backbone
    difference: str | None = None  # why the counted cost is not the printed one

    @property
    def multiply_adds(self) -> tuple[float, float] | None:
        """Published multiply-adds and half a unit of their last printed digit, both in M."""
        return self._printed(multiply_adds_m=1, multiply_adds_g=1000)

    @property
    def parameters(self) -> tuple[float, float] | None:
        """Published parameters and half a unit of their last printed digit, both in M.

        A printed size in MB, of 2^20 bytes, stands for parameters of 32 bits, unless others are
        printed.
        """
        if 'bits' in self.published:
            return None
        return self._printed(parameters_m=1, size_mb=2**20 / 4e6)

    def _printed(self, **units: float) -> tuple[float, float] | None:
        """The first published figure of these and half a unit of its last digit, in a unit."""
        for name, unit in units.items():
            if name in self.published:
                value = self.published[name]
                return value * unit, half_a_digit(value) * unit
        return None

    @property
    def top1_error(self) -> float | None:
        """Published top-1 error in percent."""
        if 'top1_accuracy' in self.published:
            return round(100 - self.published['top1_accuracy'], 2)
        return self.published.get('top1_error')

    @property
    def has_accuracy(self) -> bool:
        """Whether an accuracy is published, for which a network must be trained."""
        return not {'top1_error', 'top1_accuracy', 'coco_map'}.isdisjoint(self.published)

    @property
    def latency_ms(self) -> float | None:
        """Published time of one image on the slowest device of the table, in milliseconds."""
        for name in ('arm_images_per_s', 'cpu_images_per_s'):
            if name in self.published:
                return 1000 / self.published[name]
        return self.published.get('latency_ms')


@dataclass(frozen=True)
class Table:
    """A table of a paper."""

    name: str  # paper and table, such as ``shufflenet_v1/table5``
    source: str  # paper, version and number of the table
    title: str  # what it shows
    rows: tuple[Row, ...]
    note: str = ''  # what a reader must know to compare with it

    @property
    def columns(self) -> list[str]:
        """Names of the figures that its rows have, in the order of :data:`COLUMNS`."""
        return [name for name in COLUMNS if any(name in row.published for row in self.rows)]

    @property
    def is_published(self) -> bool:
        """Whether it has any figure."""
        return any(value is not None for row in self.rows for value in row.published.values())


def half_a_digit(value: float) -> float:
    """Half a unit of the last digit with which a number is printed: 0.05 of 2.3, 0.5 of 140."""
    return 0.5 * 10.0 ** -len(str(value).partition('.')[2])


@functools.cache
def load_tables() -> dict[str, Table]:
    """All tables by name."""
    tables = {}
    for path in sorted(Path(__file__).parent.glob('*.json')):
        paper = json.loads(path.read_text(encoding='utf-8'))
        for key, content in paper['tables'].items():
            name = f'{path.stem}/{key}'
            tables[name] = Table(
                name=name,
                source=f'{paper["paper"]} ({paper["reference"]}), {content["number"]}',
                title=content['title'],
                rows=tuple(
                    Row(**{**row, 'shape': tuple(row.get('shape', Row.shape))})
                    for row in content['rows']
                ),
                note=content.get('note', ''),
            )
    return tables


def load_table(name: str) -> Table:
    """One table."""
    tables = load_tables()
    if name not in tables:
        near = [key for key in tables if name and key.endswith(name.rpartition('/')[2])]
        hint = f'; near: {", ".join(near)}' if near else ''
        raise UserError(f'no table {name}: --list names them{hint}')
    return tables[name]


def select_rows(table: Table, names: Sequence[str]) -> list[Row]:
    """Rows by number from 1, or by a part of their model, in the order of the table."""
    chosen = set()
    for name in names:
        numbers = {i for i, row in enumerate(table.rows, 1) if name.lower() in row.model.lower()}
        if name.isdecimal() and 1 <= int(name) <= len(table.rows):
            numbers = {int(name)}
        if not numbers:
            models = '; '.join(f'{i} {row.model}' for i, row in enumerate(table.rows, 1))
            raise UserError(f'--rows {name}: {table.name} has no such row: {models}')
        chosen |= numbers
    return [table.rows[i - 1] for i in sorted(chosen)]
