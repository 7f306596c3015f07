"""Ready sets of networks and image sizes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmshuffle.analysis.tables import Row, load_table, load_tables
from mmshuffle.engine import shipped
from mmshuffle.engine.config import require_file
from mmshuffle.errors import UserError

from .guidelines import SIDE, all_networks
from .networks import Network, from_config

Work = list[tuple[Network, Sequence[tuple[int, int]]]]
GUIDELINES = 'guidelines'
TFLITE = '.tflite'
PAPER_SHAPES = ((224, 224), (480, 640), (720, 1280))  # ShuffleNet V1, Table 8


def named(
    names: Sequence[str],
    checkpoints: Mapping[str, str],
    part: str = 'auto',
    shapes: Sequence[tuple[int, int]] = (),
) -> Work:
    """The networks that a user names, and their sizes.

    Args:
        names: Names or paths of configs.
        checkpoints: Weights by name.
        part: See :func:`.networks.from_config`.
        shapes: Image sizes; Table 8's where empty.

    Raises:
        UserError: A config or part does not exist, a checkpoint is for none of them, or two files
            have one name.
    """
    unknown = set(checkpoints) - set(names)
    if unknown:
        raise UserError(f'--checkpoint {unknown.pop()}=...: it is not among the networks')
    found: dict[str, Network] = {}
    for name in dict.fromkeys(names):
        if name.endswith(TFLITE):
            require_file(name, 'network')
            network = Network(Path(name).stem, None, weights=name, file=Path(name))
        else:
            network = from_config(name, checkpoints.get(name), part)
        if network.name in found:
            raise UserError(f'{name}: another network is called {network.name} too: rename a file')
        found[network.name] = network
    return [(network, shapes or PAPER_SHAPES) for network in found.values()]


def names() -> list[str]:
    """Suites: the guidelines, and every table with latencies of networks that are built here."""
    tables = load_tables().values()
    timed = [t.name for t in tables if any(_is_timed(row) for row in t.rows)]
    return [GUIDELINES, *timed]


def _is_timed(row: Row) -> bool:
    return bool(row.config and row.latency_ms)


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
        return [(network, [(SIDE, SIDE)]) for network in all_networks()]
    if name not in names():
        raise UserError(f'--suite {name}: give one of {", ".join(names())}')
    found: dict[str, list[tuple[int, int]]] = {}
    for row in load_table(name).rows:
        if _is_timed(row) and (not shapes or row.shape in shapes):
            sizes = found.setdefault(shipped.network(Path(row.config)), [])
            if row.shape not in sizes:
                sizes.append(row.shape)
    if not found:
        raise UserError(f'--shape: {name} has no row of this size')
    return [(from_config(config), sizes) for config, sizes in found.items()]
