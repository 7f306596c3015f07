"""int8 in ONNX: pairs of QuantizeLinear and DequantizeLinear, by ONNX Runtime's quantiser.

What only moves numbers, and a concatenation above all, has one scale for all that goes in and comes
out, so that no shuffle rounds anything.
"""

import copy
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .board import load_onnx
from .quantise import Calibrated, LayerNames, Range, Recipe, find_ranges, last_layers

LAYERS = ('Conv', 'Gemm', 'MatMul')
ACTIVATIONS = ('Relu', 'Clip')
# Operators that only move numbers, and must not round them.
MOVES = (
    *('Concat', 'Slice', 'Split', 'Gather', 'Reshape', 'Transpose', 'Squeeze', 'Unsqueeze'),
    *('Flatten', 'MaxPool'),
)
CARRIED = (*ACTIVATIONS, *MOVES, 'Add', 'AveragePool', 'GlobalAveragePool', 'Resize')


class Graph:
    """What quantising needs to know of a graph.

    Attributes:
        layers: Nodes with weights, by the name of their layer; several share weights.
    """

    def __init__(self, model: Any, module: nn.Module) -> None:
        from onnx import numpy_helper

        self.nodes = list(model.graph.node)
        stored = {item.name: item for item in model.graph.initializer}
        numbers = (item for item in model.graph.initializer if item.dims == [])
        self.constants = {item.name: float(numpy_helper.to_array(item)) for item in numbers}
        self.stored, known = stored.keys(), LayerNames(module)
        self.layers: dict[str, list[Any]] = {}
        for node in self.nodes:
            if node.op_type in LAYERS and node.input[1] in stored:
                weight = numpy_helper.to_array(stored[node.input[1]])
                name = known(weight, node.input[1].removesuffix('.weight'))
                if name is not None:
                    self.layers.setdefault(name, []).append(node)

    def tensors(self, node: Any) -> list[str]:
        """Activations that go into a node: not constants, nor limits, shapes and indices."""
        many = node.op_type in ('Concat', 'Add')
        return [name for name in node.input[: None if many else 1] if name not in self.stored]

    def between(self, chosen: Collection[str]) -> list[Any]:
        """The nodes of layers that become int8, and those that carry int8 from layer to layer."""
        layers = {id(node) for name in chosen for node in self.layers[name]}
        ahead: set[str] = set()  # tensors that a layer or an activation behind it put out
        wanted: set[str] = set()  # those that a layer takes in
        reached, found = [], []
        for node in self.nodes:
            carried = node.op_type in CARRIED and ahead.issuperset(self.tensors(node))
            if id(node) in layers or carried:
                reached.append(node)
                ahead.update(node.output)
        for node in reversed(reached):
            # The activation behind a layer becomes part of it, whatever reads the result.
            kept = id(node) in layers or node.op_type in ACTIVATIONS
            if kept or not wanted.isdisjoint(node.output):
                found.append(node)
                wanted.update(self.tensors(node))
        return found[::-1]

    def last(self) -> frozenset[str]:
        """Layers whose results no other layer reads."""
        names = {id(node): name for name, nodes in self.layers.items() for node in nodes}
        # Boxes that are pooled are no features.
        inputs = [n.input[:1] if n.op_type == 'RoiAlign' else n.input for n in self.nodes]
        return last_layers([(names.get(id(n)), x, n.output) for n, x in zip(self.nodes, inputs)])

    def limits(self, node: Any) -> Range:
        """What an activation lets through."""
        if node.op_type == 'Relu':
            return 0.0, np.inf
        low, high = [*node.input[1:3], '', ''][:2]
        return self.constants.get(low, -np.inf), self.constants.get(high, np.inf)

    def share(self, ranges: dict[str, Range], nodes: Sequence[Any]) -> dict[str, Range]:
        """Give tensors that are only moved, or concatenated, one range.

        ONNX Runtime drops an activation whose limits are the range's: so no range leaves them, and
        tensors of which one would, keep their own.
        """
        limits = {n.output[0]: self.limits(n) for n in nodes if n.op_type in ACTIVATIONS}
        ranges = dict(ranges)
        for name, (low, high) in limits.items():
            ranges[name] = max(ranges[name][0], low), min(ranges[name][1], high)
        group = {name: {name} for name in ranges}
        for node in nodes:
            if node.op_type in MOVES:
                tensors = [name for name in [*self.tensors(node), *node.output] if name in ranges]
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


def calibrate(
    module: nn.Module, paths: Sequence[Path], images: Iterable[np.ndarray], recipe: Recipe
) -> Calibrated:
    """Run the images through a float32 file and note the range of every activation."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.shape_inference.infer_shapes(onnx.load(str(paths[0])))
    graph = Graph(model, module)
    nodes = graph.between(graph.layers)
    used = {name for node in nodes for name in [*graph.tensors(node), *node.output]}
    image = model.graph.input[0].name
    names = sorted(used - {image})
    watched = copy.deepcopy(model)
    added = set(names) - {output.name for output in model.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(added))
    run = load_onnx(watched.SerializeToString(), 0, names=names)
    ranges = find_ranges(images, [image, *names], lambda value: [value, *run(value)], recipe.method)

    def write(chosen: Collection[str], targets: Sequence[Path]) -> None:
        used = graph.between(chosen)
        shared = graph.share(ranges, used).items()
        data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in shared}
        quantiser = QDQQuantizer(
            copy.deepcopy(model),
            recipe.per_channel,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=[node.name for node in used],
            nodes_to_exclude=[],
            op_types_to_quantize=sorted({node.op_type for node in used}),
            extra_options={},
        )
        quantiser.quantize_model()
        quantiser.model.save_model_to_file(str(targets[0]))

    return Calibrated(tuple(graph.layers), graph.last(), write)
