"""The networks of the four guidelines' experiments.

ShuffleNet V2 (arXiv 1807.11164v1), section 2, Tables 1 to 4, and Figure 1 of the appendix for G3.
All have ten blocks on a map of 56x56. The paper does not print everything; what is chosen here:

* Every convolution has a bias (its BatchNorm, folded) and is followed by ReLU, save where Table 4
  removes it.
* The input has as many channels as the first convolution takes, so that nothing else is timed.
* Parallel fragments of G3 are added up. Channels of its fragmented blocks are the nearest whole
  number with which the multiply-adds are those of one fragment, as the caption asks.
* Table 4's c is taken as the channels outside the bottleneck, whose inner ones are c / 4. With c
  inside, c = 32 would take 546 M multiply-adds, which at the printed 56.7 images/s are beyond the
  31 G/s that one core of the phone could do.
* G2 at 180 channels is built with 184, because 180 channels have no 8 equal groups.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from mmshuffle.engine.network import randomise

from .plan import Network

SIDE = 56
BLOCKS = 10
SCALES = (1, 2, 4)


class Row(NamedTuple):
    """A row of a table: its networks, from the narrowest to the widest, and their images/s."""

    label: tuple[str, ...]  # as printed in the first columns
    networks: list[Network]
    published: tuple[float, ...]  # on the ARM device with a single thread


class Guideline(NamedTuple):
    """A table; ``head`` is over the labels of its rows, ``columns`` over the figures."""

    name: str
    title: str
    head: tuple[str, ...]
    columns: tuple[str, ...]
    rows: list[Row]


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, a quarter as wide inside (Table 4).

    ReLU, if any, is after every convolution and after the sum with the input, the shortcut.
    """

    def __init__(self, channels: int, relu: bool, shortcut: bool) -> None:
        super().__init__()
        inner = channels // 4
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1)
        self.expand = nn.Conv2d(inner, channels, 1)
        self.act = nn.ReLU() if relu else nn.Identity()
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        y = self.expand(self.act(self.conv(self.act(self.reduce(x)))))
        return self.act(x + y if self.shortcut else y)


class Parallel(nn.Module):
    """1x1 convolutions of the same input, added up."""

    def __init__(self, channels: int, fragments: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(fragments))
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        return sum(self.act(conv(x)) for conv in self.convs)


def pointwise(inputs: int, outputs: int, groups: int = 1) -> nn.Sequential:
    """1x1 convolution and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, groups=groups), nn.ReLU())


def build_g1(c1: int, c2: int) -> nn.Module:
    """1x1 convolutions from c1 to c2 channels and back."""
    return nn.Sequential(pointwise(c1, c2), pointwise(c2, c1))


def build_g3(channels: int, fragments: int, parallel: bool) -> nn.Module:
    """1x1 convolutions in a row or side by side."""
    if parallel:
        return Parallel(channels, fragments)
    return nn.Sequential(*(pointwise(channels, channels) for _ in range(fragments)))


# c1:c2, channels at the smallest width, and the printed images/s at the three widths.
TABLE_1 = (
    ('1:1', 32, 32, (76.2, 21.7, 5.3)),
    ('1:2', 22, 44, (72.9, 20.5, 5.1)),
    ('1:6', 13, 78, (69.1, 17.9, 4.6)),
    ('1:12', 9, 108, (57.6, 15.1, 4.4)),
)
# Groups, and channels.
TABLE_2 = (
    (1, 64, (40.0, 10.2, 2.3)),
    (2, 90, (35.0, 9.5, 2.2)),
    (4, 128, (32.9, 8.7, 2.1)),
    (8, 180, (27.8, 7.5, 1.8)),
)
# Fragments, side by side or in a row.
TABLE_3 = (
    ('1-fragment', 1, False, (40.2, 10.1, 2.3)),
    ('2-fragment-series', 2, False, (38.6, 10.1, 2.2)),
    ('4-fragment-series', 4, False, (38.4, 10.1, 2.3)),
    ('2-fragment-parallel', 2, True, (33.4, 9.1, 2.2)),
    ('4-fragment-parallel', 4, True, (35.0, 8.4, 2.1)),
)
# ReLU and shortcut.
TABLE_4 = (
    (True, True, (56.7, 16.9, 5.0)),
    (True, False, (61.9, 18.8, 5.2)),
    (False, True, (57.3, 18.2, 5.1)),
    (False, False, (66.3, 20.2, 5.4)),
)


def guidelines() -> list[Guideline]:
    """The four tables, with the printed figures of the ARM device."""
    scales = tuple(f'x{s}' for s in SCALES)
    wide, narrow = (tuple(f'c={c * s}' for s in SCALES) for c in (64, 32))
    g1, g2, g3, g4 = [], [], [], []
    for ratio, c1, c2, speeds in TABLE_1:
        sizes = [(c1 * s, c2 * s) for s in SCALES]
        nets = [_network(f'g1-{a}-{b}', a, build_g1, a, b) for a, b in sizes]
        g1.append(Row((ratio, f'{c1}, {c2}'), nets, speeds))
    for groups, channels, speeds in TABLE_2:
        widths = [math.ceil(channels * s / groups) * groups for s in SCALES]
        nets = [_network(f'g2-{c}-groups{groups}', c, pointwise, c, c, groups) for c in widths]
        g2.append(Row((str(groups), str(widths[0])), nets, speeds))
    for label, fragments, parallel, speeds in TABLE_3:
        widths = [round(64 * s / math.sqrt(fragments)) for s in SCALES]
        nets = [
            _network(f'g3-{label}-{64 * s}', c, build_g3, c, fragments, parallel)
            for s, c in zip(SCALES, widths)
        ]
        g3.append(Row((label,), nets, speeds))
    for relu, shortcut, speeds in TABLE_4:
        name = f'g4-{"relu" if relu else "linear"}-{"shortcut" if shortcut else "plain"}'
        nets = [
            _network(f'{name}-{32 * s}', 32 * s, Bottleneck, 32 * s, relu, shortcut) for s in SCALES
        ]
        words = tuple('yes' if part else 'no' for part in (relu, shortcut))
        g4.append(Row(words, nets, speeds))
    grouped = 'Group convolution costs memory access'
    elements = 'Element-wise operations take time'
    least = 'Equal numbers of input and output channels take the least memory access'
    return [
        Guideline('G1, Table 1', least, ('c1:c2', 'c1, c2 at x1'), scales, g1),
        Guideline('G2, Table 2', grouped, ('groups', 'c at x1'), scales, g2),
        Guideline('G3, Table 3', 'Fragmentation reduces parallelism', ('structure',), wide, g3),
        Guideline('G4, Table 4', elements, ('ReLU', 'shortcut'), narrow, g4),
    ]


def _network(
    name: str, channels: int, block: Callable[..., nn.Module], *arguments: object
) -> Network:
    """A stack of blocks."""

    def build(shape: Sequence[int]) -> nn.Module:
        network = nn.Sequential(*(block(*arguments) for _ in range(BLOCKS))).eval()
        randomise(network, (SIDE, SIDE))
        return network

    return Network(name, build, channels)


def all_networks() -> list[Network]:
    """The networks of the tables, in their order."""
    return [network for table in guidelines() for row in table.rows for network in row.networks]
