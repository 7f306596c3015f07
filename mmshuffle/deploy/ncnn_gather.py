"""Gathers along the channels for ncnn, which has no such layer."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from .rewire import Gather


def lower_gathers(module: nn.Module) -> None:
    """Replace every :class:`~.rewire.Gather` in a module by slices, in place."""
    for holder in list(module.modules()):
        for name, child in list(holder.named_children()):
            if isinstance(child, Gather):
                setattr(holder, name, SlicedGather(child.channels.tolist()))


class SlicedGather(nn.Module):
    """A gather as slices, their concatenation, and a channel shuffle where that makes them long.

    Channels that are ``k`` runs dealt out in turn (a shuffle of ``k`` groups, the join of two
    branches) are ``k`` slices and ncnn's ``ShuffleChannel``. Any others are a slice for each run of
    neighbours.

    Args:
        channels: Which, in the order of the output.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.groups, runs = _dealt_runs(channels)
        self.bounds = sorted({0, *(bound for run in runs for bound in run)})
        # A run may span several pieces, where another begins within it.
        self.order = [
            piece
            for start, stop in runs
            for piece in range(self.bounds.index(start), self.bounds.index(stop))
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, len(channels), H, W)."""
        sizes = [stop - start for start, stop in pairwise(self.bounds)]
        rest = x.shape[1] - self.bounds[-1]
        pieces = torch.split(x, [*sizes, rest] if rest else sizes, 1)
        if self.order == list(range(len(sizes))) and not rest:
            taken = x
        else:
            taken = torch.cat([pieces[piece] for piece in self.order], 1)
        if self.groups == 1:
            return taken
        n, c, h, w = taken.shape
        # Written so that pnnx sees the channel shuffle in it.
        y = taken.reshape(n, self.groups, c // self.groups, h, w)
        return y.transpose(1, 2).reshape(n, c, h, w)


def _dealt_runs(channels: Sequence[int]) -> tuple[int, list[tuple[int, int]]]:
    """Find the number of groups of the shuffle that leaves the fewest runs before it, and those."""
    best = 1, _runs(channels)
    for groups in range(2, 17):
        if len(channels) % groups == 0:
            sorted_back = [c for group in range(groups) for c in channels[group::groups]]
            runs = _runs(sorted_back)
            if len(runs) < len(best[1]):
                best = groups, runs
    return best


def _runs(channels: Sequence[int]) -> list[tuple[int, int]]:
    """Cut a list into runs of neighbours, as pairs of the first and the one behind the last."""
    runs: list[tuple[int, int]] = []
    for channel in channels:
        if runs and runs[-1][1] == channel:
            runs[-1] = runs[-1][0], channel + 1
        else:
            runs.append((channel, channel + 1))
    return runs
