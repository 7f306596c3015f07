"""Which channel a unit of ShuffleNet V2 reads from where: known before any image is seen.

Inside a stage only convolutions change values. Every channel that a unit reads is therefore an
output channel of one earlier branch, its *source*, and every such channel is read once: by one
later unit, or as part of the stage's output. This module follows the channels through the shuffles
and plans a stage in which nothing is shuffled.

The sources are the projection and the main branches, in this order; the readers are the main
branches behind the first, and the stage's output. Reader i can read sources 0 to i + 1.
"""

from collections.abc import Sequence

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


# A channel of the plain network: its source, and its number among that source's outputs.
_Channel = tuple[int, int]


def plan_stage(
    widths: Sequence[int], layout: str, align: int = 1, residual: bool = False
) -> tuple[list[Order], list[Order], list[dict[int, list[int]]]]:
    """Plan a stage of ShuffleNet V2 without shuffles.

    A source puts out its channels sorted by who reads them: each reader takes one slice. Where a
    main branch's input is added to its output (``residual``), the order of its output is that of
    its input, and pieces may be scattered. In layout ``'megvii'`` the stage's output comes out in
    the plain network's order.

    Args:
        widths: Output channels of the sources.
        layout: Of :class:`mmshuffle.backbones.ShuffleNetV2`.
        align: Fill what a main branch reads up to a multiple of this. The newest source puts out
            the filling; the stage's output has none. No effect if ``residual``.
        residual: Whether main branches behind the first add their input.

    Returns:
        The order in which each source puts out its channels; that of what each reader gets, which
        are pieces of its sources, those of older ones first; and of each source the places of the
        piece that each of its readers takes.
    """
    wanted = _follow(widths, layout)
    # The reader of a channel, and the channel's number there.
    read = {channel: (i, n) for i, some in enumerate(wanted) for n, channel in enumerate(some)}
    sources: list[Order] = []
    orders: list[Order] = []
    for source, width in enumerate(widths):
        reader = source - 1  # the first that can read it, and the only one of its filling
        read[source, FILL] = reader, FILL
        fills = 0 < source < len(wanted) and not residual
        fill = [FILL] * (-len(wanted[reader]) % align if fills else 0)
        order = tuple(sorted([*range(width), *fill], key=lambda c: read[source, c][0]))
        sources.append(orders[source - 2] if residual and source > 1 else order)
        if source > 0:
            channels = [read[s, c] for s, order in enumerate(sources) for c in order]
            orders.append(tuple(number for i, number in channels if i == reader))
    cuts: list[dict[int, list[int]]] = []
    for source, order in enumerate(sources):
        readers = [read[source, c][0] for c in order]
        cuts.append({i: [p for p, j in enumerate(readers) if i == j] for i in sorted({*readers})})
    return sources, orders, cuts


def plan_interleaved(
    widths: Sequence[int], layout: str, align: int = 1
) -> tuple[list[Order], list[Order], bool] | None:
    """Plan a stage of ShuffleNet V2 whose only routing is to interleave channels of two tensors.

    The main branches behind the first read the second halves of what is passed on and of the newest
    branch's output. The first halves of both, interleaved, are passed on. Sources put out their
    channels where that takes them to their readers; the output is what is passed on and the last
    branch's output.

    Args:
        widths, layout: See :func:`plan_stage`.
        align: Size of the blocks of channels that are to stay whole.

    Returns:
        The order in which each source puts out its channels, what each reader gets, and whether
        halves are whole blocks, so that only those that are passed on need interleaving. None where
        the sources are not of one width, which is even and a multiple of ``align``.
    """
    width = widths[-1]
    if set(widths) != {width} or width % 2 or width % align:
        return None
    whole = width // 2 % align == 0
    places_read = _follow(widths, 'halves' if whole else 'interleaved')
    wanted = _follow(widths, layout)
    sources = [[FILL] * width for _ in widths]
    for places, channels in zip(places_read, wanted, strict=True):
        for (source, place), (other, channel) in zip(sorted(places), sorted(channels), strict=True):
            if source != other:
                return None
            sources[source][place] = channel
    orders = [
        tuple(channels.index((source, sources[source][place])) for source, place in places)
        for places, channels in zip(places_read, wanted)
    ]
    return [tuple(source) for source in sources], orders, whole


def plan_unit(
    channels: int, groups: int, first_groups: int, shuffle: int, align: int = 1
) -> tuple[Order, Order, Order]:
    """Plan the bottleneck of a unit of ShuffleNet V1.

    Its groups are filled, and each channel lies where a shuffle of the filled groups takes it to
    the right one. Where the first convolution has one group, nothing is shuffled: it puts out the
    channels as the second one reads them.

    Args:
        channels: Of the plain network's bottleneck.
        groups, first_groups: Of the second and of the first 1x1 convolution.
        shuffle: Groups of the plain network's shuffle.
        align: Fill groups up to a multiple of this.

    Returns:
        Of what the first convolution puts out: the order, and the same in the channels' numbers
        behind the plain network's shuffle. And the shuffle, as the place that each channel behind
        it is taken from.
    """
    plain, size = dealt(channels, shuffle), channels // groups
    filled = size + -size % align
    while True:
        for parts in (1,) if 1 in (shuffle, first_groups) else (groups, filled):
            taken = dealt(groups * filled, parts)
            places: dict[tuple[int, int], list[int]] = {}
            for behind, before in enumerate(taken):
                group = before * first_groups // len(taken)
                places.setdefault((group, behind // filled), []).append(before)
            numbers = [FILL] * len(taken)
            try:
                for number, channel in enumerate(plain):
                    group = channel * first_groups // channels
                    numbers[places[group, number // size].pop(0)] = number
            except (KeyError, IndexError):  # too few places
                continue
            return tuple(plain[n] if n != FILL else n for n in numbers), tuple(numbers), taken
        filled += align


def dealt(channels: int, groups: int) -> Order:
    """What lies where behind a channel shuffle."""
    each = channels // groups
    return tuple(first + each * group for first in range(each) for group in range(groups))


def _follow(widths: Sequence[int], layout: str) -> list[list[_Channel]]:
    """List the channels that each reader gets, in its order.

    Layout ``'interleaved'`` is ``'torchvision'`` without the last shuffle; in ``'halves'``, what a
    main branch reads is not shuffled either.
    """
    left, right, *others = ([(s, c) for c in range(width)] for s, width in enumerate(widths))

    def interleave(left: list[_Channel], right: list[_Channel]) -> list[_Channel]:
        return [channel for pair in zip(left, right, strict=True) for channel in pair]

    wanted: list[list[_Channel]] = []
    for branch in others:
        half = len(left) // 2
        if layout == 'megvii':
            left, convolved = left[::2] + right[::2], left[1::2] + right[1::2]
        elif layout == 'halves':
            left = interleave(left[:half], left[half:]) if wanted else left
            left, convolved = left[:half] + right[:half], left[half:] + right[half:]
        else:
            shuffled = interleave(left, right)
            left, convolved = shuffled[: len(left)], shuffled[len(left) :]
        wanted.append(convolved)
        right = branch
    wanted.append(interleave(left, right) if layout == 'torchvision' else left + right)
    return wanted
