"""ShuffleNets without shuffles, computing the same."""

import copy
from itertools import groupby

from torch import Tensor, nn

from mmshuffle.backbones import BaseBackbone, ShuffleNetV1, ShuffleNetV2
from mmshuffle.backbones.shufflenet_v2 import ShuffleStage

from .fold import fold_batchnorm
from .forms import NATIVE, ShuffleForm
from .rewire import Unsupported, flat_layers, mixes_channels, restore, rewire_chain
from .routed import ROUTING, build_part
from .routing import natural


def shuffle_free(module: nn.Module, align: int = 1, interleave: bool = False) -> nn.Module:
    """Copy a network for inference with its channel shuffles taken out, computing the same.

    **ShuffleNet V2.** A channel that units pass on stays where the branch that computed it has put
    it, until the one unit that convolves it reads it there. Branches put out their channels sorted
    by who reads them, in the order of the rows of their last 1x1 convolution. So each branch's
    output is split once, and the input of a unit is a concatenation of such slices: half the
    channels of the feature map instead of all of them three times (concatenate, transpose, split).
    Only with ``residual=True``, where a branch's input and output are bound to the same order, are
    slices gathers where the routing scatters them.

    The order of a stage's output is absorbed by whatever reads it: the next stage, Conv5, the fully
    connected layer of a classifier, the lateral convolutions of an FPN, or the RPN, the shared head
    and its box head in the C4 form. Outputs that something else reads, such as those of a bare
    backbone, are put in the plain network's order with one gather along the channels each; those
    of layout ``'megvii'`` come in it.

    **ShuffleNet V1.** No order of the weights of grouped convolutions can absorb a shuffle that
    moves channels from one group to others. It is moved behind the depthwise convolution, with
    which it commutes, because there a unit of stride 2 has a quarter of the positions, and is one
    gather along the channels. A concatenation of g^2 slices was slower in ONNX Runtime and in ncnn.
    The first unit, whose first convolution has one group, needs none.

    **Blocks.** Runtimes work on blocks of channels and fall back to slower code where a number of
    channels is no multiple of a block. With ``align`` the stem's output, what is between the
    convolutions of V2's units and the groups of V1's bottlenecks are filled with channels that are
    zero: more multiply-adds, and faster all the same where blocks matter. V1's average poolings are
    depthwise convolutions then. With ``interleave``, stages of V2 whose slices would split blocks,
    and whose branches are of one width that is a multiple of ``align``, interleave the halves that
    are passed on instead. :data:`mmshuffle.deploy.forms.FORMS` has what was measured.

    Args:
        module: ShuffleNetV1 or ShuffleNetV2, or what contains one, such as an image classifier, a
            detector, or a backbone with a neck; not changed.
        align: Fill channels up to a multiple of this; 1 leaves all sizes as they are.
        interleave: Keep blocks of this size whole. A backbone whose outputs are to be in the plain
            network's order takes slices all the same.

    Returns:
        The copy, on the same device, with BatchNorm folded, in evaluation mode. It consists of
        plain PyTorch layers: traced, its stages are convolutions, activations, concatenations and
        splits (V1: gathers, pooling and additions).

    Raises:
        ValueError: ``align`` is no whole number from 1.
        Unsupported: There is no shuffle in ``module``, or a layer in the way of the channels is of
            an unknown kind, such as GroupNorm.

    Example:
        >>> import torch
        >>> from mmshuffle.backbones import ShuffleNetV2
        >>> net = ShuffleNetV2(widen_factor=0.5, out_indices=(3,)).eval()
        >>> images = torch.rand(1, 3, 64, 64)
        >>> torch.allclose(net(images)[0], shuffle_free(net)(images)[0], atol=1e-5)
        True
    """
    if type(align) is not int or align < 1:
        raise ValueError(f'align={align!r}: give an integer from 1')
    if not has_shuffle(module):
        raise Unsupported(
            f'{type(module).__name__} has no channel shuffle: take a ShuffleNet, or the native form'
        )
    name = 'interleaved' if interleave else 'free'
    rewritten = _rewrite(fold_batchnorm(module), ShuffleForm(name, align))
    # The indices of gathers are made on the CPU.
    return rewritten.to(next(module.parameters()).device).eval()


