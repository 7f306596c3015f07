"""Every registered backbone and variant: a new one is tested by adding a line here."""

from mmdet.registry import MODELS
from torch import nn

VARIANTS = {
    **{
        f'shufflenetv2-x{width}-{layout}': dict(
            type='ShuffleNetV2', widen_factor=width, layout=layout
        )
        for width in (0.5, 1.0, 1.5, 2.0)
        for layout in ('megvii', 'torchvision')
    },
    **{
        f'shufflenetv2star-x{width}': dict(
            type='ShuffleNetV2', widen_factor=width, extra_depthwise=True
        )
        for width in (0.5, 1.0, 1.5, 2.0)
    },
    'shufflenetv2-x0.5-torchvision-se-residual': dict(
        type='ShuffleNetV2', widen_factor=0.5, layout='torchvision', se_ratio=0.5, residual=True
    ),
    'shufflenetv2-x0.5-megvii-se-residual': dict(
        type='ShuffleNetV2', widen_factor=0.5, se_ratio=0.5, residual=True
    ),
    'shufflenetv2-x2.0-se': dict(type='ShuffleNetV2', widen_factor=2.0, se_ratio=1.0),
    'shufflenetv2-50': dict(type='ShuffleNetV2', arch='50'),
    'shufflenetv2-164-se-residual': dict(
        type='ShuffleNetV2', arch='164', se_ratio=0.5, residual=True
    ),
    **{
        f'shufflenetv1-x{width}-g{groups}': dict(
            type='ShuffleNetV1', groups=groups, widen_factor=width
        )
        for width in (0.25, 0.5, 1.0, 1.5, 2.0)
        for groups in (1, 2, 3, 4, 8)
    },
    'shufflenetv1-x1.0-g3-inverse': dict(type='ShuffleNetV1', groups=3, shuffle='inverse'),
    'shufflenetv1-x1.0-g3-none': dict(type='ShuffleNetV1', groups=3, shuffle='none'),
    'shufflenetv1-x0.5-g8-se': dict(
        type='ShuffleNetV1', groups=8, widen_factor=0.5, se_ratio=1 / 16
    ),
    'shufflenetv1-x2.0-g3-se': dict(
        type='ShuffleNetV1', groups=3, widen_factor=2.0, se_ratio=1 / 16
    ),
    'shufflenetv1-shallow-x0.5-g3': dict(
        type='ShuffleNetV1', arch='shallow', groups=3, widen_factor=0.5
    ),
    'shufflenetv1-50-g3': dict(type='ShuffleNetV1', arch='50', groups=3),
    **{
        f'baseline-{unit}-{mflops}M': dict(type='ShuffleNetV1Baseline', unit=unit, mflops=mflops)
        for unit in ('vgg', 'resnet', 'resnext')
        for mflops in (140, 38, 13)
    },
    **{
        f'xceptionlike-x{width}': dict(type='XceptionLike', widen_factor=width)
        for width in (0.5, 1.0, 1.5, 2.0)
    },
    **{
        f'mobilenetv1-x{width}': dict(type='MobileNetV1', widen_factor=width)
        for width in (0.25, 0.5, 0.75, 1.0)
    },
    'mobilenetv1-x0.5-relu6-same': dict(
        type='MobileNetV1', widen_factor=0.5, padding='same', act_cfg=dict(type='ReLU6')
    ),
    'mobilenetv1-shallow': dict(type='MobileNetV1', shallow=True),
    'mobilenetv1-x0.25-full': dict(type='MobileNetV1', widen_factor=0.25, separable=False),
    'mobilenetv1-full': dict(type='MobileNetV1', separable=False),
    **{
        f'{name}-dilated': dict(cfg, output_stride=16)
        for name, cfg in {
            'shufflenetv2-x0.5-torchvision': dict(
                type='ShuffleNetV2', widen_factor=0.5, layout='torchvision'
            ),
            'shufflenetv2star-x0.5': dict(
                type='ShuffleNetV2', widen_factor=0.5, extra_depthwise=True
            ),
            'shufflenetv1-x0.5-g3': dict(type='ShuffleNetV1', groups=3, widen_factor=0.5),
            'mobilenetv1-x0.25': dict(type='MobileNetV1', widen_factor=0.25),
        }.items()
    },
    'squeezenet-1.0': dict(type='SqueezeNet'),
    'squeezenet-1.0-simple': dict(type='SqueezeNet', bypass='simple'),
    'squeezenet-1.0-complex': dict(type='SqueezeNet', bypass='complex'),
    'squeezenet-1.1': dict(type='SqueezeNet', version='1.1'),
    'alexnet-caffe': dict(type='AlexNet'),
    'alexnet-torchvision': dict(type='AlexNet', version='torchvision'),
}


# One of each kind of block, for tests whose cost or subject does not depend on the width.
KINDS = (
    'shufflenetv2-x0.5-megvii',
    'shufflenetv2-x0.5-torchvision',
    'shufflenetv2-x0.5-torchvision-dilated',
    'shufflenetv2star-x0.5-dilated',
    'shufflenetv2-x1.0-megvii',
    'shufflenetv1-x0.25-g1',
    'shufflenetv1-x0.5-g3',
    'shufflenetv1-x0.5-g3-dilated',
    'shufflenetv1-x0.25-g8',
    'mobilenetv1-x0.25',
    'mobilenetv1-x0.25-dilated',
    'mobilenetv1-x0.5-relu6-same',
    'mobilenetv1-x0.25-full',
    'shufflenetv2-x0.5-torchvision-se-residual',
    'shufflenetv2-50',
    'shufflenetv1-x0.5-g8-se',
    'shufflenetv1-50-g3',
    'baseline-vgg-13M',
    'baseline-resnet-13M',
    'baseline-resnext-13M',
    'xceptionlike-x0.5',
)
# The same of networks without a layer to train between strides 16 and 32: no head of a C4 detector
# can be made of them.
KINDS_WITHOUT_C5 = (
    'squeezenet-1.0-complex',
    'squeezenet-1.1',
    'alexnet-caffe',
    'alexnet-torchvision',
)


def build(name: str, **kwargs) -> nn.Module:
    """Build a variant with extra arguments."""
    return MODELS.build({**VARIANTS[name], **kwargs})
