"""ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design (arXiv 1807.11164)."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from torch import Tensor, nn

from .base import ShuffleNet
from .layers import (
    SqueezeExcite,
    build_activation,
    channel_shuffle,
    depthwise,
    interleave,
    is_exporting,
    run_unit,
    stem,
)

# Table 5: output channels of Stage2, Stage3, Stage4 and Conv5 at each width.
STAGE_CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
STAGE_UNITS = (4, 8, 4)
STEM_CHANNELS = 24
# Appendix, Table 2: channels of the first convolutions, of which the first has stride 2; channels
# of conv2_x to conv5_x and conv6; units of conv2_x to conv5_x.
LARGE = {
    '50': ((64,), (244, 488, 976, 1952, 2048), (3, 4, 6, 3)),
    '164': ((64, 64, 128), (340, 680, 1360, 2720, 2048), (10, 10, 23, 10)),
}


@MODELS.register_module()
class ShuffleNetV2(ShuffleNet):
    """ShuffleNet V2.

    Stage 0 is Conv1 and MaxPool (stride 4, 24 channels), stages 1 to 3 are the paper's Stage2 to
    Stage4 (strides 8, 16, 32), stage 4 is Conv5 (stride 32). Multiply-adds at 224x224 with a
    1000-way classifier: 41, 146, 299 and 591 M at widths 0.5, 1, 1.5 and 2 (Table 5).

    Two published layouts exist. They differ in the order of the channels, so weights of one do not
    fit the other, and in the first unit of Stage2:

    * ``'megvii'``, the authors' release: the projection branch of Stage2's first unit keeps its 24
      input channels. A unit passes the even channels of its input on and convolves the odd ones.
      Only this layout has the paper's cost.
    * ``'torchvision'``, also that of MMPretrain and NanoDet: both branches of Stage2's first unit
      have half of the output channels (144.9, 295.8 and 583.3 M at widths 1, 1.5 and 2; at 0.5
      nothing changes). A unit ends with the channel shuffle and starts by halving.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0.
        layout: ``'megvii'`` or ``'torchvision'``.
        out_indices: Stages to return; FPN on P2-P5 takes the default.
        arch: ``'mobile'`` is Table 5; ``'50'`` and ``'164'``, for ``widen_factor=1``, are v2-50
            (2.3 G) and the network of SE-ShuffleNet v2-164 (12.7 G; with ``residual=True,
            se_ratio=0.5``) of the appendix, Table 2. Their stage 0 ends with the units of conv2_x,
            at stride 4; conv6 is stage 4. The unit that widens at stride 1 is the one for stride 2
            with stride 1: none is printed.
        extra_depthwise: Put a 3x3 depthwise convolution before the first 1x1 convolution of every
            unit: v2* of Table 7. Unprinted and chosen here: BatchNorm without activation behind it,
            as behind the other one, and a projection branch that stays as it is. That takes 42.9,
            150.7, 306.0 and 600.3 M at widths 0.5 to 2.
        se_ratio: Neurons of the squeeze-and-excitation at the end of every main branch, where the
            authors' release of a large network has it, as a share of the unit's output channels; no
            squeeze-and-excitation where None. The paper prints 597 M at width 2 (Table 8) without a
            number of neurons: 1.0 makes it 596.8 M, 0.5 would make it 593.8 M. For SE-v2-164 it
            prints a half, which makes it 12.60 G; 1.0 would make it 12.67 G.
        residual: Add the input of the main branch to its output in units of stride 1, behind the
            squeeze-and-excitation and before the last activation (appendix).
        **kwargs: See :class:`BaseBackbone`.
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        layout: str = 'megvii',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        arch: str = 'mobile',
        extra_depthwise: bool = False,
        se_ratio: float | None = None,
        residual: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(se_ratio, out_indices=out_indices, **kwargs)
        self.widen_factor = self._choose('widen_factor', widen_factor, STAGE_CHANNELS)
        self.layout = self._choose('layout', layout, ('megvii', 'torchvision'))
        self.arch = self._choose('arch', arch, ('mobile', *LARGE))
        self._choose('extra_depthwise', extra_depthwise, (False, True))
        self._choose('residual', residual, (False, True))
        self.branch_cfg = BranchConfig(extra_depthwise, se_ratio, residual)
        if arch == 'mobile':
            self._stem, self._units = (STEM_CHANNELS,), (0, *STAGE_UNITS)
            self._channels = (STEM_CHANNELS, *STAGE_CHANNELS[widen_factor])
        else:
            if widen_factor != 1:
                self._refuse('widen_factor', widen_factor, f'arch={arch!r} has 1.0 only')
            self._stem, self._channels, self._units = LARGE[arch]
        self._build_stages(self._channels, (4, 8, 16, 32, 32))

    def _make_stage(self, index: int) -> nn.Module:
        if index == 4:
            return ConvModule(self._channels[3], self._channels[4], 1, **self.layer_cfg)
        sizes = (self._channels[index], self._units[index], self.layout)
        same = (self.with_cp, self.layer_cfg, self.branch_cfg)
        if index > 0:
            strides = self._stride_and_dilation(index)
            return ShuffleStage(self._channels[index - 1], *sizes, *same, *strides)
        layers = stem(self.in_channels, self._stem, self.layer_cfg)
        if self._units[0] > 0:
            layers.append(ShuffleStage(self._stem[-1], *sizes, *same, stride=1, dilation=1))
        return nn.Sequential(*layers)


