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

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmshuffle.engine import files
from mmshuffle.engine.network import randomise

from .plan import Network

SIDE = 56
DEPTH = 10


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


class Parallel(nn.ModuleList):
    """Modules of the same input, (N, channels, H, W), added up."""

    def forward(self, x: Tensor) -> Tensor:
        return sum(module(x) for module in self)


def pointwise(inputs: int, outputs: int, groups: int = 1) -> nn.Sequential:
    """1x1 convolution and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, groups=groups), nn.ReLU())


def build_g1(c1: int, c2: int) -> nn.Module:
    """1x1 convolutions from c1 to c2 channels and back."""
    return nn.Sequential(pointwise(c1, c2), pointwise(c2, c1))


def build_g3(channels: int, fragments: int, parallel: bool) -> nn.Module:
    """1x1 convolutions in a row or side by side."""
    convs = [pointwise(channels, channels) for _ in range(fragments)]
    return Parallel(convs) if parallel else nn.Sequential(*convs)


# Block of each table in ``guidelines.json``; the first argument is the width of its input.
BLOCKS = dict(pair=build_g1, pointwise=pointwise, fragments=build_g3, bottleneck=Bottleneck)


@functools.cache
def guidelines() -> list[dict[str, Any]]:
    """The four tables.

    Returns:
        ``name``, ``title``, ``head`` (over the labels of rows), ``columns`` (over the figures), and
        ``rows``, each with its ``label`` as printed in the first columns, its ``networks``, from
        the narrowest to the widest, and their ``published`` images/s on ARM with one thread.
    """
    tables = files.read_json(Path(__file__).with_name('guidelines.json'))
    for table in tables:
        block = BLOCKS[table['block']]
        for row in table['rows']:
            found = row['networks'].items()
            row['networks'] = [_network(name, block, *arguments) for name, arguments in found]
    return tables


def _network(name: str, block: Callable[..., nn.Module], *arguments: int) -> Network:
    def build(shape: Sequence[int]) -> nn.Module:
        network = nn.Sequential(*(block(*arguments) for _ in range(DEPTH))).eval()
        randomise(network, (SIDE, SIDE))
        return network

    return Network(name, build, channels=arguments[0])


def all_networks() -> list[Network]:
    """The networks of the tables, in their order."""
    return [network for t in guidelines() for row in t['rows'] for network in row['networks']]
