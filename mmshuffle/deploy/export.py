"""Writing a network for another runtime, and checking what was written before it is kept."""

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmshuffle.errors import UserError

from .formats import Format, Network, Request
from .ncnn_format import NcnnFormat
from .onnx_format import OnnxFormat
from .torchscript_format import TorchScriptFormat

FORMATS: dict[str, Format] = {
    form.name: form for form in (OnnxFormat(), NcnnFormat(), TorchScriptFormat())
}
# Float32 in another order of summation, over some hundred layers; a wrong weight is far above.
TOLERANCE = 1e-4

Outputs = Sequence[np.ndarray]


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        format: ``'onnx'``, ``'ncnn'`` or ``'torchscript'``.
        paths: The files; of ncnn the ``.param`` and the ``.bin`` file.
        nodes: Number of nodes of the graph by type, most frequent first.
        difference: Largest difference between the file's outputs and PyTorch's, as ``compare`` of
            :func:`export` measures it.
        size: Bytes of all files.
        input_shape: (1, C, H, W) of the check; 1 is free if ``dynamic_batch``.
        output_shapes: Shapes of the outputs for that input.
        dynamic_batch: Whether other N were checked too.
    """

    format: str
    paths: tuple[Path, ...]
    nodes: dict[str, int]
    difference: float
    size: int
    input_shape: tuple[int, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    dynamic_batch: bool

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {**asdict(self), 'paths': [str(path) for path in self.paths]}


def largest_difference(expected: Outputs, found: Outputs) -> float:
    """Compare outputs: each one's largest difference over its own largest value.

    Random weights make some outputs of a network a million times smaller than others; a difference
    is therefore seen against the output that it is in.
    """
    return max(
        float(np.abs(a - b).max() / max(np.abs(a).max(), np.finfo(a.dtype).tiny))
        for a, b in zip(expected, found, strict=True)
    )


def export(
    module: nn.Module,
    path: str | Path,
    format: str = 'onnx',
    shape: Sequence[int] = (1, 3, 224, 224),
    dynamic_batch: bool = False,
    *,
    images: Tensor | None = None,
    reference: Callable[[Tensor], Any] | None = None,
    compare: Callable[[Outputs, Outputs], float] = largest_difference,
    tolerance: float = TOLERANCE,
    input_name: str = 'image',
    output_names: Sequence[str] | None = None,
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
        format: ``'onnx'``, ``'ncnn'`` or ``'torchscript'``.
        shape: Of the input: (1, C, H, W), where C is 3 for images. It is the shape of the file's
            input, but for the batch.
        dynamic_batch: Leave N free, and check with another N; ncnn cannot.
        images: Input of the check, of this shape; random numbers where None.
        reference: What the file must agree with; ``module`` itself where None. The plain network,
            say, where ``module`` is a rewritten one.
        compare: Measures the difference of two lists of outputs, PyTorch's first.
        tolerance: The largest difference that is not a fault.
        input_name: Name of the input in ONNX.
        output_names: Names of the outputs in ONNX; ``output0``, ... where None.

    Returns:
        What was written, and how far it is from PyTorch.

    Raises:
        UserError: A package is missing, the format cannot express the network, the outputs differ,
            or the files cannot be written.
        ValueError: ``format`` or ``shape`` is none of the allowed values.
    """
    if format not in FORMATS:
        raise ValueError(f'format={format!r}: choose one of {", ".join(map(repr, FORMATS))}')
    form, target = FORMATS[format], Path(path)
    _check_request(form, target, shape, dynamic_batch)
    form.require()
    if images is None:
        images = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    copied = AsTuple(module)
    judge = _Judge(copied if reference is None else AsTuple(reference), compare, tolerance, form)
    expected = judge.expect(images)
    names = tuple(output_names or [f'output{i}' for i in range(len(expected))])
    request = Request(copied, images, input_name, names, dynamic_batch)
    paths = form.paths(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.export-', dir=target.parent) as folder:
            partial = tuple(Path(folder, path.name) for path in paths)
            form.write(request, partial)
            difference = _check(form.load(partial), judge, images, dynamic_batch)
            nodes = form.count_nodes(partial)
            size = sum(file.stat().st_size for file in partial)
            for source, place in zip(partial, paths, strict=True):
                source.replace(place)
    except OSError as error:
        raise UserError(f'{target} cannot be written: {error.strerror or error}') from None
    return ExportReport(
        format=format,
        paths=paths,
        nodes=dict(nodes.most_common()),
        difference=difference,
        size=size,
        input_shape=tuple(images.shape),
        output_shapes=tuple(output.shape for output in expected),
        dynamic_batch=dynamic_batch,
    )


class AsTuple(nn.Module):
    """A network's copy, ready to be exported, whose outputs are a tuple of tensors.

    Args:
        network: Module, or any other function of the images.
    """

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


def _check_request(form: Format, path: Path, shape: Sequence[int], dynamic_batch: bool) -> None:
    """Refuse what cannot be done, before the work starts."""
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1:
        raise ValueError(f'shape={tuple(shape)}: give (1, channels, height, width)')
    if dynamic_batch and not form.dynamic_batch:
        raise UserError(f'{form.name} has no batch: leave the dynamic batch out, or choose onnx')
    others = {s for other in FORMATS.values() if other is not form for s in other.suffixes}
    if path.suffix in others:
        raise UserError(f'{path} is to be of format {form.name}: end it in {form.suffixes[0]}')
    if path.is_dir():
        raise UserError(f'{path} is a folder: give the path of a file')


@dataclass(frozen=True)
class _Judge:
    """Says whether a file's outputs are the network's; see :func:`export` for the attributes."""

    reference: AsTuple
    compare: Callable[[Outputs, Outputs], float]
    tolerance: float
    form: Format

    def expect(self, images: Tensor) -> list[np.ndarray]:
        """Compute in PyTorch.

        Raises:
            UserError: The outputs are not finite.
        """
        with torch.no_grad():
            expected = [output.numpy() for output in self.reference(images)]
        if not all(np.isfinite(output).all() for output in expected):
            raise UserError('the network puts out infinite values or NaN: mend its weights')
        return expected

    def measure(self, network: Network, images: Tensor) -> float:
        """Compare a file's outputs with PyTorch's.

        Raises:
            UserError: They differ.
        """
        expected, found = self.expect(images), network(images.numpy())
        shapes, wanted = ([output.shape for output in outputs] for outputs in (found, expected))
        if shapes != wanted:
            raise UserError(
                f'the {self.form.name} file puts out shapes {shapes}, PyTorch {wanted}: it was '
                'deleted'
            )
        difference = self.compare(expected, found)
        if not difference <= self.tolerance:  # NaN is a difference
            raise UserError(
                f'the {self.form.name} file differs from PyTorch by {difference:.2g}, and '
                f'{self.tolerance:.2g} is allowed: it was deleted'
            )
        return difference


def _check(network: Network, judge: _Judge, images: Tensor, dynamic_batch: bool) -> float:
    """Run the file on ``images`` and, if the batch is free, on three images.

    Returns:
        The largest difference.

    Raises:
        UserError: The outputs differ.
    """
    batches = [images]
    if dynamic_batch:
        batches.append(torch.cat((images, images.flip(3), images.flip(2))))
    return max(judge.measure(network, batch) for batch in batches)
