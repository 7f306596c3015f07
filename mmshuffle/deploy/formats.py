"""The formats of exported files: writing one, running it, counting its nodes."""

import contextlib
import importlib.util
import inspect
import os
import sys
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mmshuffle.errors import UserError, one_line

from .board import load_onnx
from .detection_ops import onnx_translations
from .quantise import Calibrated, Recipe
from .quantise_onnx import calibrate

Paths = Sequence[Path]
Names = Sequence[str]
# From images, (N, 3, H, W) float32, to the outputs.
Inference = Callable[[np.ndarray], list[np.ndarray]]


class Unsupported(UserError):
    """A network, or a form of it, cannot be written; another form or format may."""


@contextlib.contextmanager
def refusing(what: str, kind: type[UserError] = Unsupported) -> Iterator[None]:
    """Turn whatever a library raises into ``kind``, with ``what`` in front of its message."""
    try:
        yield
    except Exception as error:  # those of the libraries have no common base
        if kind is Unsupported and isinstance(error, OSError):  # a full disk, no network's fault
            raise
        raise kind(f'{what}: {one_line(error)}') from error


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep off the screen what converters and runtimes print, from C too."""
    with open(os.devnull, 'w') as nowhere, contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter('ignore')
        for file, number in ((sys.stdout, 1), (sys.stderr, 2)):
            file.flush()
            kept = os.dup(number)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
            stack.callback(file.flush)
            os.dup2(nowhere.fileno(), number)
        yield


class Format(ABC):
    """One file format and the runtime that is its judge."""

    name: ClassVar[str]
    # Of the files of an export; the first is the one that a user names.
    suffixes: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]] = ()
    dynamic_batch: ClassVar[bool] = True
    # What the runtime can compute in from the one file, its usual choice first.
    precisions: ClassVar[tuple[str, ...]] = ('fp32',)
    # Forms of `shuffle_free` worth trying, by the sizes of blocks that the runtime may work on.
    forms: ClassVar[tuple[str, ...]] = ('free',)

    def require(self) -> None:
        """Refuse to start without the packages that the format needs.

        Raises:
            UserError: One is not installed.
        """
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f'the {self.name} format needs {" and ".join(missing)}: '
                f'pip install {" ".join(missing)}'
            )

    def paths(self, path: Path) -> tuple[Path, ...]:
        """Files of an export that a user calls ``path``, with or without one of the suffixes."""
        stem = path.stem if path.suffix in self.suffixes else path.name
        return tuple(path.with_name(stem + suffix) for suffix in self.suffixes)

    @abstractmethod
    def write(
        self, module: nn.Module, images: Tensor, paths: Paths, names: Names, dynamic_batch: bool
    ) -> None:
        """Write the files.

        Args:
            module: Maps images, (N, C, H, W), to a tuple of tensors; in evaluation mode, on the
                CPU, such as :class:`~.export.AsTuple`.
            images: An example of its input.
            paths: The files.
            names: Names of the outputs, where the format has names of one's own.
            dynamic_batch: Whether N is to stay free.

        Raises:
            Unsupported: The format cannot express the network.
        """

    @abstractmethod
    def load(self, paths: Paths, threads: int | None = None) -> Inference:
        """Make the runtime ready, in float32.

        Args:
            paths: The files.
            threads: Threads that the runtime may use; its own choice where None.

        Raises:
            UserError: The runtime does not take the files.
        """

    @abstractmethod
    def count_nodes(self, paths: Paths) -> Counter[str]:
        """Count the nodes of the graph by type."""

    def calibrate(
        self, module: nn.Module, paths: Paths, images: Iterable[np.ndarray], recipe: Recipe
    ) -> Calibrated:
        """Make a float32 file ready to be written in int8.

        Args:
            module: What the file was written from.
            paths: The files.
            images: Inputs, (1, C, H, W), that show the ranges of the activations.
            recipe: How numbers are mapped.

        Raises:
            UserError: The format has no int8 here.
        """
        raise UserError(f'--int8: {self.name} has no int8 here, give another --format')


class OnnxFormat(Format):
    """ONNX; every operator is of the standard set."""

    name = 'onnx'
    suffixes = ('.onnx',)
    packages = ('onnx', 'onnxscript', 'onnxruntime')
    forms = ('free', 'free-4', 'free-8', 'free-16')
    calibrate = staticmethod(calibrate)

    def require(self) -> None:
        """As of every format; PyTorch's exporter may also be too old."""
        super().require()
        if 'custom_translation_table' not in inspect.signature(torch.onnx.export).parameters:
            raise UserError(
                f'the onnx format needs a newer PyTorch than {torch.__version__}, whose exporter '
                'takes no custom operators: install it, or choose another --format'
            )

    def write(
        self, module: nn.Module, images: Tensor, paths: Paths, names: Names, dynamic_batch: bool
    ) -> None:
        """Export with :func:`torch.onnx.export`, which folds BatchNorm and constants."""
        if dynamic_batch:  # a batch of 1 would be taken for a constant
            images = torch.cat((images, images))
        with refusing('the network cannot be written as ONNX'), silence():
            program = torch.onnx.export(
                module,
                (images,),
                input_names=['image'],
                output_names=list(names),
                dynamic_shapes=({0: torch.export.Dim('batch')},) if dynamic_batch else None,
                custom_translation_table=onnx_translations(),
                dynamo=True,
                verbose=False,
            )
        # The exporter notes at every node the source lines that it comes from: a third of a small
        # network's file, and names of folders of the machine.
        model = program.model
        values = (value for node in model.graph for value in node.outputs)
        for part in (model, model.graph, *model.graph, *values):
            part.metadata_props.clear()
        program.save(str(paths[0]))

    def load(self, paths: Paths, threads: int | None = None) -> Inference:
        """Start a session on the CPU with ONNX Runtime's default optimisations."""
        with refusing(f'ONNX Runtime cannot load {paths[0].name}', UserError):
            return load_onnx(paths[0], threads or 0)

    def count_nodes(self, paths: Paths) -> Counter[str]:
        import onnx

        graph = onnx.load(str(paths[0]), load_external_data=False).graph
        return Counter(node.op_type for node in graph.node)


