"""MobileNet V1 as published by TF-slim, timm and with RetinaFace, and V2 as by torchvision."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .family import LEAKY_RELU, RELU6, Family, Network, Normalisation, conv_bn, imagenet, numbered

# Our names of V1's 13 depthwise separable layers; stage 0 begins with the first convolution.
V1_UNITS = [
    f'stages.{stage}.{i + (stage == 0)}' for stage, n in enumerate((3, 2, 6, 2)) for i in range(n)
]
# Blocks of MMDetection's layer1 to layer7.
V2_BLOCKS = [
    f'layer{stage}.{i}' for stage, n in enumerate((1, 2, 3, 4, 3, 3, 1), 1) for i in range(n)
]
LOGITS = 'MobilenetV1/Logits/Conv2d_1c_1x1'
CENTRED = (127.5,) * 3


def _tf_slim_table() -> dict[str, str]:
    convolutions = {'MobilenetV1/Conv2d_0': 'stages.0.0'}
    for number, ours in enumerate(V1_UNITS, 1):
        for part in ('depthwise', 'pointwise'):
            convolutions[f'MobilenetV1/Conv2d_{number}_{part}'] = f'{ours}.{part}'
    table = {f'{LOGITS}/weights': 'logits.weight', f'{LOGITS}/biases': 'logits.bias'}
    for theirs, ours in convolutions.items():
        weights = 'depthwise_weights' if ours.endswith('depthwise') else 'weights'
        table |= {
            f'{theirs}/{weights}': f'{ours}.conv.weight',
            f'{theirs}/BatchNorm/gamma': f'{ours}.bn.weight',
            f'{theirs}/BatchNorm/beta': f'{ours}.bn.bias',
            f'{theirs}/BatchNorm/moving_mean': f'{ours}.bn.running_mean',
            f'{theirs}/BatchNorm/moving_variance': f'{ours}.bn.running_var',
        }
    return table


def _from_tf_axes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put (h, w, in, out), and (h, w, channels, 1) of depthwise layers, into PyTorch's order."""
    result = {}
    for name, value in tensors.items():
        if value.ndim == 4 and name.startswith(('stages.', 'logits.')):
            axes = (2, 3, 0, 1) if '.depthwise.' in name else (3, 2, 0, 1)
            value = value.permute(axes).contiguous()
        result[name] = value
    return result


def _v1_table(stem: Sequence[str], units: Sequence[str], layers: Sequence[str]) -> dict[str, str]:
    """Make a table of the published names of the first two layers, the units and their layers."""
    table = dict(zip(stem, conv_bn('stages.0.0'), strict=True))
    for theirs, ours in zip(units, V1_UNITS, strict=True):
        names = (f'{ours}.{layer}' for layer in conv_bn('depthwise', 'pointwise'))
        table |= zip((f'{theirs}.{layer}' for layer in layers), names, strict=True)
    return table


def _v2_table(first: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """Make a table of the published names of a block's layers, of which block 1 lacks two."""
    table = {}
    for number, ours in enumerate(V2_BLOCKS, 1):
        layers = conv_bn('expand_conv', 'depthwise_conv', 'linear_conv')
        names, layers = (others, layers) if number > 1 else (first, layers[2:])
        theirs = (f'features.{number}.conv.{name}' for name in names)
        table |= zip(theirs, (f'{ours}.{layer}' for layer in layers), strict=True)
    for number, ours in ((0, 'conv1'), (len(V2_BLOCKS) + 1, 'conv2')):
        table |= zip(numbered(f'features.{number}', 0, 1), conv_bn(ours), strict=True)
    return table


def _v1_networks(*widths: float, **kwargs: Any) -> list[Network]:
    return [dict(type='MobileNetV1', widen_factor=width, **kwargs) for width in widths]


RETINAFACE = dict(
    markers=frozenset(
        {'stage1.0.0.weight', 'stage1.5.3.weight', 'stage2.5.3.weight', 'stage3.1.3.weight'}
    ),
    table=_v1_table(
        ('stage1.0.0', 'stage1.0.1'),
        numbered('stage1', *range(1, 6)) + numbered('stage2', *range(6)) + numbered('stage3', 0, 1),
        # Positions in a Sequential, where the activation takes a place of its own.
        ('0', '1', '3', '4'),
    ),
)

FAMILIES = (
    # As .npz; the classifier has 1001 classes.
    Family(
        'TF-slim MobileNetV1',
        frozenset(
            {'MobilenetV1/Conv2d_0/weights', 'MobilenetV1/Conv2d_1_depthwise/depthwise_weights'}
        ),
        _tf_slim_table(),
        Normalisation('RGB', CENTRED, CENTRED, 'inception_preprocessing.py'),
        _v1_networks(
            1.0, 0.25, 0.5, 0.75, act_cfg=RELU6, padding='same', norm_cfg=dict(type='BN', eps=1e-3)
        ),
        finish=_from_tf_axes,
        eps=1e-3,
        act_cfg=RELU6,
        head={'logits': 'fc'},
        background=True,
    ),
    Family(
        'timm MobileNetV1',
        frozenset({'conv_stem.weight', 'blocks.0.0.conv_dw.weight', 'blocks.4.1.conv_pw.weight'}),
        _v1_table(
            ('conv_stem', 'bn1'),
            [f'blocks.{block}.{i}' for block, n in enumerate((1, 2, 2, 6, 2)) for i in range(n)],
            ('conv_dw', 'bn1', 'conv_pw', 'bn2'),
        ),
        Normalisation('RGB', CENTRED, CENTRED, 'cfg of mobilenetv1_*.ra4_e3600_r224_in1k'),
        _v1_networks(1.0, 1.25, 0.25, 0.5, 0.75, act_cfg=RELU6),
        act_cfg=RELU6,
        head={'classifier': 'fc'},
    ),
    # In the detector, whose classifier was trained with another input and activation.
    Family(
        'RetinaFace MobileNetV1, of a detector',
        normalisation=Normalisation(
            'BGR', (104.0, 117.0, 123.0), (1.0,) * 3, 'train.py of Pytorch_Retinaface'
        ),
        networks=_v1_networks(0.25, act_cfg=LEAKY_RELU),
        act_cfg=LEAKY_RELU,
        below='body.',
        **RETINAFACE,
    ),
    Family(
        'RetinaFace MobileNetV1',
        normalisation=imagenet('its accuracy, see docs/results.md'),
        networks=_v1_networks(0.25),
        **RETINAFACE,
    ),
    # For MMDetection's own network. Some releases of PyTorch name a block's layers flatly: conv.0
    # where torchvision has conv.0.0.
    *(
        Family(
            f'torchvision MobileNetV2{note}',
            frozenset({'features.0.0.weight', f'features.1.conv.{first[0]}.weight'}),
            _v2_table(first, others),
            imagenet('transforms of MobileNet_V2_Weights'),
            [dict(type='MobileNetV2', widen_factor=width) for width in (1.0, 0.5, 0.75, 1.4)],
            act_cfg=RELU6,
            head={'classifier.1': 'fc'},
        )
        for note, first, others in (
            ('', ('0.0', '0.1', '1', '2'), ('0.0', '0.1', '1.0', '1.1', '2', '3')),
            (' with flat names', ('0', '1', '3', '4'), ('0', '1', '3', '4', '6', '7')),
        )
    ),
)
