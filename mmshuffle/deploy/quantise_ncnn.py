"""int8 in ncnn's own format: weights, scales and the flags that announce them.

Between layers ncnn's numbers are float32, so that a shuffle, slice or concatenation never rounds.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .board import load_ncnn
from .formats import Unsupported
from .quantise import Calibrated, LayerNames, Recipe, Step, find_ranges, last_layers

# Layers that can be int8, with the flag `8=` that says which scales follow the weights: one an
# output channel, or, for a depthwise convolution, one a channel.
LAYERS = {'Convolution': '8=2', 'ConvolutionDepthWise': '8=1', 'InnerProduct': '8=2'}
INT8 = b'\x38\x4b\x0d\x00'  # in front of weights in int8
# ncnn computes 3x3 convolutions of stride 1 by Winograd's F(4, 3) in int16, with all sums times
# 576 in int32: an output channel's weights must not add up to more than this.
LARGEST_SUM = (2**31 - 1) // (576 * 127)


class _Layer:
    """A line of the .param file with its bytes of the .bin file."""

    def __init__(self, line: str) -> None:
        self.kind, self.name, inputs, outputs, *rest = line.split()
        first, second = int(inputs), int(inputs) + int(outputs)
        self.inputs, self.outputs = rest[:first], rest[first:second]
        self.settings = rest[second:]
        self.values: dict[int, Any] = {}
        for setting in self.settings:
            key, _, value = setting.partition('=')
            if int(key) >= 0:  # others are lists
                self.values[int(key)] = float(value) if set(value) & set('.e') else int(value)
        self.weights = self.rest = b''

    def __getitem__(self, key: int) -> int:
        return self.values.get(key, 0)

    def sizes(self) -> tuple[int, int]:
        """Bytes of the weights, with the tag in front of them, and of what follows them."""
        if self.kind in LAYERS:
            bias = 1 if self.kind == 'InnerProduct' else 5
            return 4 + 4 * self[2 if self.kind == 'InnerProduct' else 6], 4 * self[0] * self[bias]
        numbers = {
            'MemoryData': np.prod([max(self[key], 1) for key in (0, 1, 11, 2)]),
            'GroupNorm': 2 * self[1] * self.values.get(3, 1),
            'LayerNorm': 2 * self[0] * self.values.get(2, 1),
            'BatchNorm': 4 * self[0],
            'PReLU': self[0],
        }
        return 0, 4 * numbers.get(self.kind, 0)

    def matrix(self) -> np.ndarray:
        """Weights in float32, a row for each scale."""
        rows = self[7] if self.kind == 'ConvolutionDepthWise' else self[0]
        return np.frombuffer(self.weights[4:], '<f4').reshape(rows, -1)

    def quantised(self, largest: float, per_channel: bool) -> tuple[str, bytes]:
        """Line and bytes in int8, for inputs up to ``largest``."""
        weights = self.matrix()
        most = np.abs(weights).max(1)
        if not per_channel:
            most[:] = most.max()
        scales = 127 / np.maximum(most, 1e-12)
        if self.kind == 'Convolution' and self[1] == 3 and self[3] in (0, 1) and self[2] in (0, 1):
            total = np.abs(weights).sum(1) * scales
            # Rounding may add half a unit a weight.
            room = LARGEST_SUM - weights.shape[1] / 2
            scales *= np.minimum(1, room / np.maximum(total, 1))
        rounded = np.clip(np.rint(weights * scales[:, None]), -127, 127).astype(np.int8).tobytes()
        padding = b'\0' * (-len(rounded) % 4)
        numbers = np.append(scales, 127 / max(largest, 1e-12)).astype('<f4').tobytes()
        settings = [s for s in self.settings if not s.startswith('8=')] + [LAYERS[self.kind]]
        return self.line(settings), INT8 + rounded + padding + self.rest + numbers

    def kernel(self) -> int:
        """Weights of a convolution for each pair of an input and an output channel."""
        return self[1] * (self[11] or self[1])

    def groups(self) -> int:
        """How many groups a convolution has that is not depthwise; 1 for others.

        ncnn's int8 reads memory of others there, where a group fills blocks of 8 channels.
        """
        if self.kind != 'ConvolutionDepthWise':
            return 1
        # A depthwise convolution has one input channel a group.
        return self[7] if self.matrix().size > self[0] * self.kernel() else 1

    def pieces(self) -> list['_Layer']:
        """Layers that compute a grouped convolution: a slice, a convolution a group, their join."""
        count, outputs = self.groups(), self[0] // self.groups()
        inputs = self.matrix().size // self[0] // self.kernel()
        ends = [[f'{self.name}_{end}{i}' for i in range(count)] for end in ('in', 'out')]
        sizes = ','.join([str(count), *[str(inputs)] * count])
        before, after = (' '.join(names) for names in ends)
        found = [_Layer(f'Slice {self.name}_s 1 {count} {self.inputs[0]} {before} -23300={sizes}')]
        weights, biases = self.matrix(), np.frombuffer(self.rest, '<f4').reshape(count, -1)
        changed = {0: outputs, 6: weights.size // count}
        kept = [s for s in self.settings if int(s.partition('=')[0]) not in (0, 6, 7)]
        settings = ' '.join([*kept, *(f'{key}={value}' for key, value in changed.items())])
        for index in range(count):
            ports = f'1 1 {ends[0][index]} {ends[1][index]}'
            piece = _Layer(f'Convolution {self.name}_{index} {ports} {settings}')
            piece.weights = self.weights[:4] + weights[index].tobytes()
            piece.rest = biases[index].tobytes()
            found.append(piece)
        join = f'Concat {self.name}_c {count} 1 {after} {self.outputs[0]} 0=0'
        return [*found, _Layer(join)]

    def line(self, settings: Sequence[str] | None = None) -> str:
        """The line of the .param file."""
        ports = [f'{len(self.inputs)} {len(self.outputs)}', *self.inputs, *self.outputs]
        return ' '.join([self.kind, self.name, *ports, *(settings or self.settings)])


def read_layers(paths: Sequence[Path]) -> tuple[str, list[_Layer]]:
    """Read a float32 network: its first line, and its layers.

    Raises:
        Unsupported: It has weights of a kind that is not known here.
    """
    magic, _, *lines = paths[0].read_text().splitlines()
    layers = [_Layer(line) for line in lines if line.strip()]
    content, at = paths[1].read_bytes(), 0
    for layer in layers:
        first, second = layer.sizes()
        layer.weights, layer.rest = content[at : at + first], content[at + first :][:second]
        at += first + second
    tags = {layer.weights[:4] for layer in layers if layer.weights}
    if at != len(content) or tags - {b'\0\0\0\0'}:
        kinds = sorted({layer.kind for layer in layers} - LAYERS.keys())
        raise Unsupported(
            f'the ncnn network has weights in one of {", ".join(kinds)} that cannot be read for '
            'int8: choose --format onnx'
        )
    return magic, layers


def calibrate(
    module: nn.Module, paths: Sequence[Path], images: Iterable[np.ndarray], recipe: Recipe
) -> Calibrated:
    """Run the images through a float32 network and note the range of every layer's input.

    Raises:
        Unsupported: It has weights of a kind that is not known here.
    """
    magic, layers = read_layers(paths)
    known = LayerNames(module)
    names = {
        layer.name: known(np.frombuffer(layer.weights[4:], '<f4'), layer.name)
        for layer in layers
        if layer.kind in LAYERS and not layer[19]  # weights that are computed
    }
    able = [layer for layer in layers if names.get(layer.name)]
    inputs = sorted({layer.inputs[0] for layer in able})
    run = load_ncnn(paths[0], 1, names=inputs)
    ranges = find_ranges(images, inputs, lambda x: dict(zip(inputs, run(x))), recipe.method)
    largest = {name: max(-low, high) for name, (low, high) in ranges.items()}

    def write(chosen: Collection[str], targets: Sequence[Path]) -> None:
        text, content, blobs = [], [], set()
        for layer in layers:
            named = names.get(layer.name) in chosen
            for part in layer.pieces() if named and layer.groups() > 1 else [layer]:
                line, data = part.line(), part.weights + part.rest
                if named and part.kind in LAYERS:
                    line, data = part.quantised(largest[layer.inputs[0]], recipe.per_channel)
                text.append(line)
                content.append(data)
                blobs.update(part.outputs)
        counts = f'{len(text)} {len(blobs)}'
        targets[0].write_text('\n'.join([magic, counts, *text]) + '\n')
        targets[1].write_bytes(b''.join(content))

    order = tuple(dict.fromkeys(names[layer.name] for layer in able))
    steps = [Step(layer, layer.inputs, layer.outputs, names.get(layer.name)) for layer in layers]
    return Calibrated(order, last_layers(steps), write)
