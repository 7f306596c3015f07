"""int8 after training: ranges of activations, which layers stay in float32, and which suffer."""

import fnmatch
import hashlib
import importlib.util
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn
from tqdm import tqdm

from mmshuffle.engine.progress import quiet_screen
from mmshuffle.errors import UserError

from .normalise import Normalise

METHODS = ('minmax', 'entropy')
Range = tuple[float, float]


@dataclass(frozen=True)
class Recipe:
    """How numbers are mapped to int8."""

    # How the range of an activation is found: from the least to the largest value of the
    # calibration images, or, by relative entropy, without rare large ones.
    method: str = 'minmax'
    per_channel: bool = True  # a scale for each output channel of a weight, or one for all


@dataclass(frozen=True)
class Calibrated:
    """A float32 file whose layers can be written in int8, as a format found them."""

    layers: tuple[str, ...]  # names, in the order in which they run
    last: frozenset[str]  # those whose results no other layer reads
    # Writes the file with the named layers in int8, and all others as they are.
    write: Callable[[Collection[str], Sequence[Path]], None]


def find_ranges(
    images: Iterable[np.ndarray], names: Sequence[str], run: Callable, method: str
) -> dict[str, Range]:
    """Find the ranges of activations.

    Args:
        images: Inputs, (1, C, H, W).
        names: Of the activations, which ``run`` computes of an image.
        method: One of :data:`METHODS`.

    Raises:
        UserError: The package that computes entropies is missing.
    """
    seen = (dict(zip(names, run(image))) for image in tqdm(images, 'calibrate', unit='image'))
    if method == 'minmax':
        found: dict[str, Range] = {}
        for tensors in seen:
            for name, array in tensors.items():
                low, high = found.get(name, (np.inf, -np.inf))
                found[name] = min(low, float(array.min())), max(high, float(array.max()))
        return found
    if importlib.util.find_spec('onnxruntime') is None:
        raise UserError('--ranges entropy needs onnxruntime: pip install onnxruntime')
    from onnxruntime.quantization.calibrate import HistogramCollector

    histograms = HistogramCollector('entropy', False, 128, 128, 99.999, 'same')
    with quiet_screen():
        for tensors in seen:
            histograms.collect({name: [array] for name, array in tensors.items()})
        computed = histograms.compute_collection_result()
    return {name: (float(low), float(high)) for name, (low, high, *_) in computed.items()}


class LayerNames:
    """Names of a module's convolutions and linear layers, found by the content of their weights.

    A file has other names; its weights are the same bytes.
    """

    def __init__(self, module: nn.Module) -> None:
        self._names: dict[bytes, str | None] = {}
        plain = {id(part.conv) for part in module.modules() if isinstance(part, Normalise)}
        for name, part in module.named_modules():
            if isinstance(part, (nn.Conv2d, nn.Linear)):
                weight = part.weight.detach().numpy()
                short = name.removeprefix('network.').removeprefix('1.')
                self._names.setdefault(_digest(weight), None if id(part) in plain else short)

    def __call__(self, weight: np.ndarray, other: str) -> str | None:
        """The layer's name: ``other`` where it is unknown, None for what is never quantised.

        That is the normalisation of the image: its input has 256 values already.
        """
        return self._names.get(_digest(weight), other)


def _digest(weight: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(weight, '<f4').tobytes()).digest()


def last_layers(
    nodes: Sequence[tuple[str | None, Sequence[str], Sequence[str]]],
) -> frozenset[str]:
    """Layers whose results no other layer reads.

    Args:
        nodes: In the order in which they run, each with the name of its layer, if it is one, and
            the tensors that go in and come out.
    """
    leading: set[str] = set()  # tensors that lead to a layer
    last, others = set(), set()
    for name, inputs, outputs in reversed(nodes):
        leads = not leading.isdisjoint(outputs)
        if name is not None:
            (others if leads else last).add(name)
        if leads or name is not None:
            leading.update(inputs)
    return frozenset(last - others)


def choose(calibrated: Calibrated, keep: Sequence[str]) -> list[str]:
    """The layers that become int8.

    Args:
        keep: What stays in float32: ``'first'``, ``'last'``, names, or patterns such as
            ``backbone.stages.0.*``.

    Raises:
        UserError: A name fits no layer, or nothing is left.
    """
    layers = calibrated.layers
    if not layers:
        raise UserError('the network has no convolution or linear layer that could be in int8')
    kept: set[str] = set()
    for pattern in keep:
        named = dict(first=layers[:1], last=calibrated.last).get(pattern)
        found = set(fnmatch.filter(layers, pattern) if named is None else named)
        if not found:
            raise UserError(
                f'--keep-fp32 {pattern}: no layer is called so; there are first, last, '
                f'{", ".join(layers[:3])}, ..., {layers[-1]}'
            )
        kept |= found
    chosen = [name for name in layers if name not in kept]
    if not chosen:
        raise UserError('--keep-fp32: all layers would stay in fp32: leave --int8 out')
    return chosen
