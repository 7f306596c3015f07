"""The networks that are measured, and their right outputs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmshuffle.deploy.export import AsTuple, expect
from mmshuffle.engine import shipped
from mmshuffle.engine.network import (
    extract_part,
    list_parts,
    load_model,
    load_model_config,
)
from mmshuffle.errors import UserError

from .device.gate import make_input

PARTS = ('auto', 'backbone', 'neck', 'classifier')
# The gate can tell a wrong output from a right one only where another input changes it by more.
MIN_SENSITIVITY = 0.02


@dataclass(frozen=True)
class Network:
    """A network to be measured."""

    name: str  # its name in tables, and ``config`` of its results
    # Makes the module, in evaluation mode, for a height and width of its input; it maps an image of
    # shape (1, channels, height, width) to a tensor or several.
    build: Callable[[Sequence[int]], nn.Module] | None
    channels: int = 3
    weights: str = 'random'  # where its weights come from: a checkpoint, or ``'random'``
    part: str = 'model'  # what of a config's model it is
    file: Path | None = None  # a file that is measured as it is, instead of ``build``


def from_config(name: str, checkpoint: str | None = None, part: str = 'auto') -> Network:
    """Make a network of a config.

    Args:
        name: Name of a config that comes with the project, or path of one.
        checkpoint: Weights of its model; random ones where None.
        part: ``'backbone'``; ``'neck'``, backbone and neck; ``'classifier'``; ``'auto'``, the last
            that the model has.

    Raises:
        UserError: There is no such config or part.
    """
    cfg = load_model_config(name)
    parts = [known for known in list_parts(cfg) if known in PARTS]
    chosen = parts[-1] if part == 'auto' else part
    if chosen not in parts:
        raise UserError(f'--part {part}: the model of {name} has {", ".join(parts)}')

    def build(shape: Sequence[int]) -> nn.Module:
        return extract_part(load_model(cfg, checkpoint, chosen, shape), chosen)[0]

    shown = name if shipped.find(name) else Path(name).stem
    channels = cfg.model.backbone.get('in_channels', 3)
    return Network(shown, build, channels, weights=checkpoint or 'random', part=chosen)


def example(shape: Sequence[int]) -> Tensor:
    """The fixed input, (N, C, H, W)."""
    values = torch.frombuffer(make_input(math.prod(shape)), dtype=torch.float32)
    return values.reshape(tuple(shape))


def expected_outputs(
    name: str, module: nn.Module, shape: Sequence[int]
) -> tuple[list[np.ndarray], float]:
    """What a device must compute from the fixed input.

    Args:
        name: Name of the network, for errors.
        module: The network.
        shape: Of its input, (N, C, H, W).

    Returns:
        The outputs, and how much another input changes them: the least of all outputs, as a share
        of the largest value of each.

    Raises:
        UserError: The network cannot run on inputs of this shape, or its outputs say nothing: they
            are not finite, or the same for another input.
    """
    image, network = example(shape), AsTuple(module)
    outputs = expect(network, image, name)
    # Mirrored and halved: under global pooling, another order of the same noise hardly matters.
    others = expect(network, image.flip((2, 3)) / 2, name)
    change = min(np.abs(y - z).max() / np.abs(y).max() for y, z in zip(outputs, others))
    if not change > MIN_SENSITIVITY:
        raise UserError(
            f'{name} gives nearly the same outputs for different inputs ({change:.1g} of the '
            'largest): wrong results on the device would not be noticed; give a --checkpoint'
        )
    return outputs, float(change)
