"""Layers that read and put out their channels in another order than the plain network's.

Weights are permuted, and are zero where a channel holds nothing (:data:`~.routing.FILL`): nothing
of what the filling holds reaches another channel.
"""

import copy
from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmshuffle.backbones.layers import SqueezeExcite

from .fold import LINEAR_CONVS
from .formats import Unsupported
from .routing import FILL, Order, natural, places

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def flat_layers(module: nn.Module) -> list[nn.Module]:
    """List the layers of a chain, those in sequences and in ``ConvModule`` one by one.

    Raises:
        Unsupported: A normalisation is left in it, which could not be folded.
    """
    if isinstance(module, ConvModule):
        parts = dict(conv=module.conv, norm=module.norm, act=getattr(module, 'activate', None))
        found = [parts[name] for name in module.order if parts[name] is not None]
    elif isinstance(module, nn.Sequential):
        found = list(module)
    elif isinstance(module, NORMS):
        raise Unsupported(
            f'{type(module).__name__} cannot be folded into a convolution: this form of a network '
            'needs BatchNorm with running statistics; take the native one'
        )
    else:
        return [module]
    return [layer for part in found for layer in flat_layers(part)]


def rewire_chain(
    layers: Sequence[nn.Module], inputs: Order, outputs: Order, align: int = 1
) -> list[nn.Module]:
    """Build a chain of layers anew for another order of its input and output channels.

    Args:
        layers: See :func:`flat_layers`; at least one is a convolution that is not depthwise.
        inputs, outputs: Orders of the input and of the output.
        align: Fill the channels between convolutions up to a multiple of this.

    Raises:
        Unsupported: A layer is of an unknown kind.
    """
    mixing = [layer for layer in layers if mixes_channels(layer)]
    rewired, order = [], inputs
    for layer in layers:
        if layer in mixing:
            wanted = outputs if layer is mixing[-1] else natural(layer.out_channels, align)
            rewired.append(rewire(layer, order, wanted))
            order = wanted
        else:
            rewired.append(reorder(layer, order))
    return rewired


def rewire(
    layer: nn.Module, inputs: Order | None = None, outputs: Order | None = None
) -> nn.Module:
    """Copy a layer that mixes channels, for other orders of its channels.

    Args:
        layer: Convolution, whose groups the orders keep apart, or linear layer. A linear layer may
            have several input features a channel, side by side, as of a flattened map.
        inputs, outputs: Orders of its channels; as they are where None.

    Raises:
        Unsupported: It is another layer.
    """
    if type(layer) not in (nn.Linear, *LINEAR_CONVS):
        raise Unsupported(f'{_name(layer)} cannot take permuted channels: take the native form')
    weight, bias = layer.weight, layer.bias
    if inputs is not None:
        groups = getattr(layer, 'groups', 1)
        channels, width = sum(c != FILL for c in inputs) // groups, len(inputs) // groups
        weight = weight.reshape(len(weight), channels, -1, *weight.shape[2:])
        order = [c if c == FILL else c % channels for c in inputs]
        parts = enumerate(weight.chunk(groups))
        rows = [_take(part, order[i * width :][:width], 1) for i, part in parts]
        weight = torch.cat(rows).flatten(1, 2)
    if outputs is not None:
        weight = _take(weight, outputs)
        bias = None if bias is None else _take(bias, outputs)
    return _with_weight(layer, weight, bias, getattr(layer, 'groups', 1))


def reorder(layer: nn.Module, order: Order) -> nn.Module:
    """Build a layer that keeps the channels apart anew, for another order of them.

    Returns:
        A copy of a depthwise convolution or squeeze-and-excitation; an activation or pooling, which
        knows nothing of channels, itself.

    Raises:
        Unsupported: It is another layer.
    """
    if isinstance(layer, SqueezeExcite):
        copied = copy.deepcopy(layer)
        copied.squeeze = rewire(layer.squeeze, inputs=order)
        copied.excite = rewire(layer.excite, outputs=order)
        return copied
    convolves = type(layer) in LINEAR_CONVS
    if convolves and layer.groups == layer.in_channels == layer.out_channels:
        bias = None if layer.bias is None else _take(layer.bias, order)
        return _with_weight(layer, _take(layer.weight, order), bias, len(order))
    if any(tensor.numel() > 1 for tensor in layer.state_dict().values()):
        raise Unsupported(f'{_name(layer)} cannot take permuted channels: take the native form')
    return layer


def mixes_channels(layer: nn.Module) -> bool:
    """Whether a layer is one for :func:`rewire`."""
    return type(layer) is nn.Linear or (type(layer) in LINEAR_CONVS and layer.groups == 1)


def averaging(pool: nn.AvgPool2d, like: Tensor, channels: int) -> nn.Conv2d:
    """Build an average pooling of ``channels`` as a depthwise convolution with weights ``like``.

    Its windows are square, and the average counts the zeros around the image.
    """
    settings = pool.kernel_size, pool.stride, pool.padding
    conv = nn.Conv2d(channels, channels, *settings, groups=channels, bias=False)
    weight = like.new_full(conv.weight.shape, 1 / pool.kernel_size**2)
    conv.weight = nn.Parameter(weight, requires_grad=False)
    return conv


class Gather(nn.Module):
    """Takes channels, in four dimensions.

    Args:
        channels: Which, in the order of the output.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer('channels', torch.tensor(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, len(channels), H, W)."""
        return x.index_select(1, self.channels)


class First(nn.Module):
    """Cuts the channels behind the first ``channels`` off."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, channels, H, W)."""
        return x[:, : self.channels]


def restore(order: Order) -> nn.Module:
    """Build what turns ``order`` into the plain network's, without filling, in one copy at most."""
    wanted = places(order)
    if wanted != natural(len(wanted)):
        return Gather(wanted)
    return nn.Identity() if len(wanted) == len(order) else First(len(wanted))


def _take(x: Tensor, order: Order, dim: int = 0) -> Tensor:
    """Take entries of ``x`` along ``dim``; zeros for :data:`FILL`."""
    index = torch.tensor(order, device=x.device)
    taken = x.detach().index_select(dim, index.clamp(min=0))
    holds = (index != FILL).reshape(-1, *[1] * (x.dim() - 1 - dim))
    return taken.where(holds, taken.new_zeros(()))


def _with_weight(layer: nn.Module, weight: Tensor, bias: Tensor | None, groups: int) -> nn.Module:
    """Copy a layer with other tensors, and the attributes that tell their sizes."""
    # The old tensors, which are replaced, stay out of the copy.
    copied = copy.deepcopy(layer, {id(tensor): None for tensor in layer.parameters()})
    copied.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    copied.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    if isinstance(layer, nn.Linear):
        copied.out_features, copied.in_features = weight.shape
        return copied
    copied.groups, copied.out_channels = groups, len(weight)
    copied.in_channels = weight.shape[1] * groups
    return copied


def _name(layer: nn.Module) -> str:
    groups = getattr(layer, 'groups', 1)
    return type(layer).__name__ + (f' with {groups} groups' if groups > 1 else '')