def in_form(module: nn.Module, form: ShuffleForm) -> nn.Module:
    """Copy a network in a form; the native one is as it is.

    Raises:
        Unsupported: It has no such form.
    """
    if form == NATIVE:
        return copy.deepcopy(module)
    return shuffle_free(module, form.align, form.name == 'interleaved')


class RewrittenBackbone(nn.Module):
    """A ShuffleNet's backbone of plain layers, for inference.

    Args:
        backbone: The plain one, with BatchNorm folded.
        form: See :func:`shuffle_free`.

    Attributes:
        out_indices, out_channels, out_strides: As of ``backbone``.
        permuted_orders (tuple[Order, ...]): Of the stages' outputs, before ``restores``.
    """

    def __init__(self, backbone: BaseBackbone, form: ShuffleForm) -> None:
        super().__init__()
        for name in ('out_indices', 'out_channels', 'out_strides'):
            setattr(self, name, getattr(backbone, name))
        self.stages = nn.ModuleList()
        order, stage_orders = natural(backbone.in_channels), []
        for stage in backbone.stages:
            rewritten = []
            parts = stage if isinstance(stage, nn.Sequential) else [stage]
            for routes, group in groupby(parts, key=lambda part: isinstance(part, ROUTING)):
                if routes:
                    for part in group:
                        rewritten.append(build_part(part, order, form))
                        order = rewritten[-1].order
                else:
                    layers = [layer for part in group for layer in flat_layers(part)]
                    width = [layer for layer in layers if mixes_channels(layer)][-1].out_channels
                    before, order = order, natural(width, form.align)
                    rewritten += rewire_chain(layers, before, order, form.align)
            self.stages.append(nn.Sequential(*rewritten))
            stage_orders.append(order)
        self.permuted_orders = tuple(stage_orders[i] for i in self.out_indices)
        self.restores = nn.ModuleList(map(restore, self.permuted_orders))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the requested stage outputs, as the plain backbone does."""
        outputs = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                outputs.append(self.restores[len(outputs)](x))
        return tuple(outputs)


def _rewrite(module: nn.Module, form: ShuffleForm, holder: nn.Module | None = None) -> nn.Module:
    """Build anew what routes channels in a module with BatchNorm folded, which is changed."""
    in_order = ShuffleForm('free', form.align)  # the plain order is one gather from slices
    if isinstance(module, ROUTING):
        first = module.projection if isinstance(module, ShuffleStage) else module.reduce
        rewritten = build_part(module, natural(flat_layers(first)[0].in_channels), in_order)
        return nn.Sequential(rewritten, restore(rewritten.order))
    if _is_backbone(module):
        if holder is not None:
            # MMDetection's detectors take seconds to import, and a backbone alone needs none.
            from .consumers import absorb

            rewritten = RewrittenBackbone(module, form)
            if absorb(holder, rewritten.permuted_orders, form):
                rewritten.restores = nn.ModuleList(nn.Identity() for _ in module.out_indices)
                return rewritten
        return RewrittenBackbone(module, in_order)
    for name, child in list(module.named_children()):
        module._modules[name] = _rewrite(child, form, module)
    return module


def has_shuffle(module: nn.Module) -> bool:
    """Whether something in a network shuffles channels as this project's backbones do."""
    return any(_is_backbone(part) or isinstance(part, ROUTING) for part in module.modules())


def _is_backbone(module: nn.Module) -> bool:
    """Whether a module is a ShuffleNet that computes what this package's do."""
    networks = (ShuffleNetV1, ShuffleNetV2)
    return isinstance(module, networks) and type(module).forward is BaseBackbone.forward
