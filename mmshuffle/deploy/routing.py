"""Which channel a unit of ShuffleNet V2 reads from where: known before any image is seen.

Inside a stage only convolutions change values. Every channel that a unit reads is therefore an
output channel of one earlier branch, its *source*, and every such channel is read once: by one
later unit, or as part of the stage's output. This module follows the channels through the shuffles
and plans a stage in which nothing is shuffled.

The sources are the projection and the main branches, in this order; the readers are the main
branches behind the first, and the stage's output. Reader i can read sources 0 to i + 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# For every channel of a tensor as it lies in memory: the channel of the plain network that it
# holds, or FILL where it holds nothing that anyone reads.
Order = tuple[int, ...]
FILL = -1


def natural(channels: int, align: int = 1) -> Order:
    """The plain network's order, filled up to a multiple of ``align``."""
    return (*range(channels), *[FILL] * filling(channels, align))


def filling(channels: int, align: int) -> int:
    """How many channels are missing to the next multiple of ``align``."""
    return -channels % align


def places(order: Order) -> Order:
    """Where every channel of the plain network lies: the inverse of an order."""
    return tuple(place for _, place in sorted((c, i) for i, c in enumerate(order) if c != FILL))


def is_slice(places: Sequence[int]) -> bool:
    """Whether channels lie side by side, in their order."""
    return list(places) == list(range(places[0], places[0] + len(places)))


@dataclass(frozen=True)
class Piece:
    """Channels that a reader takes from one source.

    Attributes:
        source: Number of the source.
        places: Which of its channels, as they lie in memory.
    """

    source: int
    places: tuple[int, ...]


@dataclass(frozen=True)
class Read:
    """What a reader gets.

    Attributes:
        pieces: What is concatenated; older sources come first.
        order: The channels of the result.
    """

    pieces: tuple[Piece, ...]
    order: Order


@dataclass(frozen=True)
class StagePlan:
    """A stage of ShuffleNet V2 without shuffles.

    Attributes:
        sources: The order in which each source puts out its channels.
        reads: What each reader gets.
    """

    sources: tuple[Order, ...]
    reads: tuple[Read, ...]


def plan_stage(
    widths: Sequence[int], layout: str, align: int = 1, residual: bool = False
) -> StagePlan:
    """Plan a stage.

    A source puts out its channels sorted by who reads them: each reader takes one slice. Where a
    main branch's input is added to its output (``residual``), the order of its output is that of
    its input, and pieces may be scattered.

    In layout ``'megvii'`` the stage's output comes out in the plain network's order.

    Args:
        widths: Output channels of the sources.
        layout: Of :class:`mmshuffle.backbones.ShuffleNetV2`.
        align: Fill what a main branch reads up to a multiple of this. The newest source puts out
            the filling; the stage's output has none. No effect if ``residual``.
        residual: Whether main branches behind the first add their input.
    """
    wanted = _follow(widths, layout)
    reader = {channel: i for i, channels in enumerate(wanted) for channel in channels}
    sources: list[Order] = []
    reads: list[Read] = []
    for source, width in enumerate(widths):
        if residual and source > 1:
            order = reads[source - 2].order
        else:
            readers = [reader[source, c] for c in range(width)]
            order = tuple(sorted(range(width), key=readers.__getitem__))
            if 0 < source < len(wanted) and not residual:
                cut = readers.count(source - 1)
                fill = [FILL] * filling(len(wanted[source - 1]), align)
                order = (*order[:cut], *fill, *order[cut:])
        sources.append(order)
        if source > 0:
            reads.append(_plan_read(source - 1, wanted[source - 1], sources, reader))
    return StagePlan(tuple(sources), tuple(reads))


# A channel of the plain network: its source, and its number among that source's outputs.
_Channel = tuple[int, int]


def _plan_read(
    index: int, wanted: list[_Channel], sources: list[Order], reader: dict[_Channel, int]
) -> Read:
    """Plan what reader ``index`` gets, with the newest source's filling if it has one."""
    newest = len(sources) - 1
    number = {channel: i for i, channel in enumerate(wanted)}
    pieces, order = [], []
    for source, channels in enumerate(sources):
        taken = [
            place
            for place, c in enumerate(channels)
            if (source == newest if c == FILL else reader[source, c] == index)
        ]
        if taken:
            pieces.append(Piece(source, tuple(taken)))
            order += [number.get((source, channels[place]), FILL) for place in taken]
    return Read(tuple(pieces), tuple(order))


def _follow(widths: Sequence[int], layout: str) -> list[list[_Channel]]:
    """List the channels that each reader gets in the plain network, in its order."""
    left, right, *others = ([(s, c) for c in range(width)] for s, width in enumerate(widths))
    wanted = []
    for branch in others:
        left, convolved = shuffle_and_split(left, right, layout)
        wanted.append(convolved)
        right = branch
    wanted.append(join(left, right, layout))
    return wanted


def shuffle_and_split(left: list, right: list, layout: str) -> tuple[list, list]:
    """Tell, of the two parts of a feature map, what the next unit passes on and what it convolves.

    Args:
        left: Channels that the last unit passed on.
        right: Channels that it convolved.
        layout: Of :class:`mmshuffle.backbones.ShuffleNetV2`.
    """
    if layout == 'megvii':
        return left[::2] + right[::2], left[1::2] + right[1::2]
    shuffled = join(left, right, layout)
    half = len(shuffled) // 2
    return shuffled[:half], shuffled[half:]


def join(left: list, right: list, layout: str) -> list:
    """Put the two parts together as at the end of a stage."""
    if layout == 'megvii':
        return left + right
    return [channel for pair in zip(left, right, strict=True) for channel in pair]
