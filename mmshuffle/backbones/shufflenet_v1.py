"""ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices.

arXiv 1707.01083v2.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule, build_activation_layer
from mmdet.registry import MODELS
from torch import Tensor, nn

from .base import BaseBackbone, check_choice
from .layers import channel_shuffle, init_normal_fan_in, run_unit

# Table 1: output channels of Stage2 at width 1; Stage3 and Stage4 double them.
STAGE2_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
STAGE_UNITS = (4, 8, 4)
# The paper prints no stem width but 24 at width 1. These are the authors' release where it has the
# variant, and else the width with which the multiply-adds come out as printed.
STEM_CHANNELS = {0.25: 12, 0.5: 12, 1.0: 24, 1.5: 24, 2.0: 48}
STEM_CHANNELS_OF_GROUPS = {(4, 0.5): 16, (8, 0.25): 8, (8, 0.5): 16}


@MODELS.register_module()
class ShuffleNetV1(BaseBackbone):
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
        **kwargs: See :class:`BaseBackbone`.

    Raises:
        ValueError: An argument is outside its allowed values.

    Example:
        >>> import torch
        >>> net = ShuffleNetV1(groups=3, widen_factor=1.0)
        >>> [tuple(y.shape) for y in net(torch.rand(1, 3, 64, 64))]
        [(1, 24, 16, 16), (1, 240, 8, 8), (1, 480, 4, 4), (1, 960, 2, 2)]
    """

    def __init__(
        self,
        groups: int = 3,
        widen_factor: float = 1.0,
        shuffle: str = 'paper',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        **kwargs: Any,
    ) -> None:
        super().__init__(out_indices=out_indices, **kwargs)
        check_choice(self, 'groups', groups, tuple(STAGE2_CHANNELS))
        check_choice(self, 'widen_factor', widen_factor, tuple(STEM_CHANNELS))
        check_choice(self, 'shuffle', shuffle, ('paper', 'inverse', 'none'))
        self.groups = groups
        self.widen_factor = widen_factor
        self.shuffle = shuffle
        stem = STEM_CHANNELS_OF_GROUPS.get((groups, widen_factor), STEM_CHANNELS[widen_factor])
        stage2 = int(STAGE2_CHANNELS[groups] * widen_factor)
        self._channels = (stem, stage2, 2 * stage2, 4 * stage2)
        self._build_stages(self._channels, (4, 8, 16, 32))

    def _make_stage(self, index: int) -> nn.Module:
        out_channels = self._channels[index]
        if index == 0:
            return nn.Sequential(
                ConvModule(3, out_channels, 3, stride=2, padding=1, **self.layer_cfg),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        in_channels = self._channels[index - 1]
        return nn.Sequential(
            *(
                ShuffleUnit(
                    in_channels if i == 0 else out_channels,
                    out_channels,
                    stride=2 if i == 0 else 1,
                    groups=self.groups,
                    # Stage2's first input has too few channels to be grouped (section 3.3).
                    first_groups=1 if index == 1 and i == 0 else self.groups,
                    shuffle=self.shuffle,
                    with_cp=self.with_cp,
                    layer_cfg=self.layer_cfg,
                )
                for i in range(STAGE_UNITS[index - 1])
            )
        )

    def reset_parameters(self) -> None:
        """Initialise as the authors' release does, BatchNorm bias 1e-4 included."""
        init_normal_fan_in(self, first=self.stages[0][0].conv)


class ShuffleUnit(nn.Module):
    """1x1 group convolution, channel shuffle, 3x3 depthwise and 1x1 group convolution (Figure 2).

    With stride 1 the input is added; with stride 2 the input's 3x3 average pool is put before the
    branch, which then has ``out_channels - in_channels`` channels.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        stride: 1 or 2.
        groups: Groups of the second 1x1 convolution and of the shuffle.
        first_groups: Groups of the first 1x1 convolution.
        shuffle: See :class:`ShuffleNetV1`.
        with_cp: Recompute activations in the backward pass.
        layer_cfg: ``norm_cfg``, ``conv_cfg`` and ``act_cfg`` of every layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        groups: int,
        first_groups: int,
        shuffle: str,
        with_cp: bool,
        layer_cfg: dict,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        bottleneck = out_channels // 4 // groups * groups
        branch_channels = out_channels if stride == 1 else out_channels - in_channels
        linear_cfg = {**layer_cfg, 'act_cfg': None}
        self.shuffle_groups = {
            'paper': groups,
            'inverse': bottleneck // groups,
            'none': 1,
        }[shuffle]
        self.reduce = ConvModule(in_channels, bottleneck, 1, groups=first_groups, **layer_cfg)
        self.depthwise = ConvModule(
            bottleneck, bottleneck, 3, stride=stride, padding=1, groups=bottleneck, **linear_cfg
        )
        self.expand = ConvModule(bottleneck, branch_channels, 1, groups=groups, **linear_cfg)
        self.act = build_activation_layer({'inplace': True, **layer_cfg['act_cfg']})
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        return run_unit(self, self._forward, x, self.with_cp)

    def _forward(self, x: Tensor) -> Tensor:
        y = channel_shuffle(self.reduce(x), self.shuffle_groups)
        y = self.expand(self.depthwise(y))
        if self.pool is None:
            return self.act(x + y)
        # The pooled input is an activation's output and non-negative: it needs no activation.
        return torch.cat((self.pool(x), self.act(y)), 1)
