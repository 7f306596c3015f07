"""ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design (arXiv 1807.11164)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from torch import Tensor, nn

from .base import BaseBackbone, check_choice
from .layers import init_normal_fan_in, interleave, run_unit

# Table 5: output channels of Stage2, Stage3, Stage4 and Conv5 at each width.
STAGE_CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
STAGE_UNITS = (4, 8, 4)
STEM_CHANNELS = 24


@MODELS.register_module()
class ShuffleNetV2(BaseBackbone):
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
        **kwargs: See :class:`BaseBackbone`.

    Raises:
        ValueError: An argument is outside its allowed values.

    Example:
        >>> import torch
        >>> net = ShuffleNetV2(widen_factor=1.0)
        >>> [tuple(y.shape) for y in net(torch.rand(1, 3, 64, 64))]
        [(1, 24, 16, 16), (1, 116, 8, 8), (1, 232, 4, 4), (1, 464, 2, 2)]
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        layout: str = 'megvii',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        **kwargs: Any,
    ) -> None:
        super().__init__(out_indices=out_indices, **kwargs)
        check_choice(self, 'widen_factor', widen_factor, tuple(STAGE_CHANNELS))
        check_choice(self, 'layout', layout, ('megvii', 'torchvision'))
        self.widen_factor = widen_factor
        self.layout = layout
        self._channels = (STEM_CHANNELS, *STAGE_CHANNELS[widen_factor])
        self._build_stages(self._channels, (4, 8, 16, 32, 32))

    def _make_stage(self, index: int) -> nn.Module:
        out_channels = self._channels[index]
        if index == 0:
            return nn.Sequential(
                ConvModule(3, out_channels, 3, stride=2, padding=1, **self.layer_cfg),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        in_channels = self._channels[index - 1]
        if index == 4:
            return ConvModule(in_channels, out_channels, 1, **self.layer_cfg)
        return ShuffleStage(
            in_channels,
            out_channels,
            STAGE_UNITS[index - 1],
            self.layout,
            self.with_cp,
            self.layer_cfg,
        )

    def reset_parameters(self) -> None:
        """Initialise as the authors' release does, BatchNorm bias 1e-4 included."""
        init_normal_fan_in(self, first=self.stages[0][0].conv)


class ShuffleStage(nn.Module):
    """A stride-2 unit and stride-1 units behind it (Figure 3, c and d).

    Between units the feature map is carried as the two parts into which the next unit splits it.
    Concatenation, shuffle and split are then one copy a unit, and each convolution reads memory
    that is already contiguous.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        units: Number of units.
        layout: See :class:`ShuffleNetV2`.
        with_cp: Recompute activations in the backward pass.
        layer_cfg: ``norm_cfg``, ``conv_cfg`` and ``act_cfg`` of every layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        units: int,
        layout: str,
        with_cp: bool,
        layer_cfg: dict,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.with_cp = with_cp
        half = out_channels // 2
        kept = in_channels if layout == 'megvii' else half
        self.projection = nn.Sequential(
            depthwise(in_channels, 2, layer_cfg),
            ConvModule(in_channels, kept, 1, **layer_cfg),
        )
        self.branches = nn.ModuleList(
            main_branch(
                in_channels if i == 0 else half,
                half,
                out_channels - kept if i == 0 else half,
                stride=2 if i == 0 else 1,
                layer_cfg=layer_cfg,
            )
            for i in range(units)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / 2), ceil(W / 2))."""
        left = self._run(self.projection, x)
        right = self._run(self.branches[0], x)
        for branch in self.branches[1:]:
            left, right = self._shuffle_and_split(left, right)
            right = self._run(branch, right)
        if self.layout == 'megvii':
            return torch.cat((left, right), 1)
        return interleave(left, right)

    def _run(self, layers: nn.Module, x: Tensor) -> Tensor:
        return run_unit(layers, layers, x, self.with_cp)

    def _shuffle_and_split(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Turn (passed on, convolved) into (to pass on, to convolve) of the next unit."""
        if self.layout == 'megvii':
            (left_even, left_odd), (right_even, right_odd) = deal(left), deal(right)
            return torch.cat((left_even, right_even), 1), torch.cat((left_odd, right_odd), 1)
        (left_1, left_2), (right_1, right_2) = left.chunk(2, 1), right.chunk(2, 1)
        return interleave(left_1, right_1), interleave(left_2, right_2)


def main_branch(
    in_channels: int, mid_channels: int, out_channels: int, stride: int, layer_cfg: dict
) -> nn.Sequential:
    """1x1, 3x3 depthwise and 1x1 convolution; the two inner widths are alike (guideline G1)."""
    return nn.Sequential(
        ConvModule(in_channels, mid_channels, 1, **layer_cfg),
        depthwise(mid_channels, stride, layer_cfg),
        ConvModule(mid_channels, out_channels, 1, **layer_cfg),
    )


def depthwise(channels: int, stride: int, layer_cfg: dict) -> ConvModule:
    """3x3 depthwise convolution and BatchNorm without activation."""
    return ConvModule(
        channels,
        channels,
        3,
        stride=stride,
        padding=1,
        groups=channels,
        **{**layer_cfg, 'act_cfg': None},
    )


def deal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split (N, C, H, W) into its even and its odd channels."""
    return x.unflatten(1, (-1, 2)).unbind(2)
