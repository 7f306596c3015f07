"""MMDetection's MobileNet V2 with a last stage at stride 16."""

from collections.abc import Sequence
from typing import Any

from mmdet.models.backbones import MobileNetV2


class DilatedMobileNetV2(MobileNetV2):
    """MobileNet V2 with dilation in place of its last stride, as ``output_stride=16`` elsewhere.

    The first block at stride 32 takes stride 1, and the 3x3 convolutions of the blocks behind it
    dilation 2: every second pixel of the output is the plain network's, with the same weights. The
    last 1x1 convolution is built only where it is returned.

    Args:
        out_indices: Outputs, numbered as in MMDetection: 4 is the last at stride 16 of the plain
            network (C4), 6 the last block (C5), 7 the 1x1 convolution behind it.
        **kwargs: Of MMDetection's MobileNetV2.
    """

    def __init__(self, out_indices: Sequence[int] = (4, 6), **kwargs: Any) -> None:
        super().__init__(out_indices=out_indices, **kwargs)
        first, *others = (block.depthwise_conv.conv for block in (*self.layer6, *self.layer7))
        first.stride = (1, 1)
        for conv in others:
            conv.dilation = conv.padding = (2, 2)
        if 7 not in out_indices:
            del self.conv2
            self.layers.remove('conv2')
