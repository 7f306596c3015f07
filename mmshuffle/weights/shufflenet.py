"""ShuffleNet V1 and V2, as published by their authors and by the projects that use them.

V1 by MMPretrain and megvii (megvii-model/ShuffleNet-Series); V2 also by torchvision, NanoDet and
Yolo-FastestV2. megvii's and the last one's V2 have another order of channels than the others.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .family import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LEAKY_RELU,
    Family,
    Network,
    Normalisation,
    conv_bn,
    imagenet,
    numbered,
)

# Units in the stages of every ShuffleNet but the deepest.
UNITS = (4, 8, 4)
STEM = ('stages.0.0.conv', 'stages.0.0.bn')
MEGVII_STEM = ('first_conv.0', 'first_conv.1')
MEGVII_INPUT = Normalisation('BGR', (0.0,) * 3, (1.0,) * 3, 'train.py of the release')


def _table(
    stem: Sequence[str],
    unit: str,
    layers: Sequence[str],
    projection: Sequence[str] = (),
    last: Sequence[str] = (),
) -> dict[str, str]:
    """Make a table of published names.

    Args:
        stem: Of the first convolution and its BatchNorm.
        unit: Format string of a unit: by ``stage`` from 0, ``paper_stage`` from 2, ``unit`` in the
            stage and ``index`` over all stages.
        layers: Of the three convolutions of a unit, each with its BatchNorm.
        projection: Of the two of V2's other branch, which the first unit of a stage has.
        last: Of V2's Conv5 and its BatchNorm, if published.
    """
    table = dict(zip((*stem, *last), (*STEM, 'stages.4.conv', 'stages.4.bn'), strict=False))
    places = [(stage, unit) for stage, count in enumerate(UNITS) for unit in range(count)]
    for index, (stage, i) in enumerate(places):
        theirs = unit.format(stage=stage, paper_stage=stage + 2, unit=i, index=index)
        ours = f'stages.{stage + 1}.{"branches." if projection else ""}{i}'
        parts = ('0', '1', '2') if projection else ('reduce', 'depthwise', 'expand')
        pairs = [*zip(layers, (f'{ours}.{layer}' for layer in conv_bn(*parts)), strict=True)]
        if i == 0 and projection:
            other = f'stages.{stage + 1}.projection'
            pairs += zip(projection, conv_bn(f'{other}.0', f'{other}.1'), strict=True)
        table |= {f'{theirs}.{name}': layer for name, layer in pairs}
    return table


def depthwise_behind_shuffle(tensors: dict[str, Tensor], inverse: bool) -> dict[str, Tensor]:
    """Reorder the depthwise layers of a V1 for a shuffle that precedes them.

    Published code shuffles behind the depthwise convolution and its BatchNorm; the paper (Figure 2)
    and this package before them. Both act on each channel alone, so with their parameters in the
    shuffled order the network computes the same.

    Args:
        inverse: Whether the shuffle is the inverse of the paper's.
    """
    result = dict(tensors)
    for name, expand in tensors.items():
        unit, found, _ = name.partition('.expand.conv.weight')
        depthwise = tensors.get(f'{unit}.depthwise.conv.weight')
        if not found or depthwise is None:
            continue
        channels, group_channels = len(depthwise), expand.shape[1]
        if channels % group_channels:
            continue  # No such network: the loader reports the shapes.
        groups = group_channels if inverse else channels // group_channels
        order = torch.arange(channels).view(groups, -1).t().flatten()
        for key, value in tensors.items():
            if key.startswith(f'{unit}.depthwise.') and value.shape[:1] == (channels,):
                result[key] = value[order]
    return result


def _v1_networks(**kwargs: str) -> list[Network]:
    return [
        dict(type='ShuffleNetV1', groups=groups, widen_factor=width, **kwargs)
        for width in (1.0, 0.25, 0.5, 1.5, 2.0)
        for groups in (3, 1, 2, 4, 8)
    ]


def _v2(layout: str, **kwargs: Any) -> dict[str, Any]:
    widths = (0.5, 1.0, 1.5, 2.0)
    common = dict(type='ShuffleNetV2', layout=layout, **kwargs)
    return dict(
        networks=[dict(widen_factor=width, **common) for width in widths],
        requires=dict(layout=layout),
    )


# Numbers are positions in a Sequential, where ReLU takes a place of its own.
TORCHVISION = dict(
    markers=frozenset({'conv1.0.weight', 'stage2.0.branch1.0.weight'}),
    table=_table(
        stem=('conv1.0', 'conv1.1'),
        unit='stage{paper_stage}.{unit}',
        layers=numbered('branch2', 0, 1, 3, 4, 5, 6),
        projection=numbered('branch1', 0, 1, 2, 3),
        last=('conv5.0', 'conv5.1'),
    ),
)
MEGVII_V2 = dict(
    stem=MEGVII_STEM,
    layers=numbered('branch_main', 0, 1, 3, 4, 5, 6),
    projection=numbered('branch_proj', 0, 1, 2, 3),
    last=('conv_last.0', 'conv_last.1'),
)

FAMILIES = (
    Family(
        'NanoDet ShuffleNetV2',
        normalisation=Normalisation('BGR', IMAGENET_MEAN[::-1], IMAGENET_STD[::-1], 'config/*.yml'),
        act_cfg=LEAKY_RELU,
        below='model.backbone.',
        **TORCHVISION,
        **_v2('torchvision', act_cfg=LEAKY_RELU),
    ),
    Family(
        'torchvision ShuffleNetV2',
        normalisation=imagenet('transforms of ShuffleNet_V2_*_Weights'),
        **TORCHVISION,
        **_v2('torchvision'),
    ),
    Family(
        'MMPretrain ShuffleNetV2',
        frozenset({'conv1.conv.weight', 'layers.0.0.branch1.0.conv.weight'}),
        _table(
            stem=conv_bn('conv1'),
            unit='layers.{stage}.{unit}',
            layers=conv_bn('branch2.0', 'branch2.1', 'branch2.2'),
            projection=conv_bn('branch1.0', 'branch1.1'),
            last=conv_bn('layers.3'),
        ),
        imagenet('imagenet_bs64_pil_resize.py'),
        head={'head.fc': 'fc'},
        **_v2('torchvision'),
    ),
    Family(
        'megvii ShuffleNetV2',
        frozenset({'first_conv.0.weight', 'features.0.branch_proj.0.weight'}),
        _table(unit='features.{index}', **MEGVII_V2),
        MEGVII_INPUT,
        head={'classifier.0': 'fc'},
        **_v2('megvii'),
    ),
    # 0.5x alone, without Conv5, with the units named by stage.
    Family(
        'Yolo-FastestV2 ShuffleNetV2',
        frozenset({'first_conv.0.weight', 'stage2.0.branch_proj.0.weight'}),
        _table(unit='stage{paper_stage}.{unit}', **MEGVII_V2),
        Normalisation('BGR', (0.0,) * 3, (255.0,) * 3, "the detector's train.py"),
        **_v2('megvii'),
    ),
    # Its stem has int(24 * widen_factor) channels and its stages are rounded to multiples of 8, so
    # that only some variants have the shapes of this package's; of the others the loader reports
    # the shapes. Published weights are 1.0x with 3 groups, which fit.
    Family(
        'MMPretrain ShuffleNetV1',
        frozenset({'conv1.conv.weight', 'layers.0.0.g_conv_1x1_compress.conv.weight'}),
        _table(
            stem=conv_bn('conv1'),
            unit='layers.{stage}.{unit}',
            layers=conv_bn('g_conv_1x1_compress', 'depthwise_conv3x3_bn', 'g_conv_1x1_expand'),
        ),
        imagenet('imagenet_bs64_pil_resize.py'),
        _v1_networks(),
        requires=dict(shuffle='paper'),
        finish=lambda tensors: depthwise_behind_shuffle(tensors, inverse=False),
        head={'head.fc': 'fc'},
    ),
    # Its code shuffles by the inverse of the paper's permutation, which group convolutions cannot
    # undo.
    Family(
        'megvii ShuffleNetV1',
        frozenset({'first_conv.0.weight', 'features.0.branch_main_1.0.weight'}),
        _table(
            stem=MEGVII_STEM,
            unit='features.{index}',
            layers=numbered('branch_main_1', 0, 1, 3, 4) + numbered('branch_main_2', 0, 1),
        ),
        MEGVII_INPUT,
        _v1_networks(shuffle='inverse'),
        requires=dict(shuffle='inverse'),
        finish=lambda tensors: depthwise_behind_shuffle(tensors, inverse=True),
        head={'classifier.0': 'fc'},
    ),
)
