"""BatchNorm folded into the convolution before it."""

import copy
from itertools import pairwise

from mmcv.cnn import ConvModule
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmcv.cnn.bricks.wrappers import Conv2d as WrappedConv2d
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

# Convolutions whose output is linear in `weight` as it stands. Others, such as those that normalise
# their weight first, would undo the folding.
LINEAR_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, WrappedConv2d, Conv2dAdaptivePadding)


def fold_batchnorm(module: nn.Module) -> nn.Module:
    """Copy a network for inference, with each BatchNorm folded into the convolution before it.

    In evaluation mode a BatchNorm scales and shifts every channel by constants, so with
    ``s = weight / sqrt(running_var + eps)`` a convolution of ``s * W`` and
    ``bias + s * (b - running_mean)`` does both. The constants are computed in float64: outputs
    differ by rounding only.

    Pairs are looked for in mmcv's ``ConvModule`` and between neighbours of an ``nn.Sequential``,
    where an identity takes the BatchNorm's place, so that the other layers keep their names. What
    cannot be folded stays as it is: a BatchNorm without running statistics, one before its
    convolution, another normalisation, and convolutions that are not linear in their weight as it
    is stored (deformable, spectrally normalised, weight-standardised).

    Args:
        module: Network, or a part of one; not changed.

    Returns:
        The copy, in evaluation mode; its parameters require no gradient.
    """
    folded = copy.deepcopy(module)
    for part in folded.modules():
        if isinstance(part, ConvModule):
            follows = ('conv', 'norm') in pairwise(part.order) and part.with_norm
            if follows and _can_fold(part.conv, part.norm):
                # A new convolution: the old one may be shared by parts with norms of their own.
                part.conv = _fold(part.conv, part.norm)
                delattr(part, part.norm_name)
                part.norm_name, part.with_norm, part.with_bias = None, False, True
        elif isinstance(part, nn.Sequential) and type(part).forward is nn.Sequential.forward:
            for before, after in pairwise(list(part._modules)):
                conv, norm = part._modules[before], part._modules[after]
                if _can_fold(conv, norm):
                    part._modules[before] = _fold(conv, norm)
                    part._modules[after] = nn.Identity()
    return folded.requires_grad_(False).eval()


def _can_fold(conv: nn.Module, norm: nn.Module) -> bool:
    # Spectral and weight normalisation compute the weight in a hook.
    linear = type(conv) in LINEAR_CONVS and not conv._forward_pre_hooks
    return linear and isinstance(norm, _BatchNorm) and norm.running_mean is not None


def _fold(conv: nn.Module, norm: nn.Module) -> nn.Module:
    """Copy ``conv`` with the scale and shift of ``norm`` in evaluation mode."""
    tensors = (conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    exact = [None if x is None else x.detach().double() for x in tensors]
    folded = copy.deepcopy(conv)
    folded.weight, folded.bias = (
        nn.Parameter(x.detach().to(conv.weight))
        for x in fuse_conv_bn_weights(*exact[:4], norm.eps, *exact[4:])
    )
    return folded
