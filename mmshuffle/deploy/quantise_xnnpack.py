"""LiteRT and ExecuTorch, and int8 for them: operations that quantise in a recorded network."""

import copy
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers the operations
from torch import Tensor, fx, nn

from . import quantise
from .formats import Format, Paths, silence
from .lowering import ATEN, lower
from .quantise import Calibrated, LayerNames, Range, Recipe, Step

QUANTISED = torch.ops.quantized_decomposed
# LiteRT wants one scale around an average, too.
MOVES = ('cat', 'slice', 'view', 'reshape', 'flatten', 'permute', 'transpose', 'constant_pad_nd')
MOVES += ('max_pool2d', 'avg_pool2d')
LARGEST_BIAS = 2**30  # in steps of a layer's sums, which are int32


class XnnpackFormat(Format):
    """A format whose runtime leaves to XNNPACK what that takes; it has a batch of 1."""

    dynamic_batch = False
    # Whether weights are to be int8, or float32 with an operation behind them that quantises.
    folded: ClassVar[bool] = True

    def write(self, module: nn.Module, images: Tensor, paths: Paths, *_: Any) -> None:
        """Compile what ``torch.export`` records."""
        with silence():
            self.compile(lower(module, images), images, paths[0], False)

    @abstractmethod
    def compile(self, recorded: fx.GraphModule, images: Tensor, path: Path, int8: bool) -> None:
        """Write what is recorded, in int8 with operations that quantise in it."""

    def calibrate(
        self, module: nn.Module, paths: Paths, images: Iterable[np.ndarray], recipe: Recipe
    ) -> Calibrated:
        """Run the images through a recorded network and note the range of every activation."""
        example = torch.from_numpy(next(iter(images)))
        recorded = lower(module, example)
        if not self.folded:
            _keep_ends(recorded.graph)
        interpreter = fx.Interpreter(recorded, garbage_collect_values=False)

        @torch.no_grad()
        def run(image: np.ndarray) -> dict[str, Any]:
            interpreter.env.clear()
            interpreter.run(torch.from_numpy(image))
            return {node.name: value for node, value in interpreter.env.items()}

        def write(steps: Sequence[Step], ranges: dict[str, Range], paths: Paths) -> None:
            changed = copy.deepcopy(recorded)
            _quantise(changed, steps, ranges, recipe.per_channel, self.folded)
            with silence():
                self.compile(changed, example, paths[0], True)

        steps = read_steps(recorded, module)
        return quantise.calibrate(steps, images, recipe, lambda _: run, write)


def _keep_ends(graph: fx.Graph) -> None:
    """Part the ends of a network from its layers: LiteRT's converter makes those int8 otherwise."""
    (image,), (output,) = graph.find_nodes(op='placeholder'), graph.find_nodes(op='output')
    for node, users in [(image, [*image.users]), *((n, [output]) for n in output.all_input_nodes)]:
        with graph.inserting_after(node):  # a product with 1 would be dropped
            apart = graph.call_function(ATEN.mul.Tensor, (node, 1 + 2**-23))
        for user in users:
            user.replace_input_with(node, apart)


def read_steps(recorded: fx.GraphModule, module: nn.Module) -> list[Step]:
    """What quantising needs to know of a recorded network."""
    known = LayerNames(module)
    steps = []
    for node in recorded.graph.nodes:
        kind = getattr(node.target, '_opname', '').removesuffix('_')
        layer, limits = None, None
        if kind in ('conv2d', 'linear') and node.args[1].op == 'get_attr':
            weight = recorded.get_parameter(node.args[1].target).detach().numpy()
            layer = known(weight, node.args[1].target.removesuffix('.weight'))
        elif kind in ('relu', 'hardtanh', 'clamp'):
            low, high = (0, None) if kind == 'relu' else (*node.args[1:3], None, None)[:2]
            limits = -np.inf if low is None else low, np.inf if high is None else high
        elif kind == 'constant_pad_nd':  # ExecuTorch takes zeros behind int8 for int8 in any case
            limits, kind = ((-np.inf, np.inf), kind) if not any(node.args[2:]) else (None, '')
        inputs = [source.name for source in node.all_input_nodes if source.op != 'get_attr']
        how = limits, kind in MOVES, kind in ('add', 'mean')
        steps.append(Step(node, inputs, [node.name], layer, *how))
    return steps


def _quantise(
    network: fx.GraphModule, steps: Sequence[Step], ranges: dict[str, Range], *weights: bool
) -> None:
    """Put operations that quantise around some steps, in place."""
    graph = network.graph
    nodes, scales = {node.name: node for node in graph.nodes}, {}
    made = {step.outputs[0]: step for step in steps}
    for name in quantise.activations(steps):
        node, users = nodes[name], list(nodes[name].users)
        low, high = min(ranges[name][0], 0.0), max(ranges[name][1], 0.0)  # 0 is what fills borders
        scales[name] = scale = max(high - low, 1e-12) / 255
        reader = made.get(users[0].name) if len(users) == 1 and name in made else None
        if reader is not None and reader.limits is not None and not reader.moves:
            continue  # an activation becomes part of the layer before it
        how = scale, round(-128 - low / scale), -128, 127, torch.int8
        with graph.inserting_after(node):
            stored = graph.call_function(QUANTISED.quantize_per_tensor.default, (node, *how))
        for user in users:
            if name in made or user.name in made:
                with graph.inserting_before(user):
                    read = QUANTISED.dequantize_per_tensor.default
                    user.replace_input_with(node, graph.call_function(read, (stored, *how)))
    for name, step in made.items():
        if step.layer is not None:
            _quantise_weight(network, nodes[name], scales[step.inputs[0]], *weights)
    network.recompile()


def _quantise_weight(
    network: fx.GraphModule, layer: fx.Node, scale: float, per_channel: bool, folded: bool
) -> None:
    """Give a layer, whose input has a scale, a weight in int8."""
    source, *bias = (node for node in layer.args[1:3] if node is not None)
    weight = network.get_parameter(source.target).detach()
    largest = weight.flatten(1).abs().amax(1)
    scales = (largest if per_channel else largest.max().expand(len(largest))) / 127
    if bias:  # it is added to the sums, and must not overflow where weights are nearly nothing
        found = network.get_parameter(bias[0].target).detach()
        scales = torch.maximum(scales, found.abs() / (scale * LARGEST_BIAS))
    values = scales.clamp(min=1e-20), torch.zeros(len(scales), dtype=torch.int64)
    how = 0, -127, 127, torch.int8
    if folded:
        values += (QUANTISED.quantize_per_channel.default(weight, *values, *how),)
    graph = network.graph
    with graph.inserting_before(layer):
        for number, value in enumerate(values):
            network.register_buffer(f'{layer.name}_{number}', value)
        scales, zeros, *stored = (graph.get_attr(f'{layer.name}_{i}') for i in range(len(values)))
        how = scales, zeros, *how
        if not folded:
            store = QUANTISED.quantize_per_channel.default
            stored = [graph.call_function(store, (source, *how))]
        read = QUANTISED.dequantize_per_channel.default
        layer.update_arg(1, graph.call_function(read, (*stored, *how)))
