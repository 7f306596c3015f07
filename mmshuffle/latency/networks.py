"""The networks that are measured: built, filled with weights, and their right outputs."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn

from mmshuffle.checks.classifier import is_classifier_config
from mmshuffle.deploy.model import build_model, part_of
from mmshuffle.engine import shipped
from mmshuffle.engine.config import read_config
from mmshuffle.errors import UserError

from .device.inputs import make_input
from .device.runtimes import one_line

PARTS = ('auto', 'backbone', 'neck', 'model')
# The gate can tell a wrong output from a right one only where another input changes it by more.
MIN_SENSITIVITY = 0.02
RANDOM = 'random'


@dataclass(frozen=True)
class Network:
    """A network to be measured.

    Attributes:
        name: Its name in tables, and ``config`` of its results.
        build: Makes the module, in evaluation mode; it maps (1, C, H, W) to a tensor or several.
        channels: C.
        weights: Where its weights come from: a checkpoint, or :data:`RANDOM`.
        part: What of a config's model it is.
        file: A file that is measured as it is, instead of ``build``.
    """

    name: str
    build: Callable[[], nn.Module] | None
    channels: int = 3
    weights: str = RANDOM
    part: str = 'model'
    file: Path | None = None


def from_file(path: Path) -> Network:
    """Make a network of a TensorFlow Lite file.

    Raises:
        UserError: There is no such file.
    """
    if not path.is_file():
        raise UserError(f'{path}: there is no such file')
    return Network(path.stem, None, weights=str(path), file=path)


def from_config(name: str, checkpoint: str | None = None, part: str = 'auto') -> Network:
    """Make a network of a config.

    Args:
        name: Name of a config that comes with the project, or path of one.
        checkpoint: Weights of its model; random ones where None.
        part: ``'backbone'``; ``'neck'``, backbone and neck; ``'model'``, a whole classifier;
            ``'auto'``, the last that the model has.

    Raises:
        UserError: There is no such config or part.
    """
    path = shipped.find(name)
    if path is None and not Path(name).is_file():
        hint = shipped.suggest(name, [])
        raise UserError(f'{name}: no config of this name comes with the project, nor a file{hint}')
    with shipped.metafiles_read_once():
        cfg = read_config(str(path or name))
    if 'model' not in cfg or 'backbone' not in cfg.model:
        raise UserError(
            f'config {name} has no model.backbone: give one of a classifier or detector'
        )
    chosen = _choose_part(cfg, name, part)
    return Network(
        Path(name).stem if path is None else name,
        lambda: _build(cfg, chosen, checkpoint),
        weights=checkpoint or RANDOM,
        part=chosen,
    )


def _choose_part(cfg: Config, name: str, part: str) -> str:
    parts = ['backbone']
    if cfg.model.get('neck') is not None:
        parts.append('neck')
    if is_classifier_config(cfg):
        parts.append('model')
    if part == 'auto':
        return parts[-1]
    if part not in parts:
        raise UserError(f'--part {part}: the model of {name} has {", ".join(parts)}')
    return part


def _build(cfg: Config, part: str, checkpoint: str | None) -> nn.Module:
    model = build_model(cfg, checkpoint, part, randomise)
    return part_of(model, 'classifier' if part == 'model' else part)[0]


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0) -> None:
    """Fill a network with random weights under which every layer matters to the outputs.

    Initial weights of a training often make outputs that hardly depend on the input, and zeros or
    denormal numbers can run at another speed than weights of a trained network.

    Args:
        module: The network; the same seed always gives the same weights.
        seed: Of the random draws.
    """
    random = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            fan_in = layer.weight[0].numel()
            layer.weight.normal_(0, math.sqrt(2 / fan_in), generator=random)
            if layer.bias is not None:
                layer.bias.normal_(0, 0.1, generator=random)
        elif isinstance(layer, _BatchNorm):
            layer.running_mean.normal_(0, 0.1, generator=random)
            layer.running_var.uniform_(0.8, 1.2, generator=random)
            if layer.affine:
                layer.weight.uniform_(0.8, 1.2, generator=random)
                layer.bias.normal_(0, 0.1, generator=random)


@torch.no_grad()
def level(name: str, module: nn.Module, shape: Sequence[int]) -> None:
    """Scale random weights so that the outputs of every convolution have a mean square of 1.

    With random weights, convolutions without ReLU and shortcuts double the variance each. Within a
    ShuffleNet V1 that leads beyond 65504, where half precision ends.

    Args:
        name: Name of the network, for errors.
        module: The network; its weights change.
        shape: Of its input, (N, C, H, W).

    Raises:
        UserError: The network cannot run on inputs of this shape.
    """

    def scale(layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        factor = output.square().mean().rsqrt()
        for parameter in layer.parameters():
            parameter.mul_(factor)
        return output * factor

    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(scale) for layer in layers]
    with _one_line_errors(name, shape):
        module(example(shape))
    for handle in handles:
        handle.remove()


def example(shape: Sequence[int]) -> Tensor:
    """The fixed input, (N, C, H, W)."""
    values = torch.frombuffer(make_input(math.prod(shape)), dtype=torch.float32)
    return values.reshape(tuple(shape))


def expected_outputs(
    name: str, module: nn.Module, shape: Sequence[int]
) -> tuple[list[Tensor], float]:
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
    image = example(shape)
    # Mirrored and halved: under global pooling, another order of the same noise hardly matters.
    other_image = image.flip((2, 3)) / 2
    with _one_line_errors(name, shape), torch.inference_mode():
        outputs = as_tuple(module(image))
        others = as_tuple(module(other_image))
    least = math.inf
    for mine, other in zip(outputs, others):
        if not mine.isfinite().all():
            raise UserError(f'{name} gives outputs that are not finite: check its checkpoint')
        change = ((mine - other).abs().max() / mine.abs().max()).item()
        if not change > MIN_SENSITIVITY:
            raise UserError(
                f'{name} gives nearly the same outputs for different inputs ({change:.1g} of the '
                'largest): wrong results on the device would not be noticed; give a --checkpoint'
            )
        least = min(least, change)
    return list(outputs), least


def as_tuple(outputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Outputs of a network that has one or several."""
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


@contextmanager
def _one_line_errors(name: str, shape: Sequence[int]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the network may be anyone's
        raise UserError(
            f'{name} cannot run on inputs of {shape[-2]}x{shape[-1]}: {one_line(error)}'
        ) from None
