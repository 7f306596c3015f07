"""Writing a network for another runtime, and checking what was written before it is kept."""

import contextlib
import copy
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmshuffle.engine.network import running
from mmshuffle.errors import UserError

from .executorch_format import ExecuTorchFormat
from .formats import Format, Inference, OnnxFormat, Paths, TorchScriptFormat, refusing
from .litert_format import LiteRTFormat
from .ncnn_format import NcnnFormat

KINDS = (OnnxFormat, NcnnFormat, LiteRTFormat, ExecuTorchFormat, TorchScriptFormat)
FORMATS: dict[str, Format] = {kind.name: kind() for kind in KINDS}
# Float32 in another order of summation, over some hundred layers; a wrong weight is far above.
TOLERANCE = 1e-4
# The check is conclusive where another image changes the outputs by this many tolerances.
CLEAR = 100

Outputs = Sequence[np.ndarray]


@dataclass(frozen=True)
class ExportReport:
    """What was written."""

    format: str
    paths: tuple[Path, ...]  # of ncnn the .param and the .bin file
    nodes: dict[str, int]  # of the graph by type, most frequent first
    # Largest one between the file's outputs and PyTorch's, as `compare` of `export` measures it.
    difference: float
    # Whether another image changes PyTorch's outputs far more than the difference that is allowed;
    # where not, a wrong file might pass the check.
    conclusive: bool
    size: int  # bytes of all files
    input_shape: tuple[int, ...]  # (1, C, H, W) of the check; 1 is free if `dynamic_batch`
    output_names: tuple[str, ...]  # in an ncnn file, which has its own, out0, ...
    output_shapes: tuple[tuple[int, ...], ...]  # for that input
    dynamic_batch: bool  # whether other N were checked too

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {**asdict(self), 'paths': [str(path) for path in self.paths]}


def largest_difference(expected: Outputs, found: Outputs) -> float:
    """Compare outputs: each one's largest difference over its own largest value.

    Random weights make some outputs of a network a million times smaller than others; a difference
    is therefore seen against the output that it is in. NaN anywhere makes it NaN.
    """
    pairs = [(wanted.astype(float), output) for wanted, output in zip(expected, found, strict=True)]
    return float(np.max([abs(a - b).max() / max(abs(a).max(), 1e-38) for a, b in pairs]))


def export(
    module: nn.Module,
    path: str | Path,
    format: str = 'onnx',
    shape: Sequence[int] = (1, 3, 224, 224),
    dynamic_batch: bool = False,
    *,
    images: Tensor | None = None,
    reference: Callable[[Tensor], Any] | None = None,
    finish: Callable[[Outputs], Outputs] | None = None,
    compare: Callable[[Outputs, Outputs], float] = largest_difference,
    tolerance: float = TOLERANCE,
    output_names: Sequence[str] | None = None,
    convert: Callable[[nn.Module, Paths, Paths], None] | None = None,
) -> ExportReport:
    """Write ``module`` for another runtime.

    The files are written beside their place, run by that runtime, compared with PyTorch, and moved
    to their place only if they agree. Whatever happens before, an interruption included, leaves
    nothing; files of an earlier export stay until they are replaced.

    Args:
        module: Maps images, (N, 3, H, W) float32, to a tensor or a sequence of tensors. It is not
            changed: a copy is exported, on the CPU, in evaluation mode and in float32.
        path: File to write. The format's suffix (``.onnx``, ``.param``, ``.pt``) is added where it
            lacks; ncnn gets a ``.bin`` file beside it.
        format: A key of :data:`FORMATS`.
        shape: Of the file's input: (1, C, H, W), where C is 3 for images.
        dynamic_batch: Leave N free, and check with another N; ncnn cannot.
        images: Input of the check, of this shape; random numbers where None. A second one, mirrored
            and of half the contrast, is made of it, because what a file computes of the very image
            that the exporter saw may be constants.
        reference: What the file must agree with, such as the plain network of a rewritten one;
            ``module`` itself where None.
        finish: What the device does with the file's outputs before they are compared with those of
            ``reference``; nothing where None.
        compare: Measures the difference of two lists of outputs, PyTorch's first.
        tolerance: The largest difference that is not a fault.
        output_names: Names of the outputs in ONNX; ``output0``, ... where None.
        convert: Writes what is kept in the place of the checked files: it gets the module, those
            files and the ones to write, such as in int8.

    Returns:
        What was written, and how far it is from PyTorch.

    Raises:
        UserError: A package is missing, the network cannot run on such images, the format cannot
            express it, the outputs differ, or the files cannot be written.
        ValueError: ``format`` or ``shape`` is none of the allowed values.
    """
    if format not in FORMATS:
        raise ValueError(f'format={format!r}: choose one of {", ".join(map(repr, FORMATS))}')
    written, target = FORMATS[format], Path(path)
    check_arguments(written, target, shape, dynamic_batch)
    written.require()
    if images is None:
        images = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    # A program of ExecuTorch expects the order in memory of the image that the exporter saw.
    images = images.contiguous()
    batches = [images, images.flip(3) / 2]
    if dynamic_batch:
        batches.append(torch.cat((*batches, images.flip(2))))
    copied = AsTuple(module)
    plain = copied if reference is None else AsTuple(reference)
    expected = [expect(plain, batch) for batch in batches]
    raw = [expect(copied, batch) for batch in batches] if finish else expected
    names = tuple(output_names or [f'output{i}' for i in range(len(raw[0]))])
    paths = written.paths(target)
    with folder_beside(target) as folder:
        partial = tuple(folder / path.name for path in paths)
        written.write(copied, images, partial, names, dynamic_batch)
        infer = written.load(partial)
        difference = 0.0
        for batch, like, wanted in zip(batches, raw, expected, strict=True):
            found = _compute(infer, batch, like, format)
            differs = compare(wanted, finish(found) if finish else found)
            if not differs <= tolerance:  # NaN is a difference
                raise UserError(
                    f'the {format} file differs from PyTorch by {differs:.2g}, and '
                    f'{tolerance:.2g} is allowed: it was deleted'
                )
            difference = max(difference, differs)
        if convert is not None:
            checked, partial = partial, tuple(folder / f'to-{path.name}' for path in paths)
            convert(copied, checked, partial)
        nodes = written.count_nodes(partial)
        size = sum(file.stat().st_size for file in partial)
        replace_all(partial, paths)
    return ExportReport(
        format=format,
        paths=paths,
        nodes=dict(nodes.most_common()),
        difference=difference,
        conclusive=compare(expected[0], expected[1]) > CLEAR * tolerance,
        size=size,
        input_shape=tuple(images.shape),
        output_names=names,
        output_shapes=tuple(output.shape for output in raw[0]),
        dynamic_batch=dynamic_batch,
    )