@dataclass(frozen=True)
class BranchConfig:
    """What the main branches have besides their three convolutions; see :class:`ShuffleNetV2`."""

    extra_depthwise: bool = False
    se_ratio: float | None = None
    residual: bool = False


class ShuffleStage(nn.Module):
    """A stride-2 unit and stride-1 units behind it (Figure 3, c and d).

    Between units the feature map is carried as the two parts into which the next unit splits it.
    Concatenation, shuffle and split are then one copy a unit, and each convolution reads memory
    that is already contiguous. A graph that is traced or exported has the three of them one after
    another, as runtimes know them.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        units: Number of units.
        layout: See :class:`ShuffleNetV2`.
        with_cp: Recompute activations in the backward pass.
        layer_cfg: ``norm_cfg``, ``conv_cfg`` and ``act_cfg`` of every layer.
        branch_cfg: What the main branches have besides their three convolutions.
        stride: Stride of the first unit.
        dilation: Dilation of the units behind it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        units: int,
        layout: str,
        with_cp: bool,
        layer_cfg: dict,
        branch_cfg: BranchConfig,
        stride: int,
        dilation: int,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.with_cp = with_cp
        half = out_channels // 2
        # The inverse of the shuffle of two groups puts even channels before odd ones.
        self.shuffle_groups = half if layout == 'megvii' else 2
        kept = in_channels if layout == 'megvii' else half
        self.projection = nn.Sequential(
            depthwise(in_channels, layer_cfg, stride), ConvModule(in_channels, kept, 1, **layer_cfg)
        )
        self.branches = nn.ModuleList(
            main_branch(
                in_channels if i == 0 else half,
                half,
                out_channels - kept if i == 0 else half,
                layer_cfg,
                branch_cfg if i > 0 else replace(branch_cfg, residual=False),
                stride=stride if i == 0 else 1,
                dilation=1 if i == 0 else dilation,
            )
            for i in range(units)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        left = run_unit(self.projection, x, self.with_cp)
        right = run_unit(self.branches[0], x, self.with_cp)
        for branch in self.branches[1:]:
            left, right = self._shuffle_and_split(left, right)
            right = run_unit(branch, right, self.with_cp)
        if self.layout == 'megvii':
            return torch.cat((left, right), 1)
        return interleave(left, right)

    def _shuffle_and_split(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Turn (passed on, convolved) into (to pass on, to convolve) of the next unit."""
        if is_exporting():
            return channel_shuffle(torch.cat((left, right), 1), self.shuffle_groups).chunk(2, 1)
        if self.layout == 'megvii':
            (left_even, left_odd), (right_even, right_odd) = deal(left), deal(right)
            return torch.cat((left_even, right_even), 1), torch.cat((left_odd, right_odd), 1)
        (left_1, left_2), (right_1, right_2) = left.chunk(2, 1), right.chunk(2, 1)
        return interleave(left_1, right_1), interleave(left_2, right_2)


def main_branch(
    in_channels: int,
    mid_channels: int,
    out_channels: int,
    layer_cfg: dict,
    branch_cfg: BranchConfig,
    stride: int,
    dilation: int,
) -> nn.Sequential:
    """1x1, 3x3 depthwise and 1x1 convolution; the two inner widths are alike (guideline G1).

    With squeeze-and-excitation or a residual path, the last activation is behind them. Layers that
    not every network has are called by name, so that the three convolutions keep theirs.
    """
    layers: dict[str, nn.Module] = OrderedDict()
    if branch_cfg.extra_depthwise:
        layers['extra'] = depthwise(in_channels, layer_cfg, dilation=dilation)
    layers['0'] = ConvModule(in_channels, mid_channels, 1, **layer_cfg)
    layers['1'] = depthwise(mid_channels, layer_cfg, stride, dilation)
    act_cfg = layer_cfg['act_cfg']
    if branch_cfg.se_ratio is not None or branch_cfg.residual:
        layer_cfg = {**layer_cfg, 'act_cfg': None}
    layers['2'] = ConvModule(mid_channels, out_channels, 1, **layer_cfg)
    if branch_cfg.se_ratio is not None:
        # A unit has twice the output channels of a main branch's first convolution.
        layers['se'] = SqueezeExcite(out_channels, branch_cfg.se_ratio, 2 * mid_channels, act_cfg)
    if layer_cfg['act_cfg'] is None:
        layers['act'] = build_activation(act_cfg)
    return (ResidualBranch if branch_cfg.residual else nn.Sequential)(layers)


class ResidualBranch(nn.Sequential):
    """Layers whose input is added to what the last of them, the activation, gets."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        *layers, act = self
        y = x
        for layer in layers:
            y = layer(y)
        return act(x + y)


def deal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split (N, C, H, W) into its even and its odd channels."""
    return x.unflatten(1, (-1, 2)).unbind(2)
