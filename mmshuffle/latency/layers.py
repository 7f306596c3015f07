"""A profile by type of layer: 1x1, depthwise and other convolutions, shuffling, and the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

# Types in the order of the table.
POINTWISE, DEPTHWISE, OTHER_CONV = '1x1 convolution', 'depthwise convolution', 'other convolution'
ROUTING, DENSE, POOLING = 'shuffle, concat, slice', 'fully connected', 'pooling'
LAYOUT, OTHER = 'change of layout', 'other'
TYPES = (POINTWISE, DEPTHWISE, OTHER_CONV, ROUTING, DENSE, POOLING, LAYOUT, OTHER)
OPERATORS = {
    ROUTING: ('Concat', 'Gather', 'Reshape', 'Slice', 'Split', 'Squeeze', 'Transpose', 'Unsqueeze'),
    DENSE: ('Gemm', 'MatMul', 'FusedGemm', 'FusedMatMul'),
    POOLING: ('AveragePool', 'GlobalAveragePool', 'MaxPool', 'ReduceMean'),
    # Between ONNX Runtime's blocked layout and the plain one.
    LAYOUT: ('ReorderInput', 'ReorderOutput'),
}


def layer_type(layer: Mapping[str, Any]) -> str:
    """Type of a profiled layer.

    Args:
        layer: ``type``, as ONNX Runtime calls it after its optimisations, and the shapes of its
            ``inputs``.
    """
    if layer['type'].endswith('Conv'):
        # (N, C_in, H, W) and (C_out, C_in / groups, kH, kW)
        image, weight = layer['inputs'][:2]
        if tuple(weight[2:]) == (1, 1):
            return POINTWISE
        return DEPTHWISE if weight[1] == 1 < image[1] else OTHER_CONV
    return next((kind for kind in OPERATORS if layer['type'] in OPERATORS[kind]), OTHER)


def sum_up(layers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Milliseconds by type, in the order of :data:`TYPES`."""
    sums = dict.fromkeys(TYPES, 0.0)
    for layer in layers:
        sums[layer_type(layer)] += layer['ms']
    return {kind: ms for kind, ms in sums.items() if ms > 0}
