"""int8 after training: ranges of activations, which layers stay in float32, and which suffer."""

import fnmatch
import hashlib
import importlib.util
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from tqdm import tqdm

from mmshuffle.engine.progress import quiet_screen
from mmshuffle.errors import UserError

from .normalise import Normalise

METHODS = ('minmax', 'entropy')
Range = tuple[float, float]
Run = Callable[[np.ndarray], Mapping[str, Any]]  # from an image to activations by name


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
    found_in = map(run, tqdm(images, 'calibrate', unit='image'))
    seen = ({name: np.asarray(found[name]) for name in names} for found in found_in)
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


@dataclass(frozen=True)
class Step:
    """A node of a graph: what it does to activations, which go by name."""

    node: Any  # as its format has it
    inputs: Sequence[str]
    outputs: Sequence[str]
    layer: str | None = None  # name of the layer whose weights it has
    limits: Range | None = None  # of an activation function that only cuts off
    moves: bool = False  # numbers only change their places, and must not be rounded
    carries: bool = False  # computes in int8 what it gets in int8


def activations(steps: Sequence[Step]) -> list[str]:
    """What goes in and comes out of steps."""
    return list(dict.fromkeys(name for s in steps for name in (*s.inputs, *s.outputs)))


def calibrate(
    steps: Sequence[Step],
    images: Iterable[np.ndarray],
    recipe: Recipe,
    watch: Callable[[Sequence[str]], Run],
    write: Callable[..., None],
) -> Calibrated:
    """Find the ranges of what can be in int8; ``watch`` computes it, ``write`` writes files."""
    layers = tuple(dict.fromkeys(step.layer for step in steps if step.layer is not None))
    names = activations(between(steps, layers))
    ranges = find_ranges(images, names, watch(names), recipe.method)

    def write_layers(chosen: Collection[str], paths: Sequence[Path]) -> None:
        found = between(steps, chosen)
        write(found, share(ranges, found), paths)

    return Calibrated(layers, last_layers(steps), write_layers)


def between(steps: Sequence[Step], chosen: Collection[str]) -> list[Step]:
    """The layers that become int8, and what carries int8 from layer to layer."""
    ahead: set[str] = set()  # tensors that a layer or an activation behind it put out
    wanted: set[str] = set()  # those that a layer takes in
    reached, found = [], []
    for step in steps:
        carries = step.carries or step.moves or step.limits is not None
        if step.layer in chosen or (carries and ahead.issuperset(step.inputs)):
            reached.append(step)
            ahead.update(step.outputs)
    for step in reversed(reached):
        # The activation behind a layer becomes part of it, whatever reads the result.
        kept = step.layer in chosen or step.limits is not None
        if kept or not wanted.isdisjoint(step.outputs):
            found.append(step)
            wanted.update(step.inputs)
    return found[::-1]


def share(ranges: dict[str, Range], steps: Sequence[Step]) -> dict[str, Range]:
    """Give tensors that are only moved, or concatenated, one range.

    It stays within the limits of activations, which runtimes drop; others keep their own.
    """
    limits = {step.outputs[0]: step.limits for step in steps if step.limits is not None}
    ranges = dict(ranges)
    for name, (low, high) in limits.items():
        ranges[name] = max(ranges[name][0], low), min(ranges[name][1], high)
    group = {name: {name} for name in ranges}
    for step in steps:
        if step.moves:
            tensors = [name for name in [*step.inputs, *step.outputs] if name in ranges]
            joined = set().union(*(group[name] for name in tensors))
            group.update(dict.fromkeys(joined, joined))
    shared = {}
    for name, members in group.items():
        lows, highs = zip(*(ranges[member] for member in members))
        low, high = min(lows), max(highs)
        bounds = [limits[member] for member in members if member in limits]
        fits = all(least <= low and high <= most for least, most in bounds)
        shared[name] = (low, high) if fits else ranges[name]
    return shared


def last_layers(steps: Sequence[Step]) -> frozenset[str]:
    """Layers whose results no other layer reads, of steps in the order in which they run."""
    leading: set[str] = set()  # tensors that lead to a layer
    last, others = set(), set()
    for step in reversed(steps):
        leads = not leading.isdisjoint(step.outputs)
        if step.layer is not None:
            (others if leads else last).add(step.layer)
        if leads or step.layer is not None:
            leading.update(step.inputs)
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
