"""What two or more networks share."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from mmcv.cnn import ConvModule, build_activation_layer
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal the channels of ``groups`` groups out in turn (ShuffleNet V1, section 3.1, Figure 1).

    Channel ``j`` of group ``i`` moves to position ``j * groups + i``: reshape to
    (groups, channels / groups), transpose, flatten. ``channel_shuffle(x, C // groups)`` is the
    inverse.

    Args:
        x: (N, C, H, W) with C a multiple of ``groups``.
        groups: Number of groups.

    Returns:
        (N, C, H, W) in the memory layout of ``x``; contiguous in a graph that is exported.
    """
    if groups == 1:
        return x
    if is_channels_last(x) and not is_exporting():
        y = x.permute(0, 2, 3, 1).unflatten(3, (groups, -1))
        return y.transpose(3, 4).flatten(3, 4).permute(0, 3, 1, 2)
    # Converters know the shuffle by these three operations.
    n, c, h, w = x.shape
    return x.reshape(n, groups, -1, h, w).transpose(1, 2).reshape(n, c, h, w)


def interleave(a: Tensor, b: Tensor) -> Tensor:
    """Channel shuffle, with two groups, of the concatenation of two (N, C, H, W) tensors.

    One copy instead of two, except in a graph that is exported; the memory layout is that of ``a``.
    """
    if is_exporting():
        return channel_shuffle(torch.cat((a, b), 1), 2)
    if is_channels_last(a):
        y = torch.stack((a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)), 4)
        return y.flatten(3, 4).permute(0, 3, 1, 2)
    return torch.stack((a, b), 2).flatten(1, 2)


def is_exporting() -> bool:
    """Whether a graph is being recorded for other runtimes, be it by a trace or an export.

    Those know a channel shuffle by the operations that the papers' code has, and may be slow at
    what is fast in PyTorch.
    """
    return torch.jit.is_tracing() or _in_torch_export()


def _compiles_without_dynamo() -> bool:
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


# PyTorch has had a function for it since 2.7. Before, a strict export looks like `torch.compile`.
_in_torch_export = getattr(torch.compiler, 'is_exporting', _compiles_without_dynamo)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of (N, C, H, W) lie side by side, also in a slice of its channels.

    Where both layouts are the same memory (H = W = 1) either answer is right.
    """
    return x.stride(1) == 1


def build_activation(act_cfg: dict) -> nn.Module:
    """Build an activation that works in place, as ConvModule's do, where it can and is not told."""
    act = build_activation_layer(act_cfg)
    if hasattr(act, 'inplace') and 'inplace' not in act_cfg:
        act.inplace = True
    return act


def stem(in_channels: int, widths: Sequence[int], layer_cfg: dict) -> list[nn.Module]:
    """Conv1 and MaxPool, which the ShuffleNets and their baselines begin with: to stride 4.

    Large ones have several convolutions, the first of stride 2; ``widths`` are their channels.
    """
    inputs = (in_channels, *widths[:-1])
    convs = [
        ConvModule(before, width, 3, stride=1 if i else 2, padding=1, **layer_cfg)
        for i, (before, width) in enumerate(zip(inputs, widths, strict=True))
    ]
    return [*convs, nn.MaxPool2d(3, stride=2, padding=1)]


def depthwise(channels: int, layer_cfg: dict, stride: int = 1, dilation: int = 1) -> ConvModule:
    """3x3 depthwise convolution and BatchNorm without activation."""
    cfg = {**layer_cfg, 'act_cfg': None, 'groups': channels}
    return ConvModule(channels, channels, 3, stride, dilation, dilation, **cfg)


def projection_shortcut(
    in_channels: int, out_channels: int, stride: int, layer_cfg: dict
) -> nn.Module:
    """Shortcut of a residual unit: the input itself, or its 1x1 convolution where shapes differ."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    linear_cfg = {**layer_cfg, 'act_cfg': None}
    return ConvModule(in_channels, out_channels, 1, stride, **linear_cfg)


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: every channel is scaled by a gate (arXiv 1709.01507, section 3).

    The hidden layer has ``ratio`` times as many neurons as there are channels in ``of``.
    """

    def __init__(self, channels: int, ratio: float, of: int, act_cfg: dict) -> None:
        super().__init__()
        neurons = max(int(of * ratio), 1)
        # Fully connected layers, as 1x1 convolutions: no exporter has to reshape.
        self.squeeze = nn.Conv2d(channels, neurons, 1)
        self.act = build_activation(act_cfg)
        self.excite = nn.Conv2d(neurons, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale (N, channels, H, W)."""
        hidden = self.act(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return x * self.excite(hidden).sigmoid()


def run_unit(unit: nn.Module, x: Tensor, with_cp: bool) -> Tensor:
    """Compute ``unit(x)``, with its activations recomputed in the backward pass if ``with_cp``.

    The pass that checkpointing repeats must not update BatchNorm statistics a second time, or the
    trained network would differ from one trained without.
    """
    if not (with_cp and x.requires_grad):
        return unit(x)
    return checkpoint(
        unit,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _unchanged_norm_statistics(unit)),
    )


class Units(nn.Sequential):
    """Units one after another, each of which is recomputed in the backward pass if ``with_cp``."""

    def __init__(self, units: Iterable[nn.Module], with_cp: bool) -> None:
        super().__init__(*units)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        for unit in self:
            x = run_unit(unit, x, self.with_cp)
        return x


@contextmanager
def _unchanged_norm_statistics(module: nn.Module) -> Iterator[None]:
    """Let every BatchNorm of ``module`` write its statistics to copies that are then dropped."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [dict(m._buffers) for m in norms]
    for norm in norms:
        norm._buffers.update({k: v.clone() for k, v in norm._buffers.items() if v is not None})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)


def set_norm_eval(module: nn.Module) -> None:
    """Put every BatchNorm below ``module``, of whatever kind, into evaluation mode."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()
