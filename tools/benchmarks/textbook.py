"""ShuffleNet V2 as it is usually written: an oracle for tests and the baseline of the benchmark.

Concatenate, view, transpose, copy, split: one unit after another, with nothing shared between them.
"""

import torch
from torch import Tensor, nn

from mmshuffle.backbones.shufflenet_v2 import STAGE_CHANNELS, STAGE_UNITS, STEM_CHANNELS


def _conv(cin: int, cout: int, k: int, stride: int = 1, groups: int = 1, act: bool = True) -> list:
    layers = [
        nn.Conv2d(cin, cout, k, stride, k // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
    ]
    return [*layers, nn.ReLU(inplace=True)] if act else layers


def _shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class TextbookUnit(nn.Module):
    """A unit with the layout and the parameter names of torchvision."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        half = out_channels // 2
        if stride == 2:
            self.branch1 = nn.Sequential(
                *_conv(in_channels, in_channels, 3, 2, in_channels, act=False),
                *_conv(in_channels, half, 1),
            )
        self.branch2 = nn.Sequential(
            *_conv(in_channels if stride == 2 else half, half, 1),
            *_conv(half, half, 3, stride, half, act=False),
            *_conv(half, half, 1),
        )
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        if self.stride == 2:
            return _shuffle(torch.cat((self.branch1(x), self.branch2(x)), 1), 2)
        kept, convolved = x.chunk(2, 1)
        return _shuffle(torch.cat((kept, self.branch2(convolved)), 1), 2)


class TextbookShuffleNetV2(nn.Module):
    """The stages and conv5 of ShuffleNet V2, returning all stage outputs.

    Args:
        widen_factor: 0.5, 1.0, 1.5 or 2.0.
        conv5: Whether to add the last 1x1 convolution.
    """

    def __init__(self, widen_factor: float = 1.0, conv5: bool = True) -> None:
        super().__init__()
        *widths, last = STAGE_CHANNELS[widen_factor]
        self.conv1 = nn.Sequential(*_conv(3, STEM_CHANNELS, 3, 2))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = STEM_CHANNELS
        for name, width, units in zip(
            ('stage2', 'stage3', 'stage4'), widths, STAGE_UNITS, strict=True
        ):
            first = TextbookUnit(channels, width, 2)
            rest = [TextbookUnit(width, width, 1) for _ in range(units - 1)]
            setattr(self, name, nn.Sequential(first, *rest))
            channels = width
        self.conv5 = nn.Sequential(*_conv(channels, last, 1)) if conv5 else None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images (N, 3, H, W) to the outputs at strides 4, 8, 16, 32 (and 32 of conv5)."""
        outputs = [self.maxpool(self.conv1(x))]
        for stage in (self.stage2, self.stage3, self.stage4):
            outputs.append(stage(outputs[-1]))
        if self.conv5 is not None:
            outputs.append(self.conv5(outputs[-1]))
        return tuple(outputs)
