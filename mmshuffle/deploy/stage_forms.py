"""A stage of ShuffleNet V2 in other forms than the plain network's.

All are built of a plain :class:`~mmshuffle.backbones.shufflenet_v2.ShuffleStage` with BatchNorm
folded, of the order of the input's channels, and of ``align``, see
:func:`mmshuffle.deploy.shuffle_free`. ``order`` is that of the channels of their output.
"""

import torch
from torch import Tensor, nn

from mmshuffle.backbones.shufflenet_v2 import ResidualBranch, ShuffleStage

from .rewire import Gather, flat_layers, mixes_channels, rewire_chain
from .routing import Order, StagePlan, is_slice, join, natural, plan_stage, shuffle_and_split


class RoutedStage(nn.Module):
    """A stage without shuffles: each main branch reads a concatenation of slices, and no more.

    The channels that units pass on are not touched until they are read. With residual branches,
    pieces that are no slices are gathered.
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


class GatheredStage(nn.Module):
    """A stage whose shuffles are gathers along the channels: no tensor has five dimensions.

    A unit gathers what it passes on and what it convolves; no split is left.
    """

    def __init__(self, stage: ShuffleStage, inputs: Order, align: int) -> None:
        super().__init__()
        outputs = widths(stage)
        left, right, *others = outputs
        self.gathers = nn.ModuleList()
        befores = [inputs, inputs]
        for width in others:
            both = list(range(left)), list(range(left, left + right))
            kept, convolved = shuffle_and_split(*both, stage.layout)
            self.gathers.append(nn.ModuleList(map(Gather, (kept, convolved))))
            befores.append(natural(len(convolved)))
            left, right = len(kept), width
        last = join(list(range(left)), list(range(left, left + right)), stage.layout)
        self.last = nn.Identity() if is_slice(last) else Gather(last)
        self.branches = nn.ModuleList(
            rewire_branch(branch, before, natural(width), align)
            for branch, before, width in zip(branches(stage), befores, outputs)
        )
        self.order = natural(len(last))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        left, right = self.branches[0](x), self.branches[1](x)
        for branch, (kept, convolved) in zip(self.branches[2:], self.gathers):
            both = torch.cat((left, right), 1)
            left, right = kept(both), branch(convolved(both))
        return self.last(torch.cat((left, right), 1))


class UnroutedStage(nn.Module):
    """The convolutions of a stage in a row, without its routing: another function.

    The projection's output stays aside until the end, where the next stage needs its channels; so
    do the outputs that the branch behind has no inputs for.
    """

    def __init__(self, stage: ShuffleStage, inputs: Order, align: int) -> None:
        super().__init__()
        fill_to = 1 if is_residual(stage) else align
        outputs = widths(stage)
        taken = [flat_layers(branch)[0].in_channels for branch in branches(stage)[2:]]
        befores = [natural(channels, fill_to) for channels in taken]
        afters = [
            (*before, *range(channels, width))
            for before, channels, width in zip(befores, taken, outputs[1:])
        ]
        self.branches = nn.ModuleList(
            rewire_branch(branch, before, after, align)
            for branch, before, after in zip(
                branches(stage),
                [inputs, inputs, *befores],
                [natural(outputs[0]), *afters, natural(outputs[-1])],
            )
        )
        # Channels that the next branch takes, and those that it leaves.
        self.shares = [(len(b), len(a) - len(b)) for b, a in zip(befores, afters)]
        self.order = natural(outputs[0] + sum(left for _, left in self.shares) + outputs[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        aside, y = [self.branches[0](x)], self.branches[1](x)
        for branch, (taken, left) in zip(self.branches[2:], self.shares):
            if left > 0:
                aside.append(y[:, taken:])
                y = y[:, :taken]
            y = branch(y)
        return torch.cat((*aside, y), 1)


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