class TorchScriptFormat(Format):
    """A frozen trace; the batch is free in it, whether that is asked for or not."""

    name = 'torchscript'
    suffixes = ('.pt',)

    def write(self, module: nn.Module, images: Tensor, paths: Paths, *_: Any) -> None:
        """Trace, freeze and save."""
        with silence():
            save(torch.jit.freeze(trace(module, images)), paths[0])

    def load(self, paths: Paths, threads: int | None = None) -> Inference:
        """Load the trace; ``threads`` becomes the number of threads of the process."""
        module = _load(paths[0])
        if threads is not None:
            torch.set_num_threads(threads)

        def run(images: np.ndarray) -> list[np.ndarray]:
            with torch.inference_mode():
                return [output.numpy() for output in module(torch.from_numpy(images))]

        return run

    def count_nodes(self, paths: Paths) -> Counter[str]:
        """Count the operators of the graph, without the constants and lists between them."""
        kinds = [node.kind() for node in _load(paths[0]).inlined_graph.nodes()]
        return Counter(kind.removeprefix('aten::') for kind in kinds if kind.startswith('aten::'))


def _load(path: Path) -> torch.jit.ScriptModule:
    with silence(), refusing(f'PyTorch cannot load {path.name}', UserError):
        return torch.jit.load(str(path))


def save(traced: torch.jit.ScriptModule, path: Path) -> None:
    """Write a trace; PyTorch's own ``save`` ends the process where the disk is full."""
    path.write_bytes(traced.save_to_buffer())


@torch.inference_mode(False)
def trace(module: nn.Module, images: Tensor) -> torch.jit.ScriptModule:
    """Record what ``module`` computes on ``images``.

    Raises:
        Unsupported: It cannot be recorded.
    """
    with refusing('the network cannot be traced'), silence(), torch.no_grad():
        # The exported file is compared with the module itself afterwards.
        return torch.jit.trace(module, images, check_trace=False)
