"""The units that the ShuffleNet paper compares with, in ShuffleNet's frame (arXiv 1707.01083v2).

Table 4: Stage2 to Stage4 are made of another network's units, and the channels are adapted to the
same cost. The paper's Xception-like unit is ShuffleNet's with one group:
``ShuffleNetV1(groups=1, widen_factor=...)`` with 1.0, 0.5 and 0.25 for 140, 38 and 13 M.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from torch import Tensor, nn

from .base import StackedUnits
from .layers import build_activation, projection_shortcut

# Channels of Conv1, Stage2, Stage3 and Stage4 by unit and cost (millions of multiply-adds). Printed
# are Stage4's at 38 M (section 4.2); the others are chosen, as near to doubling from stage to stage
# as the cost allows. Conv1 is ShuffleNet's at that cost, but in the VGG-like network at 38 M, where
# twice 25 and 12.5 channels leave no other place to adapt.
CHANNELS = {
    'vgg': {140: (24, 25, 49, 98), 38: (10, 13, 25, 50), 13: (12, 6, 13, 25)},
    'resnet': {140: (24, 96, 188, 376), 38: (12, 48, 96, 192), 13: (12, 24, 50, 96)},
    'resnext': {140: (24, 100, 188, 376), 38: (12, 48, 96, 192), 13: (12, 24, 48, 96)},
}
CARDINALITY = 16


@MODELS.register_module()
class ShuffleNetV1Baseline(StackedUnits):
    """VGG-like, ResNet or ResNeXt units in place of ShuffleNet's (Table 4).

    Stage 0 is Conv1 and MaxPool (stride 4), stages 1 to 3 are Stage2 to Stage4 with 4, 8 and 4
    units (strides 8, 16, 32), the first of which has stride 2. Multiply-adds at 224x224 with a
    1000-way classifier are within 1 % of ``mflops``. The table has VGG-like units at 140 M only.

    Args:
        unit: ``'vgg'``, two 3x3 convolutions; ``'resnet'``, a bottleneck of a quarter;
            ``'resnext'``, a bottleneck of a half whose 3x3 convolution has 16 groups.
        mflops: Cost in millions of multiply-adds: 140, 38 or 13.
        out_indices: Stages to return; FPN on P2-P5 takes the default.
        **kwargs: See :class:`BaseBackbone`.
    """

    def __init__(
        self,
        unit: str = 'resnet',
        mflops: int = 140,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        **kwargs: Any,
    ) -> None:
        super().__init__(out_indices=out_indices, **kwargs)
        self.unit = self._choose('unit', unit, CHANNELS)
        self.mflops = self._choose('mflops', mflops, CHANNELS[unit])
        self.unit_type = UNITS[unit]
        self.widths = CHANNELS[unit][mflops]
        self._build_stages(self.widths, (4, 8, 16, 32))


def vgg_unit(in_channels: int, out_channels: int, stride: int, layer_cfg: dict) -> nn.Module:
    """Two 3x3 convolutions with BatchNorm and activation, without a shortcut (section 4.2)."""
    first = ConvModule(in_channels, out_channels, 3, stride, padding=1, **layer_cfg)
    second = ConvModule(out_channels, out_channels, 3, padding=1, **layer_cfg)
    return nn.Sequential(OrderedDict(layers=nn.Sequential(first, second)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, each with BatchNorm, and a shortcut.

    The stride is that of the 3x3 convolution and of the shortcut, which is then a 1x1 convolution.
    With the stride at the first convolution, or with ShuffleNet's pooled shortcut, the printed 192
    channels of Stage4 and a stem of 12 would come to 32 to 36 M instead of 38.

    Args:
        ratio: Output channels to a bottleneck channel.
        groups: Groups of the 3x3 convolution, of whose number the bottleneck is rounded down to a
            multiple, but at least once that number.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        layer_cfg: dict,
        ratio: int = 4,
        groups: int = 1,
    ) -> None:
        super().__init__()
        linear_cfg = {**layer_cfg, 'act_cfg': None}
        middle = max(out_channels // ratio // groups, 1) * groups
        self.reduce = ConvModule(in_channels, middle, 1, **layer_cfg)
        self.conv = ConvModule(middle, middle, 3, stride, padding=1, groups=groups, **layer_cfg)
        self.expand = ConvModule(middle, out_channels, 1, **linear_cfg)
        self.shortcut = projection_shortcut(in_channels, out_channels, stride, layer_cfg)
        self.act = build_activation(layer_cfg['act_cfg'])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        return self.act(self.shortcut(x) + self.expand(self.conv(self.reduce(x))))


UNITS: dict[str, Callable[..., nn.Module]] = {
    'vgg': vgg_unit,
    'resnet': Bottleneck,
    'resnext': partial(Bottleneck, ratio=2, groups=CARDINALITY),
}
