"""ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices.

arXiv 1707.01083v2.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from torch import Tensor, nn

from .base import ShuffleNet
from .layers import SqueezeExcite, Units, build_activation, channel_shuffle, depthwise, stem

# Table 1: output channels of Stage2 at width 1; Stage3 and Stage4 double them.
STAGE2_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
STAGE_UNITS = (4, 8, 4)
# The paper prints no stem width but 24 at width 1. These are the authors' release where it has the
# variant, and else the width with which the multiply-adds come out as printed.
STEM_CHANNELS = {0.25: 12, 0.5: 12, 1.0: 24, 1.5: 24, 2.0: 48}
STEM_CHANNELS_OF_GROUPS = {(4, 0.5): 16, (8, 0.25): 8, (8, 0.5): 16}


class Layout(NamedTuple):
    """Sizes of a network."""

    stem: int  # channels of Conv1
    channels: tuple[int, int, int, int]  # output channels of stages 0 to 3
    units: tuple[int, int, int, int] = (0, *STAGE_UNITS)  # units of stages 0 to 3
    bottleneck: float = 1 / 4  # bottleneck channels of a unit as a share of its output channels


# Networks outside Table 1: their groups and widen_factor, and their sizes.
ARCHS = {
    'shallow': ((3, 0.5), Layout(18, (18, 168, 336, 672), units=(0, 2, 4, 2))),
    '50': ((3, 1.0), Layout(64, (360, 720, 1440, 2880), units=(3, 4, 6, 3), bottleneck=1 / 2)),
}


@MODELS.register_module()
class ShuffleNetV1(ShuffleNet):
    """ShuffleNet V1.

    Stage 0 is Conv1 and MaxPool (stride 4), stages 1 to 3 are the paper's Stage2 to Stage4 (strides
    8, 16, 32). Multiply-adds at 224x224, group counts 1, 2, 3, 4, 8 at width 1: 143, 140, 137, 133
    and 137 M (Table 1, without the classifier but for the first).

    Args:
        groups: Groups of the 1x1 convolutions: 1, 2, 3, 4 or 8.
        widen_factor: 0.25, 0.5, 1.0, 1.5 or 2.0. Where a quarter of the output channels is not a
            multiple of ``groups``, the bottleneck is rounded down to one.
        shuffle: ``'paper'`` deals the groups out in turn (Figure 1); ``'inverse'`` is the inverse
            permutation, which the authors' released code and weights use; ``'none'`` omits the
            shuffle (Table 3). With one group there is nothing to shuffle.
        out_indices: Stages to return; FPN on P2-P5 takes the default.
        arch: ``'mobile'`` is Table 1. Of two other networks the papers leave details open:

            ``'shallow'``, for ``groups=3, widen_factor=0.5``, has half of the units of every stage
            (Table 5: 26 layers, 40 M). The paper prints no width. With 168, 336 and 672 channels, a
            quarter of which is a multiple of the groups, and a stem of 18 it takes 39.8 M.

            ``'50'``, for ``groups=3, widen_factor=1``, is ShuffleNet v1-50 of the ShuffleNet V2
            paper (appendix, Table 2: 2.3 G). Stage 0 ends with three units at stride 4. The
            caption's bottleneck of a quarter would take 1.2 G; the printed cost, equal to that of
            v2-50, comes with a half (2.30 G), which is built here. The first unit widens at stride
            1, for which the paper has no unit: the input is added to the first channels.
        se_ratio: Neurons of the squeeze-and-excitation at the end of every unit's branch, as a
            share of the unit's output channels; no squeeze-and-excitation where None. The paper
            prints no detail but the cost at width 2, 524 M without and 527 M with it (Table 5):
            1/16, usual in its time, makes it 526.6 M.
        **kwargs: See :class:`BaseBackbone`.
    """

    def __init__(
        self,
        groups: int = 3,
        widen_factor: float = 1.0,
        shuffle: str = 'paper',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        arch: str = 'mobile',
        se_ratio: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(se_ratio, out_indices=out_indices, **kwargs)
        self.groups = self._choose('groups', groups, STAGE2_CHANNELS)
        self.widen_factor = self._choose('widen_factor', widen_factor, STEM_CHANNELS)
        self.shuffle = self._choose('shuffle', shuffle, ('paper', 'inverse', 'none'))
        self.arch = self._choose('arch', arch, ('mobile', *ARCHS))
        self._layout = self._find_layout()
        self._build_stages(self._layout.channels, (4, 8, 16, 32))

    def _find_layout(self) -> Layout:
        sizes = (self.groups, self.widen_factor)
        if self.arch == 'mobile':
            width = STEM_CHANNELS_OF_GROUPS.get(sizes, STEM_CHANNELS[self.widen_factor])
            stage2 = int(STAGE2_CHANNELS[self.groups] * self.widen_factor)
            return Layout(width, (width, stage2, 2 * stage2, 4 * stage2))
        its_sizes, layout = ARCHS[self.arch]
        if sizes != its_sizes:
            needed = 'it needs groups={} and widen_factor={}, not {} and {}'
            self._refuse('arch', self.arch, needed.format(*its_sizes, *sizes))
        return layout

    def _make_stage(self, index: int) -> nn.Module:
        stem_channels, channels, units, bottleneck = self._layout
        layers: list[nn.Module] = []
        in_channels = stem_channels if index == 0 else channels[index - 1]
        if index == 0:
            layers += stem(self.in_channels, (stem_channels,), self.layer_cfg)
        stride, dilation = self._stride_and_dilation(index)
        for i in range(units[index]):
            # The first unit's input has too few channels to be grouped (section 3.3).
            first_of_all = i == 0 and sum(units[:index]) == 0
            pools = i == 0 and index > 0
            layers.append(
                ShuffleUnit(
                    in_channels,
                    channels[index],
                    pools,
                    stride=stride if pools else 1,
                    dilation=1 if pools else dilation,
                    groups=self.groups,
                    first_groups=1 if first_of_all else self.groups,
                    shuffle=self.shuffle,
                    layer_cfg=self.layer_cfg,
                    bottleneck=bottleneck,
                    se_ratio=self.se_ratio,
                )
            )
            in_channels = channels[index]
        return Units(layers, self.with_cp)


class ShuffleUnit(nn.Module):
    """1x1 group convolution, channel shuffle, 3x3 depthwise and 1x1 group convolution (Figure 2).

    The input is added, to the first channels if it has fewer than the branch; or its 3x3 average
    pool is put before the branch, which then has ``out_channels - in_channels`` channels.

    Args:
        pools: Whether the shortcut is a pool: in every unit of stride 2, and where that stride was
            replaced by dilation.
        stride: 1; 1 or 2 with ``pools``.
        dilation: Of the depthwise convolution.
        groups: Groups of the second 1x1 convolution and of the shuffle.
        first_groups: Groups of the first 1x1 convolution.
        shuffle: See :class:`ShuffleNetV1`.
        bottleneck: Bottleneck channels as a share of ``out_channels``, rounded down to a multiple
            of ``groups``.
        se_ratio: See :class:`ShuffleNetV1`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        pools: bool,
        stride: int,
        dilation: int,
        groups: int,
        first_groups: int,
        shuffle: str,
        layer_cfg: dict,
        bottleneck: float = 1 / 4,
        se_ratio: float | None = None,
    ) -> None:
        super().__init__()
        self.widens = not pools and in_channels < out_channels
        middle = int(out_channels * bottleneck) // groups * groups
        branch_channels = out_channels - in_channels if pools else out_channels
        linear_cfg = {**layer_cfg, 'act_cfg': None}
        self.shuffle_groups = {
            'paper': groups,
            'inverse': middle // groups if groups > 1 else 1,
            'none': 1,
        }[shuffle]
        self.reduce = ConvModule(in_channels, middle, 1, groups=first_groups, **layer_cfg)
        self.depthwise = depthwise(middle, layer_cfg, stride, dilation)
        self.expand = ConvModule(middle, branch_channels, 1, groups=groups, **linear_cfg)
        self.se = None
        if se_ratio is not None:
            self.se = SqueezeExcite(branch_channels, se_ratio, out_channels, layer_cfg['act_cfg'])
        self.act = build_activation(layer_cfg['act_cfg'])
        self.pool = nn.AvgPool2d(3, stride, padding=1) if pools else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        y = channel_shuffle(self.reduce(x), self.shuffle_groups)
        y = self.expand(self.depthwise(y))
        if self.se is not None:
            y = self.se(y)
        if self.widens:
            channels = self.reduce.in_channels
            return self.act(torch.cat((x + y[:, :channels], y[:, channels:]), 1))
        if self.pool is None:
            return self.act(x + y)
        # The pooled input is an activation's output and non-negative: it needs no activation.
        return torch.cat((self.pool(x), self.act(y)), 1)
