"""int8 after training: ranges of activations, which layers stay in float32, and which suffer."""

import fnmatch
import hashlib
import importlib.util
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
Run = Callable[[np.ndarray], list[np.ndarray]]


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


class Ranges:
    """Ranges of tensors, seen image by image.

    Args:
        method: One of :data:`METHODS`.

    Raises:
        UserError: The package that computes entropies is missing.
    """

    def __init__(self, method: str) -> None:
        self._found: dict[str, Range] = {}
        self._histograms = None
        if method == 'entropy':
            if importlib.util.find_spec('onnxruntime') is None:
                raise UserError('--ranges entropy needs onnxruntime: pip install onnxruntime')
            from onnxruntime.quantization.calibrate import HistogramCollector

            self._histograms = HistogramCollector('entropy', False, 128, 128, 99.999, 'same')

    def add(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take the tensors of one image into account."""
        if self._histograms is not None:
            with quiet_screen():
                self._histograms.collect({name: [array] for name, array in tensors.items()})
            return
        for name, array in tensors.items():
            low, high = self._found.get(name, (np.inf, -np.inf))
            self._found[name] = min(low, float(array.min())), max(high, float(array.max()))

    def result(self) -> dict[str, Range]:
        """Least and largest value by name."""
        if self._histograms is None:
            return self._found
        with quiet_screen():
            found = self._histograms.compute_collection_result()
        return {name: (float(low), float(high)) for name, (low, high, *_) in found.items()}


def with_progress(images: Iterable[np.ndarray], title: str) -> Iterable[np.ndarray]:
    """Show progress over images."""
    return tqdm(images, title, unit='image')


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


def layer_errors(
    calibrated: Calibrated,
    chosen: Sequence[str],
    load: Callable[[Sequence[Path]], Run],
    paths: Sequence[Path],
    expected: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]],
) -> dict[str, float]:
    """How much each layer changes the outputs where it alone is in int8, the worst first.

    Args:
        chosen: The layers.
        load: Of the format.
        paths: Files that may be written.
        expected: Images with the outputs in float32, only numbers that can be compared.

    Returns:
        By layer, the root mean square of the differences over that of the outputs: the largest of
        all outputs.
    """
    errors = {}
    for name in tqdm(chosen, 'layers alone in int8', unit='layer'):
        calibrated.write([name], paths)
        run = load(paths)
        sums = np.zeros((2, len(expected[0][1])))
        for image, wanted in expected:
            for index, (a, b) in enumerate(zip(run(image), wanted, strict=True)):
                sums[:, index] += np.square(a.astype(float) - b).sum(), np.square(b).sum()
        errors[name] = float(np.sqrt(sums[0] / np.maximum(sums[1], 1e-30)).max())
    return dict(sorted(errors.items(), key=lambda item: -item[1]))
