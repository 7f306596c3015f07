"""ShuffleNet V1 as named by MMPretrain, formerly MMClassification (Apache-2.0).

Its stem has ``int(24 * widen_factor)`` channels and its stages are rounded to multiples of 8, so
that only some variants have the shapes of this package's; of the others the loader reports the
shapes. Published weights are 1.0x with 3 groups, which fit.
"""

from torch import Tensor, nn

from mmshuffle.errors import UserError

from .naming import depthwise_behind_shuffle, rename, shufflenet_v1_table

MARKERS = frozenset({'conv1.conv.weight', 'layers.0.0.g_conv_1x1_compress.conv.weight'})
TABLE = shufflenet_v1_table(
    stem=('conv1.conv', 'conv1.bn'),
    unit='layers.{stage}.{unit}',
    layers=[
        f'{name}.{layer}'
        for name in ('g_conv_1x1_compress', 'depthwise_conv3x3_bn', 'g_conv_1x1_expand')
        for layer in ('conv', 'bn')
    ],
)


def convert(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename MMPretrain's tensors and put the depthwise layers behind the paper's shuffle.

    Raises:
        UserError: ``network`` is a ShuffleNetV1 with another shuffle.
    """
    check_shuffle(network, 'paper')
    return depthwise_behind_shuffle(rename(tensors, TABLE), inverse=False)


def check_shuffle(network: nn.Module, shuffle: str) -> None:
    """Refuse weights that were trained with another channel shuffle than the network's.

    Raises:
        UserError: ``network`` is a ShuffleNetV1 of several groups with another shuffle.
    """
    if getattr(network, 'shuffle', shuffle) != shuffle and network.groups > 1:
        raise UserError(
            'these weights were trained with another channel shuffle: '
            f'give the backbone shuffle={shuffle!r}'
        )
