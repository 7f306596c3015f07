"""ncnn, written by pnnx and run by ncnn's Python module."""

import copy
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmshuffle.errors import UserError, last_line

from .board import load_ncnn
from .formats import Format, Inference, Paths, Unsupported, refusing, save, trace
from .quantise_ncnn import calibrate
from .rewire import Gather


class NcnnFormat(Format):
    """ncnn's text file of layers and its file of weights, both in float32.

    ncnn knows no batch: an image is (3, H, W) to it. The blobs are called ``in0``, ``out0``,
    ``out1``, ...
    """

    name = 'ncnn'
    suffixes = ('.param', '.bin')
    packages = ('ncnn', 'pnnx')
    dynamic_batch = False
    precisions = ('fp16', 'fp32')
    forms = ('free', 'free-4', 'free-8', 'interleaved-4', 'interleaved-8')
    calibrate = staticmethod(calibrate)

    def write(self, module: nn.Module, images: Tensor, paths: Paths, *_: Any) -> None:
        """Trace the module and let pnnx translate the trace."""
        import pnnx

        shape = ','.join(map(str, images.shape))
        module = copy.deepcopy(module)
        lower_gathers(module)
        untie(module)
        # pnnx writes seven files beside its input.
        with tempfile.TemporaryDirectory(dir=paths[0].parent) as folder:
            save(trace(module, images), Path(folder, 'net.pt'))
            command = [pnnx.EXEC_PATH, 'net.pt', f'inputshape=[{shape}]f32', 'fp16=0']
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            except OSError as error:
                raise UserError(f'pnnx cannot be started: {error}; install it anew') from None
            written = [Path(folder, 'net.ncnn.param'), Path(folder, 'net.ncnn.bin')]
            if done.returncode != 0 or not all(path.is_file() for path in written):
                raise Unsupported(
                    f'pnnx cannot translate the network (exit code {done.returncode}): '
                    f'{last_line(done.stderr or done.stdout)}'
                )
            unknown = sorted({kind for kind in _layer_types(written[0]) if not kind.isalnum()})
            if unknown:
                raise Unsupported(
                    f'ncnn has no layer for {", ".join(unknown)}: try another --shuffle, or onnx'
                )
            for source, target in zip(written, paths, strict=True):
                source.replace(target)

    def load(self, paths: Paths, threads: int | None = None) -> Inference:
        """Load the network, with arithmetic and storage in float32 wherever it runs."""
        with refusing(f'ncnn cannot load {paths[0].name}', UserError):
            return load_ncnn(paths[0], threads or 0)

    def count_nodes(self, paths: Paths) -> Counter[str]:
        """Count the layers by type; ``Split`` only names a blob twice and copies nothing."""
        return Counter(_layer_types(paths[0]))


def _layer_types(param: Path) -> list[str]:
    """Types of the layers of a .param file, behind its magic number and its counts."""
    return [line.split()[0] for line in param.read_text().splitlines()[2:] if line.strip()]


def untie(module: nn.Module) -> None:
    """Copy what is registered in several places, in place: pnnx knows a module by one name only."""
    seen: set[nn.Module] = set()
    for holder in list(module.modules()):
        for name, child in holder._modules.items():
            if child in seen:
                holder._modules[name] = copy.deepcopy(child)
            elif child is not None:
                seen.add(child)


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
        found = {}
        for groups in (groups for groups in range(1, 17) if len(channels) % groups == 0):
            dealt = [c for group in range(groups) for c in channels[group::groups]]
            neighbours = groupby(enumerate(dealt), lambda pair: pair[1] - pair[0])
            found[groups] = [[c for _, c in run] for _, run in neighbours]
        self.groups = min(found, key=lambda groups: len(found[groups]))
        runs = [(run[0], run[-1] + 1) for run in found[self.groups]]
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
