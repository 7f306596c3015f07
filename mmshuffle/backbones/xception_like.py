"""The Xception-like network that the ShuffleNet V2 paper compares with (arXiv 1807.11164).

The paper prints its cost (Table 8), accuracy and speed, and that a unit sees 7 pixels (section 4),
but no architecture. See :class:`XceptionLike` for where this one comes from.
"""

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from torch import Tensor, nn

from .base import StackedUnits
from .layers import build_activation, projection_shortcut

# Output channels of stages 0 to 3; the first is the stem's.
STAGE_CHANNELS = {
    0.5: (8, 64, 128, 256),
    1.0: (24, 128, 256, 512),
    1.5: (24, 192, 384, 768),
    2.0: (24, 256, 512, 1024),
}


@MODELS.register_module()
class XceptionLike(StackedUnits):
    """Residual bottlenecks of three separable convolutions, in the frame of ShuffleNet.

    Stage 0 is a 3x3 convolution and max pooling (stride 4), stages 1 to 3 have 4, 8 and 4 units
    (strides 8, 16, 32). Multiply-adds at 224x224 with a 1000-way classifier: 39.5, 144.8, 304.6 and
    525.4 M at widths 0.5, 1, 1.5 and 2; Table 8 of the ShuffleNet V2 paper prints 40, 145, 305 and
    525 M.

    The unit (three 3x3 separable convolutions, so that it sees 7 pixels, in a bottleneck of a
    quarter) and the widths at 0.5 are those of Xception39, which came out of the same company with
    BiSeNet (arXiv 1808.00897; code: yu-changqian/TorchSeg). The other widths are multiples of them.
    The stem of 24 and the plain 1x1 shortcut, where Xception39 has a separable one, are chosen
    here: with them all four costs come out as printed.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0.
        out_indices: Stages to return; FPN on P2-P5 takes the default.
        **kwargs: See :class:`BaseBackbone`.
    """

    output_strides = (32, 16)

    def __init__(
        self, widen_factor: float = 1.0, out_indices: Sequence[int] = (0, 1, 2, 3), **kwargs: Any
    ) -> None:
        super().__init__(out_indices=out_indices, **kwargs)
        self.widen_factor = self._choose('widen_factor', widen_factor, STAGE_CHANNELS)
        self.unit_type = XceptionUnit
        self.widths = STAGE_CHANNELS[widen_factor]
        self._build_stages(self.widths, (4, 8, 16, 32))


class XceptionUnit(nn.Module):
    """Three 3x3 separable convolutions in a bottleneck of a quarter, and a shortcut.

    The shortcut is the input, or where its shape changes a 1x1 convolution of it. Where the
    channels change, the first depthwise convolution is not dilated: it stands in for one of stride
    2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        layer_cfg: dict,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        linear_cfg = {**layer_cfg, 'act_cfg': None}
        middle = out_channels // 4
        first = dilation if in_channels == out_channels else 1
        self.branch = nn.Sequential(
            separable(in_channels, middle, stride, first, layer_cfg),
            separable(middle, middle, 1, dilation, layer_cfg),
            separable(middle, out_channels, 1, dilation, linear_cfg),
        )
        self.shortcut = projection_shortcut(in_channels, out_channels, stride, layer_cfg)
        self.act = build_activation(layer_cfg['act_cfg'])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        return self.act(self.shortcut(x) + self.branch(x))


def separable(
    in_channels: int, out_channels: int, stride: int, dilation: int, layer_cfg: dict
) -> nn.Sequential:
    """3x3 depthwise and 1x1 convolution; nothing is between them (as in arXiv 1610.02357)."""
    cfg = {**layer_cfg, 'norm_cfg': None, 'act_cfg': None, 'bias': False, 'groups': in_channels}
    return nn.Sequential(
        ConvModule(in_channels, in_channels, 3, stride, dilation, dilation, **cfg),
        ConvModule(in_channels, out_channels, 1, **layer_cfg),
    )
