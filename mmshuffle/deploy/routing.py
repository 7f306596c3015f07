"""Which channel a unit of ShuffleNet V2 reads from where: known before any image is seen.

Inside a stage only convolutions change values. Every channel that a unit reads is therefore an
output channel of one earlier branch, its *source*, and every such channel is read once: by one
later unit, or as part of the stage's output. This module follows the channels through the shuffles
and plans a stage in which nothing is shuffled.

The sources are the projection and the main branches, in this order; the readers are the main
branches behind the first, and the stage's output. Reader i can read sources 0 to i + 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

# For every channel of a tensor as it lies in memory: the channel of the plain network that it
# holds, or FILL where it holds nothing that anyone reads.
Order = tuple[int, ...]
FILL = -1


def natural(channels: int, align: int = 1) -> Order:
    """The plain network's order, filled up to a multiple of ``align``."""
    return (*range(channels), *[FILL] * (-channels % align))


def places(order: Order) -> Order:
    """Where every channel of the plain network lies: the inverse of an order."""
    return tuple(place for _, place in sorted((c, i) for i, c in enumerate(order) if c != FILL))


class Read(NamedTuple):
    """What a reader gets."""

    # Which channels it takes of each source, as they lie in memory there; they are concatenated,
    # those of older sources first.
    pieces: dict[int, Order]
    order: Order  # the channels of the result


# A channel of the plain network: its source, and its number among that source's outputs.
_Channel = tuple[int, int]


def plan_stage(
    widths: Sequence[int], layout: str, align: int = 1, residual: bool = False
) -> tuple[list[Order], list[Read]]:
    """Plan a stage of ShuffleNet V2 without shuffles.

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

    Returns:
        The order in which each source puts out its channels, and what each reader gets.
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
                fill = [FILL] * (-len(wanted[source - 1]) % align)
                order = (*order[:cut], *fill, *order[cut:])
        sources.append(order)
        if source > 0:
            reads.append(_plan_read(source - 1, wanted[source - 1], sources, reader))
    return sources, reads


def _plan_read(
    index: int, wanted: list[_Channel], sources: list[Order], reader: dict[_Channel, int]
) -> Read:
    """Plan what reader ``index`` gets, with the newest source's filling if it has one."""
    newest = len(sources) - 1
    number = {channel: i for i, channel in enumerate(wanted)}
    pieces: dict[int, Order] = {}
    order: list[int] = []
    for source, channels in enumerate(sources):
        taken = tuple(
            place
            for place, c in enumerate(channels)
            if (source == newest if c == FILL else reader[source, c] == index)
        )
        if taken:
            pieces[source] = taken
            order += [number.get((source, channels[place]), FILL) for place in taken]
    return Read(pieces, tuple(order))


def _follow(widths: Sequence[int], layout: str) -> list[list[_Channel]]:
    """List the channels that each reader gets in the plain network, in its order."""
    left, right, *others = ([(s, c) for c in range(width)] for s, width in enumerate(widths))
    megvii = layout == 'megvii'

    def interleave() -> list[_Channel]:
        return [channel for pair in zip(left, right, strict=True) for channel in pair]

    wanted = []
    for branch in others:
        if megvii:
            left, convolved = left[::2] + right[::2], left[1::2] + right[1::2]
        else:
            shuffled = interleave()
            left, convolved = shuffled[: len(left)], shuffled[len(left) :]
        wanted.append(convolved)
        right = branch
    wanted.append(left + right if megvii else interleave())
    return wanted
