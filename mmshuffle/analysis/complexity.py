"""Multiply-adds in the papers' convention, and the other costs that are counted along with them."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.flop_counter import FlopCounterMode

MULTIPLY_ADDS = (
    'Multiply-adds are those of convolutions and fully connected layers, one multiplication with '
    'its addition counted once; BatchNorm, activations, pooling, shuffles, additions and biases '
    'are free.'
)
CONVENTION = (
    f'{MULTIPLY_ADDS} Parameters are all of them. Activations are the output elements, and memory '
    'access is the input, output and weight elements, of the same layers, for one image.'
)


@dataclass(frozen=True)
class Cost:
    """What a layer, a part or a network costs on one image.

    Memory access is MAC of the ShuffleNet V2 paper (sections G1 and G2), which the paper prints for
    a 1x1 convolution of stride 1, ``h w (c1 + c2) + c1 c2 / g``. In general, for a k_h x k_w
    convolution with g groups from (c1, h1, w1) to (c2, h2, w2) it is

        ``h1 w1 c1 + h2 w2 c2 + k_h k_w c1 c2 / g``

    elements: each is read or written once. A fully connected layer is the case h = w = 1.
    """

    multiply_adds: int = 0  # multiply-adds of convolutions and fully connected layers
    parameters: int = 0  # all parameters, those of BatchNorm and biases too
    activations: int = 0  # output elements of convolutions and fully connected layers
    # Input, output and weight elements of convolutions and fully connected layers.
    memory_access: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Add up two costs."""
        return Cost(*map(operator.add, astuple(self), astuple(other)))


@dataclass
class LayerCounts:
    """Costs by layer, filled while the networks of :func:`count_layers` run."""

    # Cost of every convolution and fully connected layer, by its name in the network, without its
    # parameters; a layer that runs twice counts twice.
    layers: dict[str, Cost] = field(default_factory=dict)
    outside: int = 0  # multiply-adds of matrix products that are in no such layer

    @property
    def idle(self) -> list[str]:
        """Layers that did not run."""
        return [name for name, cost in self.layers.items() if cost == Cost()]


@contextlib.contextmanager
def count_layers(module: nn.Module) -> Iterator[LayerCounts]:
    """Count the layers of ``module`` that run inside the ``with`` block, when that is left.

    Nothing needs to be computed: with ``module`` and its input on the meta device the pass runs on
    shapes alone.
    """
    names = {
        layer: name
        for name, layer in module.named_modules()
        if isinstance(layer, (_ConvNd, nn.Linear))
    }
    counts = LayerCounts({name: Cost() for name in names.values()})

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if layer not in names:
            return
        multiplied = inputs[0] if getattr(layer, 'transposed', False) else output
        counts.layers[names[layer]] += Cost(
            multiply_adds=multiplied.numel() * layer.weight[0].numel(),
            activations=output.numel(),
            memory_access=inputs[0].numel() + output.numel() + layer.weight.numel(),
        )

    with register_module_forward_hook(add), torch.no_grad(), FlopCounterMode(display=False) as all:
        yield counts
    # torch counts a multiplication and an addition as two operations.
    counts.outside = all.get_total_flops() // 2 - sum(
        c.multiply_adds for c in counts.layers.values()
    )
