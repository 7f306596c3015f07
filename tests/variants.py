"""Every registered backbone and variant: a new one is tested by adding a line here."""

from mmdet.registry import MODELS
from torch import nn

# (config, multiply-adds in M at 224x224 with the 1000-way classifier, parameters in M or None). The
# figures are the papers' where they print one for the variant, and else those of the authors'
# release or counted by hand.
VARIANTS = {
    **{
        f'shufflenetv2-x{width}-{layout}': dict(
            type='ShuffleNetV2', widen_factor=width, layout=layout
        )
        for width in (0.5, 1.0, 1.5, 2.0)
        for layout in ('megvii', 'torchvision')
    },
    **{
        f'shufflenetv1-x{width}-g{groups}': dict(
            type='ShuffleNetV1', groups=groups, widen_factor=width
        )
        for width in (0.25, 0.5, 1.0, 1.5, 2.0)
        for groups in (1, 2, 3, 4, 8)
    },
    'shufflenetv1-x1.0-g3-inverse': dict(type='ShuffleNetV1', groups=3, shuffle='inverse'),
    'shufflenetv1-x1.0-g3-none': dict(type='ShuffleNetV1', groups=3, shuffle='none'),
    **{
        f'mobilenetv1-x{width}': dict(type='MobileNetV1', widen_factor=width)
        for width in (0.25, 0.5, 0.75, 1.0)
    },
    'mobilenetv1-x0.5-relu6-same': dict(
        type='MobileNetV1', widen_factor=0.5, padding='same', act_cfg=dict(type='ReLU6')
    ),
}
# One of each kind of block, for tests whose cost or subject does not depend on the width.
KINDS = (
    'shufflenetv2-x0.5-megvii',
    'shufflenetv2-x0.5-torchvision',
    'shufflenetv2-x1.0-megvii',
    'shufflenetv1-x0.25-g1',
    'shufflenetv1-x0.5-g3',
    'shufflenetv1-x0.25-g8',
    'mobilenetv1-x0.25',
    'mobilenetv1-x0.5-relu6-same',
)


def build(name: str, **kwargs) -> nn.Module:
    """Build a variant with extra arguments."""
    return MODELS.build({**VARIANTS[name], **kwargs})
