"""A whole backbone, or what contains one, in another form than the plain network's."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch import Tensor, nn

from mmshuffle.backbones import BaseBackbone, ShuffleNetV1, ShuffleNetV2
from mmshuffle.backbones.shufflenet_v1 import ShuffleUnit
from mmshuffle.backbones.shufflenet_v2 import ShuffleStage
from mmshuffle.errors import UserError

from .rewire import flat_layers, mixes_channels, restore, rewire_chain
from .routing import Order, natural

ROUTING = (ShuffleStage, ShuffleUnit)


@dataclass(frozen=True)
class Form:
    """How the parts that route channels are built anew.

    Attributes:
        stage: Makes a module with an attribute ``order`` of a ``ShuffleStage``, the order of its
            input, and ``align``.
        unit: The same of a ``ShuffleUnit``, without ``align``.
        align: See :func:`mmshuffle.deploy.shuffle_free`.
    """

    stage: Callable[[ShuffleStage, Order, int], Any]
    unit: Callable[[ShuffleUnit, Order], Any]
    align: int = 1

    def build(self, part: nn.Module, inputs: Order) -> Any:
        """Build a part anew for the order of its input."""
        if isinstance(part, ShuffleStage):
            return self.stage(part, inputs, self.align)
        return self.unit(part, inputs)


class RewrittenBackbone(nn.Module):
    """A ShuffleNet's backbone of plain layers, for inference.

    Args:
        backbone: The plain one, with BatchNorm folded.
        form: What its parts become.

    Attributes:
        out_indices, out_channels, out_strides: As of ``backbone``.
        orders (tuple[Order, ...]): The channel of the plain network's output that each channel of
            a returned output holds; -1 where it holds none.
    """

    def __init__(self, backbone: BaseBackbone, form: Form) -> None:
        super().__init__()
        self.out_indices = backbone.out_indices
        self.out_channels = backbone.out_channels
        self.out_strides = backbone.out_strides
        self.stages = nn.ModuleList()
        order, stage_orders = natural(3), []
        for stage in backbone.stages:
            rewritten, order = rewrite_stage(stage, order, form)
            self.stages.append(rewritten)
            stage_orders.append(order)
        self.permuted_orders = tuple(stage_orders[i] for i in self.out_indices)
        self.restores = nn.ModuleList(map(restore, self.permuted_orders))
        self.orders = tuple(map(natural, self.out_channels))

    def leave_permuted(self) -> None:
        """Return the outputs in ``permuted_orders`` from now on, without a copy."""
        self.restores = nn.ModuleList(nn.Identity() for _ in self.out_indices)
        self.orders = self.permuted_orders

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the requested stage outputs, as the plain backbone does."""
        outputs = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                outputs.append(self.restores[len(outputs)](x))
        return tuple(outputs)


def rewrite_stage(stage: nn.Module, inputs: Order, form: Form) -> tuple[nn.Sequential, Order]:
    """Build a stage anew.

    Args:
        stage: With BatchNorm folded.
        inputs: Order of its input.
        form: What its parts become.

    Returns:
        The stage, and the order of its output.
    """
    rewritten, order = [], inputs
    parts = stage if type(stage) is nn.Sequential else [stage]
    for routes, group in groupby(parts, key=lambda part: isinstance(part, ROUTING)):
        if routes:
            for part in group:
                rewritten.append(form.build(part, order))
                order = rewritten[-1].order
        else:
            layers = [layer for part in group for layer in flat_layers(part)]
            width = [layer for layer in layers if mixes_channels(layer)][-1].out_channels
            wanted = natural(width, form.align)
            rewritten += rewire_chain(layers, order, wanted, form.align)
            order = wanted
    return nn.Sequential(*rewritten), order


def rewrite(module: nn.Module, form: Form) -> nn.Module:
    """Build anew what routes channels in a module: whole backbones, and parts outside of them.

    Args:
        module: With BatchNorm folded; it is changed.
        form: What the parts become.

    Returns:
        ``module``, or what takes its place.

    Raises:
        UserError: Nothing in it routes channels, or a layer is of an unknown kind.
    """
    if not any(_is_backbone(part) or isinstance(part, ROUTING) for part in module.modules()):
        raise UserError(
            f'{type(module).__name__} has no channel shuffle: take a ShuffleNet, or the native form'
        )
    if _is_backbone(module):
        return RewrittenBackbone(module, form)
    if isinstance(module, ROUTING):
        return _alone(module, form)
    # MMDetection's detectors take seconds to import, and a backbone alone does not need them.
    from .consumers import absorb

    for holder in list(module.modules()):
        for name, child in list(holder.named_children()):
            if _is_backbone(child):
                rewritten = RewrittenBackbone(child, form)
                setattr(holder, name, rewritten)
                if absorb(holder, rewritten.permuted_orders, form.build):
                    rewritten.leave_permuted()
    for holder in list(module.modules()):
        for name, child in list(holder.named_children()):
            if isinstance(child, ROUTING):
                setattr(holder, name, _alone(child, form))
    return module


def _is_backbone(module: nn.Module) -> bool:
    """Whether a module is a ShuffleNet that computes what this package's do."""
    networks = (ShuffleNetV1, ShuffleNetV2)
    return isinstance(module, networks) and type(module).forward is BaseBackbone.forward


def _alone(part: nn.Module, form: Form) -> nn.Sequential:
    """Build a part whose input and output are in the plain network's order."""
    first = part.projection if isinstance(part, ShuffleStage) else part.reduce
    rewritten = form.build(part, natural(flat_layers(first)[0].in_channels))
    return nn.Sequential(rewritten, restore(rewritten.order))
