"""The parts of a ShuffleNet that route channels, built anew without shuffles."""

import torch
from torch import Tensor, nn

from mmshuffle.backbones.layers import interleave
from mmshuffle.backbones.shufflenet_v1 import ShuffleUnit
from mmshuffle.backbones.shufflenet_v2 import ResidualBranch, ShuffleStage

from .forms import ShuffleForm
from .rewire import (
    Gather,
    averaging,
    flat_layers,
    mixes_channels,
    reorder,
    restore,
    rewire,
    rewire_chain,
)
from .routing import Order, natural, places, plan_interleaved, plan_stage, plan_unit

ROUTING = (ShuffleStage, ShuffleUnit)


def build_part(part: nn.Module, inputs: Order, form: ShuffleForm) -> 'RoutedStage | RoutedUnit':
    """Build one of :data:`ROUTING`, with BatchNorm folded, anew for the order of its input."""
    return (RoutedStage if isinstance(part, ShuffleStage) else RoutedUnit)(part, inputs, form)


class RoutedStage(nn.Module):
    """A stage of ShuffleNet V2 with the least routing.

    Each main branch reads a concatenation of slices, and no more: the channels that units pass on
    are not touched until they are read. With residual branches, pieces that are no slices are
    gathered. Or, in the interleaved form, as :func:`.routing.plan_interleaved` has it.

    Args:
        stage: The plain stage, with BatchNorm folded.
        inputs: Order of the input.
        form: See :func:`mmshuffle.deploy.shuffle_free`.

    Attributes:
        order (Order): Of the output.
    """

    def __init__(self, stage: ShuffleStage, inputs: Order, form: ShuffleForm) -> None:
        super().__init__()
        parts = [stage.projection, *stage.branches]
        chains = [flat_layers(part) for part in parts]
        widths = [next(filter(mixes_channels, reversed(chain))).out_channels for chain in chains]
        kinds = [ResidualBranch if isinstance(p, ResidualBranch) else nn.Sequential for p in parts]
        residual = ResidualBranch in kinds
        sources, orders, cuts = plan_stage(widths, stage.layout, form.align, residual)
        splits_blocks = any(len(piece) % form.align for cut in cuts for piece in cut.values())
        if form.name == 'interleaved' and splits_blocks and not residual:
            plan = plan_interleaved(widths, stage.layout, form.align)
            if plan is not None:
                sources, orders, self.halves = plan
                cuts = []
        self.cuts = nn.ModuleList(map(Cut, cuts))
        self.order = orders[-1]
        self.branches = nn.ModuleList(
            kind(*rewire_chain(chain, before, after, form.align))
            for kind, chain, before, after in zip(kinds, chains, [inputs, inputs, *orders], sources)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        if not self.cuts:
            return self._interleaved(x)
        # The pieces that each reader is to get; readers are the branches from the third on.
        pending: dict[int, list[Tensor]] = {}
        for source, (branch, cut) in enumerate(zip(self.branches, self.cuts)):
            y = branch(x if source < 2 else concatenate(pending.pop(source - 2)))
            for reader, piece in zip(cut.readers, cut(y)):
                pending.setdefault(reader, []).append(piece)
        return concatenate(pending.pop(len(self.branches) - 2))

    def _interleaved(self, x: Tensor) -> Tensor:
        left, right = [self.branches[0](x)], self.branches[1](x)
        for branch in self.branches[2:]:
            if self.halves:
                passed = left[0] if len(left) == 1 else interleave(*left)
                (a, b), (c, d) = passed.chunk(2, 1), right.chunk(2, 1)
                left, y = [a, c], torch.cat((b, d), 1)
            else:
                passed, y = interleave(left[0], right).chunk(2, 1)
                left = [passed]
            right = branch(y)
        return torch.cat((*left, right), 1)


class Cut(nn.Module):
    """Cuts a source into what its readers take.

    One split, which runtimes have as one operation with several outputs, instead of a slice for
    each reader. A last convolution for each reader, which would leave nothing to be cut, was slower
    in ONNX Runtime and in ncnn.

    Args:
        pieces: The places that each reader takes.
    """

    def __init__(self, pieces: dict[int, list[int]]) -> None:
        super().__init__()
        self.readers = list(pieces)
        self.sizes = [len(places) for places in pieces.values()]
        self.gathers = nn.ModuleList()
        taken = [place for places in pieces.values() for place in places]
        if taken != list(range(len(taken))):
            self.gathers.extend(map(Gather, pieces.values()))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, C, H, W) to one tensor a reader."""
        if len(self.sizes) == 1:
            return [x]
        if self.gathers:
            return [gather(x) for gather in self.gathers]
        return list(torch.split(x, self.sizes, 1))


class RoutedUnit(nn.Module):
    """A unit of ShuffleNet V1 whose shuffle is one gather along the channels.

    The gather is behind the depthwise convolution, whose weights are permuted instead. With
    filling, the groups of the bottleneck are filled, and the average pooling is a depthwise
    convolution, for which runtimes have faster code.

    Args:
        unit: The plain unit, with BatchNorm folded.
        inputs: Order of the input, which may have filling but is not permuted.
        form: See :func:`mmshuffle.deploy.shuffle_free`.

    Attributes:
        order (Order): Of the output: the plain one.
    """

    def __init__(self, unit: ShuffleUnit, inputs: Order, form: ShuffleForm) -> None:
        super().__init__()
        (reduce, *activation), expand = flat_layers(unit.reduce), unit.expand.conv
        before, numbers, taken = plan_unit(
            reduce.out_channels, expand.groups, reduce.groups, unit.shuffle_groups, form.align
        )
        gather = [] if taken == natural(len(taken)) else [Gather(taken)]
        reduce = rewire(reduce, inputs, before)
        depthwise = [reorder(layer, numbers) for layer in flat_layers(unit.depthwise)]
        expand = rewire(expand, inputs=tuple(numbers[place] for place in taken))
        self.branch = nn.Sequential(
            reduce, *activation, *depthwise, *gather, expand, unit.se or nn.Identity()
        )
        pool = unit.pool or nn.Identity()
        if unit.pool is not None and form.align > 1:
            pool = averaging(pool, expand.weight, len(inputs))
        self.shortcut = nn.Sequential(pool, restore(inputs))
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


def concatenate(pieces: list[Tensor]) -> Tensor:
    """Put pieces together along the channels, without a copy where there is only one."""
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)
