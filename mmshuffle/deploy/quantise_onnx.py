"""int8 in ONNX: pairs of QuantizeLinear and DequantizeLinear, by ONNX Runtime's quantiser.

What only moves numbers, and a concatenation above all, has one scale for all that goes in and comes
out, so that no shuffle rounds anything.
"""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from . import quantise
from .board import load_onnx
from .quantise import Calibrated, LayerNames, Range, Recipe, Step

LAYERS = ('Conv', 'Gemm', 'MatMul')
ACTIVATIONS = ('Relu', 'Clip')
# Operators that only move numbers, and must not round them.
MOVES = (
    *('Concat', 'Slice', 'Split', 'Gather', 'Reshape', 'Transpose', 'Squeeze', 'Unsqueeze'),
    *('Flatten', 'MaxPool'),
)
CARRIED = ('Add', 'AveragePool', 'GlobalAveragePool', 'Resize')


def read_steps(model: Any, module: nn.Module) -> list[Step]:
    """What quantising needs to know of a graph; several nodes may share a layer's weights."""
    from onnx import numpy_helper

    stored = {item.name: item for item in model.graph.initializer}
    known = LayerNames(module)
    steps = []
    for node in model.graph.node:
        kind, layer, limits = node.op_type, None, None
        if kind in LAYERS and node.input[1] in stored:
            weight = numpy_helper.to_array(stored[node.input[1]])
            layer = known(weight, node.input[1].removesuffix('.weight'))
        elif kind in ACTIVATIONS:
            given = [stored.get(name) for name in [*node.input[1:3], '', ''][:2]]
            low, high = (None if g is None else float(numpy_helper.to_array(g)) for g in given)
            least = 0.0 if kind == 'Relu' else -np.inf
            limits = least if low is None else low, np.inf if high is None else high
        # Limits, shapes and indices are no activations, and boxes that are pooled no features.
        first = layer or kind in (*ACTIVATIONS, *MOVES, *CARRIED, 'RoiAlign')
        inputs = node.input[:1] if first and kind not in ('Concat', 'Add') else node.input
        read = [name for name in inputs if name not in stored]
        how = limits, kind in MOVES, kind in CARRIED
        steps.append(Step(node, read, node.output, layer, *how))
    return steps


def calibrate(
    module: nn.Module, paths: Sequence[Path], images: Iterable[np.ndarray], recipe: Recipe
) -> Calibrated:
    """Run the images through a float32 file and note the range of every activation."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.shape_inference.infer_shapes(onnx.load(str(paths[0])))
    image = model.graph.input[0].name

    def watch(names: Sequence[str]) -> quantise.Run:
        watched, inner = copy.deepcopy(model), [name for name in names if name != image]
        added = set(inner) - {output.name for output in model.graph.output}
        watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(added))
        run = load_onnx(watched.SerializeToString(), 0, names=inner)
        return lambda value: {image: value, **dict(zip(inner, run(value)))}

    def write(steps: Sequence[Step], ranges: dict[str, Range], targets: Sequence[Path]) -> None:
        data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
        quantiser = QDQQuantizer(
            copy.deepcopy(model),
            recipe.per_channel,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=[step.node.name for step in steps],
            nodes_to_exclude=[],
            op_types_to_quantize=sorted({step.node.op_type for step in steps}),
            extra_options={},
        )
        quantiser.quantize_model()
        quantiser.model.save_model_to_file(str(targets[0]))

    return quantise.calibrate(read_steps(model, module), images, recipe, watch, write)
