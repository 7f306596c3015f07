"""MobileNet V1 as published by TensorFlow's TF-slim, by timm and with RetinaFace."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from .family import LEAKY_RELU, RELU6, Family, Network, Normalisation, imagenet

# Depthwise separable layers in this package's stages; stage 0 begins with the first convolution.
STAGE_LAYERS = (3, 2, 6, 2)
# Layers in the parts that timm and RetinaFace name.
TIMM_BLOCKS = (1, 2, 2, 6, 2)
RETINAFACE_STAGES = (5, 6, 2)
LAYERS = ('depthwise.conv', 'depthwise.bn', 'pointwise.conv', 'pointwise.bn')
LOGITS = 'MobilenetV1/Logits/Conv2d_1c_1x1'


def _layers() -> Iterator[str]:
    """Our names of the 13 depthwise separable layers."""
    for stage, count in enumerate(STAGE_LAYERS):
        for position in range(count):
            yield f'stages.{stage}.{position + (stage == 0)}'


def _tf_slim_table() -> dict[str, str]:
    convolutions = {'MobilenetV1/Conv2d_0': 'stages.0.0'}
    for number, ours in enumerate(_layers(), 1):
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


def _torch_table(stem: tuple[str, str], theirs: list[str], layers: tuple[str, ...]) -> dict:
    table = dict(zip(stem, ('stages.0.0.conv', 'stages.0.0.bn'), strict=True))
    for name, ours in zip(theirs, _layers(), strict=True):
        table |= {f'{name}.{a}': f'{ours}.{b}' for a, b in zip(layers, LAYERS, strict=True)}
    return table


def _networks(*widths: float, **kwargs: Any) -> list[Network]:
    return [dict(type='MobileNetV1', widen_factor=width, **kwargs) for width in widths]


RETINAFACE = dict(
    markers=frozenset(
        {'stage1.0.0.weight', 'stage1.5.3.weight', 'stage2.5.3.weight', 'stage3.1.3.weight'}
    ),
    table=_torch_table(
        ('stage1.0.0', 'stage1.0.1'),
        [
            f'stage{stage}.{i + (stage == 1)}'
            for stage, count in enumerate(RETINAFACE_STAGES, 1)
            for i in range(count)
        ],
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
        Normalisation('RGB', (127.5,) * 3, (127.5,) * 3, 'inception_preprocessing.py'),
        _networks(
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
        _torch_table(
            ('conv_stem', 'bn1'),
            [f'blocks.{block}.{i}' for block, n in enumerate(TIMM_BLOCKS) for i in range(n)],
            ('conv_dw', 'bn1', 'conv_pw', 'bn2'),
        ),
        Normalisation(
            'RGB', (127.5,) * 3, (127.5,) * 3, 'cfg of mobilenetv1_*.ra4_e3600_r224_in1k'
        ),
        _networks(1.0, 1.25, 0.25, 0.5, 0.75, act_cfg=RELU6),
        act_cfg=RELU6,
        head={'classifier': 'fc'},
    ),
    # In the detector, whose classifier was trained with another input and activation.
    Family(
        'RetinaFace MobileNetV1, of a detector',
        normalisation=Normalisation(
            'BGR', (104.0, 117.0, 123.0), (1.0,) * 3, 'train.py of Pytorch_Retinaface'
        ),
        networks=_networks(0.25, act_cfg=LEAKY_RELU),
        act_cfg=LEAKY_RELU,
        below='body.',
        **RETINAFACE,
    ),
    Family(
        'RetinaFace MobileNetV1',
        normalisation=imagenet('its accuracy, see docs/results.md'),
        networks=_networks(0.25),
        **RETINAFACE,
    ),
)