@contextlib.contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Make a folder for files that are not at their place yet; gone, with what was made for it.

    Where the block does not fail, the folders that ``path`` needs stay.

    Raises:
        UserError: The disk cannot be written, also within the block.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.export-', dir=path.parent) as folder:
            yield Path(folder)
    except BaseException as error:
        for folder in made:
            with contextlib.suppress(OSError):  # something else is in it by now
                folder.rmdir()
        if isinstance(error, OSError):
            raise UserError(f'{path} cannot be written: {error.strerror or error}') from None
        raise


def replace_all(sources: Sequence[Path], paths: Sequence[Path]) -> None:
    """Move files to their places; Ctrl-C waits meanwhile, lest new files be mixed with old ones."""
    pressed: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    if in_main:  # no other thread may set a handler, nor is any interrupted
        before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        for source, path in zip(sources, paths, strict=True):
            source.replace(path)
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    if pressed:
        raise KeyboardInterrupt


class AsTuple(nn.Module):
    """A module's copy, or another function of images, whose outputs are a tuple of tensors."""

    def __init__(self, network: Callable[[Tensor], Any]) -> None:
        super().__init__()
        if isinstance(network, nn.Module):
            network = copy.deepcopy(network).cpu().float().requires_grad_(False)
        self.network = network
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images, (N, 3, H, W), to the outputs."""
        outputs = self.network(images)
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def check_arguments(format: Format, path: Path, shape: Sequence[int], dynamic_batch: bool) -> None:
    """Refuse what cannot be done, before the work starts; see :func:`export`.

    Raises:
        UserError: The format has no free batch, or the path is a folder or of another format.
        ValueError: ``shape`` is none of the allowed values.
    """
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1:
        raise ValueError(f'shape={tuple(shape)}: give (1, channels, height, width)')
    if dynamic_batch and not format.dynamic_batch:
        raise UserError(f'{format.name} has no batch: leave the dynamic batch out, or choose onnx')
    others = {s for other in FORMATS.values() if other is not format for s in other.suffixes}
    if path.suffix in others:
        raise UserError(f'{path} is to be of format {format.name}: end it in {format.suffixes[0]}')
    folder = path if path.is_dir() else next(filter(Path.is_dir, format.paths(path)), None)
    if folder is not None:
        raise UserError(f'{folder} is a folder: give the path of a file')


def expect(reference: AsTuple, images: Tensor, name: str = 'the network') -> list[np.ndarray]:
    """Compute in PyTorch what a file must compute.

    Raises:
        UserError: The network, which is called ``name``, does not run, or its outputs are not
            finite.
    """
    with running(name, images.shape), torch.no_grad():
        expected = [output.numpy() for output in reference(images)]
    if not all(np.isfinite(output).all() for output in expected):
        raise UserError(f'{name} puts out infinite values or NaN: check its weights')
    return expected


def _compute(infer: Inference, images: Tensor, wanted: Outputs, name: str) -> Outputs:
    """Compute with a file of the format ``name`` what has the shapes of ``wanted``."""
    size = 'x'.join(map(str, images.shape))
    with refusing(f'the {name} file cannot be run on {size} and was deleted', UserError):
        found = infer(images.numpy())
    shapes = [[output.shape for output in outputs] for outputs in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f'the {name} file puts out shapes {shapes[0]}, PyTorch {shapes[1]}: it was deleted'
        )
    return found
