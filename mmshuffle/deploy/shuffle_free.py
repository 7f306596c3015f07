"""ShuffleNets in other forms: without shuffles, with gathers for shuffles, without routing."""

from functools import partial

from torch import nn

from .fold import fold_batchnorm
from .network_form import Form, RewrittenBackbone, rewrite
from .stage_forms import GatheredStage, RoutedStage, UnroutedStage
from .unit_forms import GatheredUnit


def shuffle_free(module: nn.Module, outputs: str = 'natural', align: int = 1) -> nn.Module:
    """Copy a network for inference with its channel shuffles taken out, computing the same.

    **ShuffleNet V2.** Which channel goes where is known beforehand. A channel that units pass on
    stays where the branch that computed it has put it, until the one unit that convolves it reads
    it there. Branches put out their channels sorted by who reads them, which costs nothing: the
    rows of their last 1x1 convolution are in that order. So each branch's output is split once, the
    input of a unit is a concatenation of such slices, half the channels of the feature map instead
    of all of them three times (concatenate, transpose, split), and nothing else moves. The first
    convolution of the unit has its columns in the order in which the slices come. Squeeze-and-
    excitation and depthwise convolutions are permuted alike. Only with ``residual=True`` are a
    branch's input and output bound to the same order: slices are then gathers where the routing
    scatters them.

    The order of a stage's output is absorbed by whatever reads it: the next stage, Conv5, the fully
    connected layer of a classifier, the lateral convolutions of an FPN, or the RPN, the shared head
    and its box head in the C4 form. Outputs that something else reads, such as those of a bare
    backbone, are put in the plain network's order with one gather along the channels each; layout
    ``'megvii'`` needs none, as its slices come in that order.

    **ShuffleNet V1.** The shuffle is between grouped convolutions, and moves channels from one
    group to others: no order of their weights can absorb that. It is moved behind the depthwise
    convolution, with which it commutes (weights permuted), because there a unit of stride 2 has a
    quarter of the positions, and is one gather along the channels, in four dimensions. A
    concatenation of g^2 slices was slower in ONNX Runtime and in ncnn.

    Runtimes work on blocks of channels and fall back to slower code where a number of channels is
    no multiple of a block. With ``align`` the stem's output and what is between the convolutions of
    V2's units is filled with channels that are zero: more multiply-adds, and faster all the same
    where blocks matter. On x86 with AVX-512 the fastest was 16 for ONNX Runtime, 4 for ncnn at
    width 1, and 1 for PyTorch; another processor has other blocks, so measure there.

    Args:
        module: ShuffleNetV1 or ShuffleNetV2, or what contains one, such as an image classifier, a
            detector, or a backbone with a neck; not changed.
        outputs: Of a bare backbone: ``'natural'``, or ``'permuted'`` to leave its outputs as they
            come. The attribute ``orders`` of the result then has, for each output, the plain
            network's channel that each channel holds, -1 where it is filling.
        align: Fill channels up to a multiple of this; 1 leaves all sizes as they are.

    Returns:
        The copy, with BatchNorm folded, in evaluation mode. It consists of plain PyTorch layers:
        traced, its stages are convolutions, activations, concatenations and splits (V1: gathers,
        pooling and additions).

    Raises:
        ValueError: ``outputs`` or ``align`` is outside its allowed values.
        UserError: There is no shuffle in ``module``, or a layer in the way of the channels is of an
            unknown kind, such as GroupNorm.

    Example:
        >>> import torch
        >>> from mmshuffle.backbones import ShuffleNetV2
        >>> net = ShuffleNetV2(widen_factor=0.5, out_indices=(3,)).eval()
        >>> images = torch.rand(1, 3, 64, 64)
        >>> torch.allclose(net(images)[0], shuffle_free(net)(images)[0], atol=1e-5)
        True
    """
    if outputs not in ('natural', 'permuted'):
        raise ValueError(f"outputs={outputs!r}: choose one of 'natural', 'permuted'")
    form = Form(RoutedStage, partial(GatheredUnit, shuffle='behind'), _checked(align))
    rewritten = rewrite(fold_batchnorm(module), form)
    if outputs == 'permuted':
        if not isinstance(rewritten, RewrittenBackbone):
            raise ValueError("outputs='permuted': only a bare backbone's outputs can be left so")
        rewritten.leave_permuted()
    return rewritten.eval()


def with_gather(module: nn.Module) -> nn.Module:
    """Copy a network for inference with gathers along the channels in place of its shuffles.

    For runtimes that cannot transpose tensors of five dimensions. V1 has one gather a unit; in V2 a
    unit gathers what it passes on and what it convolves from the concatenation of both parts, and
    needs no split.

    Args:
        module: See :func:`shuffle_free`.

    Returns:
        The copy, with BatchNorm folded, in evaluation mode.

    Raises:
        UserError: See :func:`shuffle_free`.
    """
    form = Form(GatheredStage, partial(GatheredUnit, shuffle='before'))
    return rewrite(fold_batchnorm(module), form).eval()


def remove_routing(module: nn.Module, align: int = 1) -> nn.Module:
    """Copy a network with its convolutions only: **not the same function**, for benchmarks.

    A lower bound of the time that any form of the network can take. Shuffles, splits and
    concatenations between units are left out; the concatenations that give a stage's output its
    channels stay (V2: one a stage; V1: that of the pooled shortcut).

    Args:
        module: See :func:`shuffle_free`.
        align: See :func:`shuffle_free`; 1 bounds the plain network.

    Returns:
        The copy, with BatchNorm folded, in evaluation mode. Its outputs mean nothing.

    Raises:
        ValueError: ``align`` is not a positive integer.
        UserError: See :func:`shuffle_free`.
    """
    form = Form(UnroutedStage, partial(GatheredUnit, shuffle='none'), _checked(align))
    return rewrite(fold_batchnorm(module), form).eval()


def _checked(align: int) -> int:
    if type(align) is not int or align < 1:
        raise ValueError(f'align={align!r}: give an integer from 1')
    return align
