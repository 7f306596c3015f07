"""Every registered backbone and variant: a new one is tested by adding a line here."""

from functools import partial
from itertools import product

from mmdet.registry import MODELS
from torch import nn

V1, V2, MOBILENET = (
    partial(dict, type=name) for name in ('ShuffleNetV1', 'ShuffleNetV2', 'MobileNetV1')
)
WIDTHS = (0.5, 1.0, 1.5, 2.0)
LAYOUTS = ('megvii', 'torchvision')
VARIANTS = {
    **{
        f'shufflenetv2-x{width}-{layout}': V2(widen_factor=width, layout=layout)
        for width, layout in product(WIDTHS, LAYOUTS)
    },
    **{f'shufflenetv2star-x{w}': V2(widen_factor=w, extra_depthwise=True) for w in WIDTHS},
    **{
        f'shufflenetv2-x0.5-{layout}-se-residual': V2(
            widen_factor=0.5, layout=layout, se_ratio=0.5, residual=True
        )
        for layout in LAYOUTS
    },
    'shufflenetv2-x2.0-se': V2(widen_factor=2.0, se_ratio=1.0),
    'shufflenetv2-50': V2(arch='50'),
    'shufflenetv2-164-se-residual': V2(arch='164', se_ratio=0.5, residual=True),
    **{
        f'shufflenetv1-x{width}-g{groups}': V1(groups=groups, widen_factor=width)
        for width, groups in product((0.25, *WIDTHS), (1, 2, 3, 4, 8))
    },
    'shufflenetv1-x1.0-g3-inverse': V1(groups=3, shuffle='inverse'),
    'shufflenetv1-x1.0-g3-none': V1(groups=3, shuffle='none'),
    'shufflenetv1-x0.5-g8-se': V1(groups=8, widen_factor=0.5, se_ratio=1 / 16),
    'shufflenetv1-x2.0-g3-se': V1(groups=3, widen_factor=2.0, se_ratio=1 / 16),
    'shufflenetv1-shallow-x0.5-g3': V1(arch='shallow', groups=3, widen_factor=0.5),
    'shufflenetv1-50-g3': V1(arch='50', groups=3),
    **{
        f'baseline-{unit}-{mflops}M': dict(type='ShuffleNetV1Baseline', unit=unit, mflops=mflops)
        for unit, mflops in product(('vgg', 'resnet', 'resnext'), (140, 38, 13))
    },
    **{f'xceptionlike-x{w}': dict(type='XceptionLike', widen_factor=w) for w in WIDTHS},
    **{f'mobilenetv1-x{w}': MOBILENET(widen_factor=w) for w in (0.25, 0.5, 0.75, 1.0)},
    'mobilenetv1-x0.5-relu6-same': MOBILENET(
        widen_factor=0.5, padding='same', act_cfg=dict(type='ReLU6')
    ),
    'mobilenetv1-shallow': MOBILENET(shallow=True),
    'mobilenetv1-x0.25-full': MOBILENET(widen_factor=0.25, separable=False),
    'mobilenetv1-full': MOBILENET(separable=False),
    'shufflenetv2-x0.5-torchvision-dilated': V2(
        widen_factor=0.5, layout='torchvision', output_stride=16
    ),
    'shufflenetv2star-x0.5-dilated': V2(widen_factor=0.5, extra_depthwise=True, output_stride=16),
    'shufflenetv1-x0.5-g3-dilated': V1(groups=3, widen_factor=0.5, output_stride=16),
    'mobilenetv1-x0.25-dilated': MOBILENET(widen_factor=0.25, output_stride=16),
    'xceptionlike-x0.5-dilated': dict(type='XceptionLike', widen_factor=0.5, output_stride=16),
    **{
        f'squeezenet-1.0{bypass and "-"}{bypass}': dict(type='SqueezeNet', bypass=bypass or None)
        for bypass in ('', 'simple', 'complex')
    },
    'squeezenet-1.1': dict(type='SqueezeNet', version='1.1'),
    'alexnet-caffe': dict(type='AlexNet'),
    'alexnet-torchvision': dict(type='AlexNet', version='torchvision'),
}
# One of each kind of block, for tests whose cost or subject does not depend on the width.
KINDS = (
    *('shufflenetv2-x0.5-megvii', 'shufflenetv2-x0.5-torchvision'),
    *('shufflenetv2-x0.5-torchvision-dilated', 'shufflenetv2star-x0.5-dilated'),
    *('shufflenetv2-x1.0-megvii', 'shufflenetv2-x0.5-torchvision-se-residual', 'shufflenetv2-50'),
    *('shufflenetv1-x0.25-g1', 'shufflenetv1-x0.5-g3', 'shufflenetv1-x0.5-g3-dilated'),
    *('shufflenetv1-x0.25-g8', 'shufflenetv1-x0.5-g8-se', 'shufflenetv1-50-g3'),
    *('mobilenetv1-x0.25', 'mobilenetv1-x0.25-dilated', 'mobilenetv1-x0.5-relu6-same'),
    'mobilenetv1-x0.25-full',
    *('baseline-vgg-13M', 'baseline-resnet-13M', 'baseline-resnext-13M'),
    *('xceptionlike-x0.5', 'xceptionlike-x0.5-dilated'),
)
# The same of networks without a layer to train between strides 16 and 32: no head of a C4 detector
# can be made of them.
KINDS_WITHOUT_C5 = (
    *('squeezenet-1.0-complex', 'squeezenet-1.1', 'alexnet-caffe', 'alexnet-torchvision'),
)


def build(name: str, **kwargs) -> nn.Module:
    return MODELS.build({**VARIANTS[name], **kwargs})
