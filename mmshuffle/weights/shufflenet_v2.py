"""ShuffleNet V2 as published by torchvision, NanoDet, MMPretrain, its authors and Yolo-FastestV2.

The last two have another order of channels than the others.
"""

from collections.abc import Sequence
from typing import Any

from .family import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LEAKY_RELU,
    Family,
    Network,
    Normalisation,
    imagenet,
)
from .shufflenet_v1 import MEGVII_INPUT, shuffle_units

# Layers of the first unit's other branch and of every unit, in the order of the tables.
PROJECTION = ('0.conv', '0.bn', '1.conv', '1.bn')
BRANCH = ('0.conv', '0.bn', '1.conv', '1.bn', '2.conv', '2.bn')


def _table(
    stem: Sequence[str],
    unit: str,
    projection: Sequence[str],
    branch: Sequence[str],
    last: Sequence[str] = (),
) -> dict[str, str]:
    """Make a table of published names.

    Args:
        stem: Of the first convolution and its BatchNorm.
        unit: Format string of a unit's, see :func:`shuffle_units`.
        projection: Of :data:`PROJECTION` in the first unit of a stage.
        branch: Of :data:`BRANCH` in a unit.
        last: Of Conv5 and its BatchNorm, if published.
    """
    table = dict(zip(stem, ('stages.0.0.conv', 'stages.0.0.bn'), strict=True))
    table.update(zip(last, ('stages.4.conv', 'stages.4.bn')))
    for place in shuffle_units():
        theirs, stage = unit.format(**place), f'stages.{place["stage"] + 1}'
        for name, layer in zip(branch, BRANCH, strict=True):
            table[f'{theirs}.{name}'] = f'{stage}.branches.{place["unit"]}.{layer}'
        if place['unit'] == 0:
            for name, layer in zip(projection, PROJECTION, strict=True):
                table[f'{theirs}.{name}'] = f'{stage}.projection.{layer}'
    return table


def _networks(layout: str, **kwargs: Any) -> list[Network]:
    return [
        dict(type='ShuffleNetV2', widen_factor=width, layout=layout, **kwargs)
        for width in (0.5, 1.0, 1.5, 2.0)
    ]


# Numbers are positions in a Sequential, where ReLU takes a place of its own.
TORCHVISION = dict(
    markers=frozenset({'conv1.0.weight', 'stage2.0.branch1.0.weight'}),
    table=_table(
        stem=('conv1.0', 'conv1.1'),
        unit='stage{paper_stage}.{unit}',
        projection=[f'branch1.{i}' for i in (0, 1, 2, 3)],
        branch=[f'branch2.{i}' for i in (0, 1, 3, 4, 5, 6)],
        last=('conv5.0', 'conv5.1'),
    ),
    requires=dict(layout='torchvision'),
)
MEGVII_LAYERS = dict(
    stem=('first_conv.0', 'first_conv.1'),
    projection=[f'branch_proj.{i}' for i in (0, 1, 2, 3)],
    branch=[f'branch_main.{i}' for i in (0, 1, 3, 4, 5, 6)],
    last=('conv_last.0', 'conv_last.1'),
)

FAMILIES = (
    Family(
        'NanoDet ShuffleNetV2',
        normalisation=Normalisation('BGR', IMAGENET_MEAN[::-1], IMAGENET_STD[::-1], 'config/*.yml'),
        networks=_networks('torchvision', act_cfg=LEAKY_RELU),
        act_cfg=LEAKY_RELU,
        below='model.backbone.',
        **TORCHVISION,
    ),
    Family(
        'torchvision ShuffleNetV2',
        normalisation=imagenet('transforms of ShuffleNet_V2_*_Weights'),
        networks=_networks('torchvision'),
        **TORCHVISION,
    ),
    Family(
        'MMPretrain ShuffleNetV2',
        frozenset({'conv1.conv.weight', 'layers.0.0.branch1.0.conv.weight'}),
        _table(
            stem=('conv1.conv', 'conv1.bn'),
            unit='layers.{stage}.{unit}',
            projection=[f'branch1.{i}.{layer}' for i in range(2) for layer in ('conv', 'bn')],
            branch=[f'branch2.{i}.{layer}' for i in range(3) for layer in ('conv', 'bn')],
            last=('layers.3.conv', 'layers.3.bn'),
        ),
        imagenet('imagenet_bs64_pil_resize.py'),
        _networks('torchvision'),
        requires=dict(layout='torchvision'),
        head={'head.fc': 'fc'},
    ),
    Family(
        'megvii ShuffleNetV2',
        frozenset({'first_conv.0.weight', 'features.0.branch_proj.0.weight'}),
        _table(unit='features.{index}', **MEGVII_LAYERS),
        MEGVII_INPUT,
        _networks('megvii'),
        requires=dict(layout='megvii'),
        head={'classifier.0': 'fc'},
    ),
    # 0.5x alone, without Conv5, with the units named by stage.
    Family(
        'Yolo-FastestV2 ShuffleNetV2',
        frozenset({'first_conv.0.weight', 'stage2.0.branch_proj.0.weight'}),
        _table(unit='stage{paper_stage}.{unit}', **MEGVII_LAYERS),
        Normalisation('BGR', (0.0,) * 3, (255.0,) * 3, "the detector's train.py"),
        _networks('megvii'),
        requires=dict(layout='megvii'),
    ),
)
