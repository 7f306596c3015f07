"""SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size.

arXiv 1602.07360. Version 1.1 is described by the authors' release, DeepScale/SqueezeNet, alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from torch import Tensor, nn

from .base import BaseBackbone
from .layers import Units

# Table 1: channels of the squeeze layer and of either half of the expand layer, by the number that
# the paper gives a fire module.
FIRES = {number: (16 * (number // 2), 64 * (number // 2)) for number in range(2, 10)}
# Channels and kernel size of conv1, and the fire modules between one pooling and the next.
VERSIONS = {
    '1.0': (96, 7, ((2, 3, 4), (5, 6, 7, 8), (9,))),
    '1.1': (64, 3, ((2, 3), (4, 5), (6, 7, 8, 9))),
}


@MODELS.register_module()
class SqueezeNet(BaseBackbone):
    """SqueezeNet.

    The network ends at stride 16 and has three stages, each a max pooling and the fire modules
    behind it; the first convolution belongs to stage 0. FPN makes coarser levels with ``num_outs``.

    ======= ==================== ==================== ====================
    version stage 0 (stride 4)   stage 1 (stride 8)   stage 2 (stride 16)
    ======= ==================== ==================== ====================
    1.0     conv1, fire2-4 (256) fire5-8 (512)        fire9 (512)
    1.1     conv1, fire2-3 (128) fire4-5 (256)        fire6-9 (512)
    ======= ==================== ==================== ====================

    Multiply-adds with the 1000-way classifier, a 1x1 convolution, and the published padding: 833 M
    for version 1.0 at 227x227, the figure of the ShuffleNet paper (Table 6), and 819 M at 224x224;
    349 M for version 1.1 at 224x224. Parameters: 1,248,424 and 1,235,496.

    Args:
        version: ``'1.0'``, the paper's, or ``'1.1'``, the release's cheaper one.
        bypass: Figure 2. ``'simple'`` adds the input of fire 3, 5, 7 and 9 to their output;
            ``'complex'`` also adds a 1x1 convolution of the input of fire 2, 4, 6 and 8 to theirs.
            No activation follows the convolution or the sum: the paper names none. The four
            convolutions make version 1.0 one of 1,589,672 parameters, 6.1 MB at 32 bits; Table 3
            prints 7.7 MB, which the text does not explain.
        padding: ``'symmetric'`` pads the first convolution and the poolings on all sides, so that
            outputs have the sizes that every backbone promises: FPN's maps and the anchors cover
            the image to its edges. ``'published'`` is the release's: the first convolution is not
            padded and a pooling may reach over the right and lower edge (``ceil_mode``), which
            gives maps up to two cells smaller, of sides 55, 27 and 13 for an image of 227 in
            version 1.0. Weights fit both; a published classifier has its published accuracy only
            with the latter.
        out_indices: Stages to return.
        **kwargs: See :class:`BaseBackbone`. ``norm_cfg`` is a normalisation after every
            convolution; none where None, as published.
    """

    default_norm_cfg = None

    def __init__(
        self,
        version: str = '1.0',
        bypass: str | None = None,
        padding: str = 'symmetric',
        out_indices: Sequence[int] = (0, 1, 2),
        **kwargs: Any,
    ) -> None:
        super().__init__(out_indices=out_indices, **kwargs)
        self.version = self._choose('version', version, VERSIONS)
        self.bypass = self._choose('bypass', bypass, (None, 'simple', 'complex'))
        self.padding = self._choose('padding', padding, ('symmetric', 'published'))
        channels = [2 * FIRES[fires[-1]][1] for fires in VERSIONS[version][2]]
        self._build_stages(channels, (4, 8, 16))

    def _make_stage(self, index: int) -> nn.Module:
        stem_channels, kernel, stages = VERSIONS[self.version]
        symmetric = self.padding == 'symmetric'
        layers: list[nn.Module] = []
        if index == 0:
            channels, pad = stem_channels, kernel // 2 if symmetric else 0
            layers.append(ConvModule(self.in_channels, channels, kernel, 2, pad, **self.layer_cfg))
        else:
            channels = 2 * FIRES[stages[index][0] - 1][1]
        layers.append(nn.MaxPool2d(3, 2, padding=int(symmetric), ceil_mode=not symmetric))
        for number in stages[index]:
            squeeze, expand = FIRES[number]
            bypass = self._make_bypass(channels, 2 * expand)
            layers.append(Fire(channels, squeeze, expand, bypass, self.layer_cfg))
            channels = 2 * expand
        return Units(layers, self.with_cp)

    def _make_bypass(self, in_channels: int, out_channels: int) -> nn.Module | None:
        if self.bypass is not None and in_channels == out_channels:
            return nn.Identity()
        if self.bypass == 'complex':
            return ConvModule(in_channels, out_channels, 1, **{**self.layer_cfg, 'act_cfg': None})
        return None

    def _init_conv(self, conv: nn.Conv2d) -> None:
        """Initialise as the release does: uniform of variance 1 / fan-in."""
        nn.init.kaiming_uniform_(conv.weight, nonlinearity='linear')


class Fire(nn.Module):
    """Fire module: 1x1 squeeze layer, then 1x1 and 3x3 expand layers side by side (Figure 1).

    Args:
        squeeze: Channels of the squeeze layer.
        expand: Channels of either expand layer.
        bypass: Added to the output after being applied to the input; no bypass where None.
    """

    def __init__(
        self,
        in_channels: int,
        squeeze: int,
        expand: int,
        bypass: nn.Module | None,
        layer_cfg: dict,
    ) -> None:
        super().__init__()
        self.squeeze = ConvModule(in_channels, squeeze, 1, **layer_cfg)
        self.expand1x1 = ConvModule(squeeze, expand, 1, **layer_cfg)
        self.expand3x3 = ConvModule(squeeze, expand, 3, padding=1, **layer_cfg)
        self.bypass = bypass

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, 2 * expand, H, W)."""
        squeezed = self.squeeze(x)
        y = torch.cat((self.expand1x1(squeezed), self.expand3x3(squeezed)), 1)
        return y if self.bypass is None else y + self.bypass(x)
