"""MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications.

arXiv 1704.04861.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from torch import nn

from .base import BaseBackbone
from .layers import Units

# Table 1: (output channels, stride) of the depthwise separable layers of each stage. The last
# layer is printed with stride 2, but its printed input and output are both 7x7: it has stride 1.
STAGE_LAYERS = (
    ((64, 1), (128, 2), (128, 1)),
    ((256, 2), (256, 1)),
    ((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    ((1024, 2), (1024, 1)),
)
# Section 4.1: the shallow network lacks the five layers of 14x14x512.
SHALLOW_STAGE_LAYERS = (*STAGE_LAYERS[:2], STAGE_LAYERS[2][:1], STAGE_LAYERS[3])
STEM_CHANNELS = 32
MIN_CHANNELS = 8


@MODELS.register_module()
class MobileNetV1(BaseBackbone):
    """MobileNet V1.

    Stage 0 is the first convolution and the layers up to the last at stride 4, stages 1 to 3 are
    the layers at strides 8, 16 and 32. Multiply-adds at 224x224 with a 1000-way classifier: 569,
    325, 149 and 41 M at widths 1, 0.75, 0.5 and 0.25 (Table 6).

    The paper's resolution multiplier rho is the size of the image. ReLU6, as in TensorFlow's
    release, is ``act_cfg=dict(type='ReLU6')``, and its BatchNorm is
    ``norm_cfg=dict(type='BN', eps=1e-3)``.

    Args:
        widen_factor: The paper's width multiplier alpha, above 0 and at most 4; every width is
            truncated to an integer of at least 8.
        padding: ``'symmetric'`` pads every 3x3 convolution by 1; ``'same'`` pads as TensorFlow
            does: at stride 2 and even input size only below and on the right.
        out_indices: Stages to return; FPN on P2-P5 takes the default.
        shallow: Leave out the five layers of stage 2 with equal input and output (Table 5: 307 M).
        separable: Whether the layers behind the first are depthwise separable; if not, they are 3x3
            convolutions with one BatchNorm and activation ("Conv MobileNet" of Table 4: 4866 M).
        **kwargs: See :class:`BaseBackbone`.
    """

    output_strides = (32, 16)

    def __init__(
        self,
        widen_factor: float = 1.0,
        padding: str = 'symmetric',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        shallow: bool = False,
        separable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(out_indices=out_indices, **kwargs)
        if type(widen_factor) not in (int, float) or not 0 < widen_factor <= 4:
            rule = 'give a number above 0 and up to 4 (the paper has 0.25, 0.5, 0.75 and 1.0)'
            self._refuse('widen_factor', widen_factor, rule)
        self.widen_factor = widen_factor
        self.padding = self._choose('padding', padding, ('symmetric', 'same'))
        if padding == 'same' and self.layer_cfg['conv_cfg'] is not None:
            self._refuse('padding', padding, 'it brings its own conv_cfg, leave that out')
        self.separable = self._choose('separable', separable, (False, True))
        self._choose('shallow', shallow, (False, True))
        self._layers = SHALLOW_STAGE_LAYERS if shallow else STAGE_LAYERS
        self._build_stages([self._width(layers[-1][0]) for layers in self._layers], (4, 8, 16, 32))

    def _width(self, channels: int) -> int:
        return max(int(channels * self.widen_factor), MIN_CHANNELS)

    def _make_stage(self, index: int) -> nn.Module:
        layers: list[nn.Module] = []
        if index == 0:
            channels = self._width(STEM_CHANNELS)
            layers.append(self._conv3x3(self.in_channels, channels, stride=2))
        else:
            channels = self._width(self._layers[index - 1][-1][0])
        first_stride, dilation = self._stride_and_dilation(index)
        for width, stride in self._layers[index]:
            # Layers behind the one whose stride was removed see the pixels that they saw before.
            placing = dict(stride=first_stride) if stride == 2 else dict(dilation=dilation)
            layers.append(self._layer(channels, self._width(width), **placing))
            channels = self._width(width)
        return Units(layers, self.with_cp)

    def _layer(self, in_channels: int, out_channels: int, **placing: int) -> nn.Module:
        """Make one of Figure 3: 3x3, or 3x3 depthwise and 1x1 convolution, each with BatchNorm."""
        if not self.separable:
            conv = self._conv3x3(in_channels, out_channels, **placing)
            return nn.Sequential(OrderedDict(conv=conv))
        depthwise = self._conv3x3(in_channels, in_channels, groups=in_channels, **placing)
        pointwise = ConvModule(in_channels, out_channels, 1, **self.layer_cfg)
        return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))

    def _conv3x3(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> ConvModule:
        cfg = dict(self.layer_cfg)
        if self.padding == 'same' and stride > 1:
            cfg['conv_cfg'] = dict(type='Conv2dAdaptivePadding')
        return ConvModule(in_channels, out_channels, 3, stride, dilation, dilation, groups, **cfg)

    def _init_conv(self, conv: nn.Conv2d) -> None:
        """Initialise as TF-slim does: truncated normal, standard deviation 0.09."""
        nn.init.trunc_normal_(conv.weight, std=0.09, a=-0.18, b=0.18)
