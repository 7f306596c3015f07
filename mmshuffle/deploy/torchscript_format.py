"""TorchScript: a frozen trace, run by PyTorch without Python or without this package."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmshuffle.errors import UserError, one_line

from .formats import Format, Inference, Unsupported


class TorchScriptFormat(Format):
    """A frozen trace; the batch is free in it, whether that is asked for or not."""

    name = 'torchscript'
    suffixes = ('.pt',)

    def write(
        self,
        module: nn.Module,
        images: Tensor,
        paths: Sequence[Path],
        output_names: Sequence[str],
        dynamic_batch: bool = False,
    ) -> None:
        """Trace, freeze and save.

        Raises:
            Unsupported: The module cannot be traced.
        """
        traced = trace(module, images)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)
            save(torch.jit.freeze(traced), paths[0])

    def load(self, paths: Sequence[Path], threads: int | None = None) -> Inference:
        """Load the trace; ``threads`` becomes the number of threads of the process.

        Raises:
            UserError: The file is no TorchScript.
        """
        module = _load(paths[0])
        if threads is not None:
            torch.set_num_threads(threads)

        def run(images: np.ndarray) -> list[np.ndarray]:
            with torch.inference_mode():
                return [output.numpy() for output in module(torch.from_numpy(images))]

        return run

    def count_nodes(self, paths: Sequence[Path]) -> Counter[str]:
        """Count the operators of the graph, without the constants and lists between them."""
        kinds = [node.kind() for node in _load(paths[0]).inlined_graph.nodes()]
        return Counter(kind.removeprefix('aten::') for kind in kinds if kind.startswith('aten::'))


def _load(path: Path) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        try:
            return torch.jit.load(str(path))
        except RuntimeError as error:
            raise UserError(f'PyTorch cannot load {path.name}: {one_line(error)}') from error


def save(traced: torch.jit.ScriptModule, path: Path) -> None:
    """Write a trace; PyTorch's own ``save`` ends the process where the disk is full."""
    path.write_bytes(traced.save_to_buffer())


def trace(module: nn.Module, images: Tensor) -> torch.jit.ScriptModule:
    """Record what ``module`` computes on ``images``.

    Raises:
        Unsupported: It cannot be recorded.
    """
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter('ignore')
            # The exported file is compared with the module itself afterwards.
            return torch.jit.trace(module, images, check_trace=False)
    except Exception as error:  # whatever the network of a user raises
        raise Unsupported(f'the network cannot be traced: {one_line(error)}') from error
