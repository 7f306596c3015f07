"""The parts of a ShuffleNet that route channels, built anew without shuffles."""

import torch
from torch import Tensor, nn

from mmshuffle.backbones.layers import channel_shuffle
from mmshuffle.backbones.shufflenet_v1 import ShuffleUnit
from mmshuffle.backbones.shufflenet_v2 import ResidualBranch, ShuffleStage

from .rewire import Gather, flat_layers, mixes_channels, reorder, restore, rewire, rewire_chain
from .routing import Order, StagePlan, is_slice, natural, places, plan_stage

ROUTING = (ShuffleStage, ShuffleUnit)


def build_part(part: nn.Module, inputs: Order, align: int) -> 'RoutedStage | RoutedUnit':
    """Build one of :data:`ROUTING`, with BatchNorm folded, anew for the order of its input."""
    if isinstance(part, ShuffleStage):
        return RoutedStage(part, inputs, align)
    return RoutedUnit(part, inputs)


class RoutedStage(nn.Module):
    """A stage of ShuffleNet V2: each main branch reads a concatenation of slices, and no more.

    The channels that units pass on are not touched until they are read. With residual branches,
    pieces that are no slices are gathered.

    Args:
        stage: The plain stage, with BatchNorm folded.
        inputs: Order of the input.
        align: See :func:`mmshuffle.deploy.shuffle_free`.

    Attributes:
        order (Order): Of the output.
    """

    def __init__(self, stage: ShuffleStage, inputs: Order, align: int) -> None:
        super().__init__()
        plan = plan_stage(widths(stage), stage.layout, align, is_residual(stage))
        self.order = plan.reads[-1].order
        befores = [inputs, inputs, *(read.order for read in plan.reads)]
        self.branches = nn.ModuleList(
            rewire_branch(branch, before, after, align)
            for branch, before, after in zip(branches(stage), befores, plan.sources)
        )
        self.cuts = nn.ModuleList(Cut(plan, source) for source in range(len(plan.sources)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        # The pieces that each reader is to get; readers are the branches from the third on.
        pending: dict[int, list[Tensor]] = {}
        for source, (branch, cut) in enumerate(zip(self.branches, self.cuts)):
            y = branch(x if source < 2 else concatenate(pending.pop(source - 2)))
            for reader, piece in zip(cut.readers, cut(y)):
                pending.setdefault(reader, []).append(piece)
        return concatenate(pending.pop(len(self.branches) - 2))


class Cut(nn.Module):
    """Cuts a source into what its readers take.

    One split, which runtimes have as one operation with several outputs, instead of a slice for
    each reader. A last convolution for each reader, which would leave nothing to be cut, was slower
    in ONNX Runtime and in ncnn.

    Args:
        plan: Plan of the stage.
        source: Number of the source.

    Attributes:
        readers (list[int]): Whose pieces :meth:`forward` returns.
    """

    def __init__(self, plan: StagePlan, source: int) -> None:
        super().__init__()
        pieces = [
            (reader, piece.places)
            for reader, read in enumerate(plan.reads)
            for piece in read.pieces
            if piece.source == source
        ]
        self.readers = [reader for reader, _ in pieces]
        self.sizes = [len(places) for _, places in pieces]
        self.gathers = nn.ModuleList()
        if not is_slice([place for _, places in pieces for place in places]):
            self.gathers.extend(Gather(places) for _, places in pieces)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, C, H, W) to one tensor a reader."""
        if len(self.sizes) == 1:
            return [x]
        if self.gathers:
            return [gather(x) for gather in self.gathers]
        return list(torch.split(x, self.sizes, 1))


class RoutedUnit(nn.Module):
    """A unit of ShuffleNet V1 whose shuffle is one gather along the channels.

    The gather is behind the depthwise convolution, whose weights are permuted instead.

    Args:
        unit: The plain unit, with BatchNorm folded.
        inputs: Order of the input, which may have filling but is not permuted.

    Attributes:
        order (Order): Of the output: the plain one.
    """

    def __init__(self, unit: ShuffleUnit, inputs: Order) -> None:
        super().__init__()
        middle = unit.depthwise.out_channels
        numbers = torch.arange(middle).reshape(1, -1, 1, 1)
        shuffled = tuple(channel_shuffle(numbers, unit.shuffle_groups).flatten().tolist())
        gather = [] if shuffled == natural(middle) else [Gather(shuffled)]
        reduce, *activation = flat_layers(unit.reduce)
        depthwise = flat_layers(unit.depthwise)
        if gather:
            depthwise = [*(reorder(layer, places(shuffled)) for layer in depthwise), *gather]
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


def branches(stage: ShuffleStage) -> list[nn.Module]:
    """List the sources: the projection and the main branches."""
    return [stage.projection, *stage.branches]


def widths(stage: ShuffleStage) -> list[int]:
    """List the output channels of the sources."""
    mixing = ([m for m in flat_layers(b) if mixes_channels(m)] for b in branches(stage))
    return [layers[-1].out_channels for layers in mixing]


def is_residual(stage: ShuffleStage) -> bool:
    """Whether main branches behind the first add their input to their output."""
    return any(isinstance(branch, ResidualBranch) for branch in stage.branches)


def rewire_branch(branch: nn.Module, inputs: Order, outputs: Order, align: int) -> nn.Sequential:
    """Copy a branch for other orders of its channels; see :func:`~.rewire.rewire_chain`."""
    kind = ResidualBranch if isinstance(branch, ResidualBranch) else nn.Sequential
    return kind(*rewire_chain(flat_layers(branch), inputs, outputs, align))


def concatenate(pieces: list[Tensor]) -> Tensor:
    """Put pieces together along the channels, without a copy where there is only one."""
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)
