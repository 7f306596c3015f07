"""A unit of ShuffleNet V1 in other forms than the plain network's."""

import torch
from torch import Tensor, nn

from mmshuffle.backbones.layers import channel_shuffle
from mmshuffle.backbones.shufflenet_v1 import ShuffleUnit

from .rewire import Gather, flat_layers, reorder, restore, rewire
from .routing import Order, natural, places


class GatheredUnit(nn.Module):
    """A unit whose shuffle is one gather along the channels.

    Args:
        unit: The plain unit, with BatchNorm folded.
        inputs: Order of the input, which may have filling but is not permuted.
        shuffle: ``'before'`` the depthwise convolution, where the plain unit has it; ``'behind'``
            it, which computes the same with its weights permuted; ``'none'``, which does not.

    Attributes:
        order (Order): Of the output: the plain one.
    """

    def __init__(self, unit: ShuffleUnit, inputs: Order, shuffle: str) -> None:
        super().__init__()
        middle = unit.depthwise.out_channels
        numbers = torch.arange(middle).reshape(1, -1, 1, 1)
        shuffled = tuple(channel_shuffle(numbers, unit.shuffle_groups).flatten().tolist())
        if shuffle == 'none':
            shuffled = natural(middle)
        gather = [] if shuffled == natural(middle) else [Gather(shuffled)]
        reduce, *activation = flat_layers(unit.reduce)
        depthwise = flat_layers(unit.depthwise)
        if gather and shuffle == 'behind':
            depthwise = [*(reorder(layer, places(shuffled)) for layer in depthwise), *gather]
        else:
            depthwise = [*gather, *depthwise]
        if inputs != natural(len(inputs)):
            reduce = rewire(reduce, inputs)
        self.branch = nn.Sequential(
            reduce, *activation, *depthwise, *flat_layers(unit.expand), unit.se or nn.Identity()
        )
        self.shortcut = nn.Sequential(unit.pool or nn.Identity(), restore(inputs))
        self.pools = unit.pool is not None
        self.act = unit.act
        self.channels = len(places(inputs))
        self.is_wider = unit.expand.out_channels > self.channels
        self.order = natural(unit.expand.out_channels + self.channels * self.pools)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        y = self.branch(x)
        if self.pools:
            return torch.cat((self.shortcut(x), self.act(y)), 1)
        if not self.is_wider:
            return self.act(self.shortcut(x) + y)
        # The plain unit asks for shapes here, which tracers warn of.
        added = self.shortcut(x) + y[:, : self.channels]
        return self.act(torch.cat((added, y[:, self.channels :]), 1))
