"""Ready sets of networks and image sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmshuffle.analysis import shipped
from mmshuffle.analysis.tables import load_table, load_tables
from mmshuffle.errors import UserError

from .guidelines import SIDE, all_networks, guidelines
from .networks import Network, from_config, from_file
from .plan import PAPER_SHAPES

Work = list[tuple[Network, Sequence[tuple[int, int]]]]
GUIDELINES = 'guidelines'
TFLITE = '.tflite'


@dataclass(frozen=True)
class Models:
    """Networks that a user names.

    Attributes:
        names: Names or paths of configs.
        checkpoints: Weights by name.
        part: See :func:`.networks.from_config`.
        shapes: Image sizes; Table 8's where empty.
    """

    names: Sequence[str]
    checkpoints: dict[str, str]
    part: str = 'auto'
    shapes: Sequence[tuple[int, int]] = ()

    def work(self) -> Work:
        """The networks and their sizes.

        Raises:
            UserError: A config or part does not exist, or a checkpoint is for none of them.
        """
        unknown = set(self.checkpoints) - set(self.names)
        if unknown:
            raise UserError(f'--checkpoint {unknown.pop()}=...: it is not among the networks')
        shapes = self.shapes or PAPER_SHAPES
        return [(self._network(name), shapes) for name in dict.fromkeys(self.names)]

    def _network(self, name: str) -> Network:
        if name.endswith(TFLITE):
            return from_file(Path(name))
        return from_config(name, self.checkpoints.get(name), self.part)


def names() -> list[str]:
    """Suites: the guidelines, and every table with latencies."""
    tables = load_tables().values()
    timed = [t.name for t in tables if any(row.latency_ms for row in t.rows)]
    return [GUIDELINES, *timed]


def suite(name: str, shapes: Sequence[tuple[int, int]] = ()) -> Work:
    """The networks of a suite and their sizes.

    Args:
        name: One of :func:`names`.
        shapes: Only these of the table's sizes; all where empty.

    Raises:
        UserError: There is no such suite, or it has nothing at these sizes.
    """
    if name == GUIDELINES:
        if shapes and tuple(shapes) != ((SIDE, SIDE),):
            raise UserError(f'--shape: the networks of the guidelines take {SIDE}x{SIDE}')
        return [(network, [(SIDE, SIDE)]) for network in all_networks(guidelines())]
    if name not in names():
        raise UserError(f'--suite {name}: give one of {", ".join(names())}')
    found: dict[str, list[tuple[int, int]]] = {}
    for row in load_table(name).rows:
        if row.config and row.latency_ms and (not shapes or row.shape in shapes):
            sizes = found.setdefault(shipped.network(Path(row.config)), [])
            if row.shape not in sizes:
                sizes.append(row.shape)
    if not found:
        raise UserError(f'--shape: {name} has no row of this size')
    return [(from_config(config), sizes) for config, sizes in found.items()]
