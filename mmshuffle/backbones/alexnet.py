"""AlexNet, which the efficient networks are compared with.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks (NIPS
2012), as released by Caffe (bvlc_alexnet); and Krizhevsky: One weird trick for parallelizing
convolutional neural networks (arXiv 1404.5997), as released by torchvision.
"""

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from torch import nn

from .base import BaseBackbone

# Output channels and groups of the five convolutions.
VERSIONS = {
    'caffe': ((96, 256, 384, 384, 256), (1, 2, 1, 2, 2)),
    'torchvision': ((64, 192, 384, 256, 256), (1, 1, 1, 1, 1)),
}
KERNELS = (11, 5, 3, 3, 3)
# Convolutions of each stage, counted from 0; the last stage is a pooling alone.
STAGE_CONVS = ((0,), (1,), (2, 3, 4), ())


@MODELS.register_module()
class AlexNet(BaseBackbone):
    """AlexNet without its three fully connected layers.

    Stage 0 is conv1 (stride 4), stage 1 pool1 and conv2 (stride 8), stage 2 pool2 and conv3 to
    conv5 (stride 16). Stage 3 is pool5 alone (stride 32): a classifier starts from it, but it has
    no parameters, and no C4 head can be made of it.

    With the three fully connected layers ``'caffe'`` has 60,965,224 parameters and, with its
    published padding, 720.6 M multiply-adds at 224x224, the 720 M of the ShuffleNet and MobileNet
    papers (Tables 6 and 9); at 227x227, the size it was trained with, 724.4 M. ``'torchvision'``
    has 61,100,840 parameters and 714.2 M multiply-adds at 224x224.

    Args:
        version: ``'caffe'`` is the network of 2012: conv2, conv4 and conv5 have two groups, and
            local response normalisation follows conv1 and conv2. ``'torchvision'`` is the network
            of 2014, narrower, with neither.
        padding: ``'symmetric'`` pads conv1 and the poolings on all sides, so that outputs have the
            sizes that every backbone promises, to the edges of the image. ``'published'`` is the
            release's: conv1 is padded by 0 (``'caffe'``) or 2 (``'torchvision'``) and poolings are
            not, which gives maps up to three cells smaller: of sides 55, 27, 13 and 6 for an image
            of 227 (``'caffe'``) or 224. Weights fit both; a published classifier has its published
            accuracy only with the latter.
        out_indices: Stages to return.
        **kwargs: See :class:`BaseBackbone`. ``norm_cfg`` is a normalisation after every
            convolution, in the place of local response normalisation; as published where None.
    """

    default_norm_cfg = None
    stage_is_unit = True  # a convolution alone keeps no activation but its input

    def __init__(
        self,
        version: str = 'caffe',
        padding: str = 'symmetric',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        **kwargs: Any,
    ) -> None:
        super().__init__(out_indices=out_indices, **kwargs)
        self.version = self._choose('version', version, VERSIONS)
        self.padding = self._choose('padding', padding, ('symmetric', 'published'))
        channels = VERSIONS[version][0]
        self._build_stages((channels[0], channels[1], channels[4], channels[4]), (4, 8, 16, 32))

    def _make_stage(self, index: int) -> nn.Module:
        layers = [self._make_pool()] if index > 0 else []
        for conv in STAGE_CONVS[index]:
            layers.append(self._make_conv(conv))
            if conv < 2 and self.version == 'caffe' and self.layer_cfg['norm_cfg'] is None:
                # Caffe's constants; like PyTorch it divides alpha by the size. The paper's k is 2.
                layers.append(nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0))
        return nn.Sequential(*layers)

    def _make_pool(self) -> nn.Module:
        if self.padding == 'symmetric':
            return nn.MaxPool2d(3, 2, padding=1)
        return nn.MaxPool2d(3, 2, ceil_mode=self.version == 'caffe')

    def _make_conv(self, conv: int) -> nn.Module:
        channels, groups = VERSIONS[self.version]
        pad = KERNELS[conv] // 2
        if conv == 0 and self.padding == 'published':
            pad = 0 if self.version == 'caffe' else 2
        return ConvModule(
            channels[conv - 1] if conv else self.in_channels,
            channels[conv],
            KERNELS[conv],
            stride=1 if conv else 4,
            padding=pad,
            groups=groups[conv],
            **self.layer_cfg,
        )

    def _init_conv(self, conv: nn.Conv2d) -> None:
        """Initialise as the release does.

        Caffe: normal with standard deviation 0.01; the biases of conv2, conv4 and conv5 are 0.1,
        where the paper's 1 did not train, the others 0. torchvision: PyTorch's default.
        """
        if self.version == 'torchvision':
            conv.reset_parameters()
            return
        nn.init.normal_(conv.weight, std=0.01)
        if conv.bias is not None and conv.groups == 2:  # these three
            nn.init.constant_(conv.bias, 0.1)
