"""ShuffleNet V1 as published by its authors (megvii-model/ShuffleNet-Series) and by MMPretrain."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .family import Family, Network, Normalisation, imagenet

# Units in the stages of every ShuffleNet but the deepest.
UNITS = (4, 8, 4)
# Layers of a unit, in the order in which the tables list them.
LAYERS = ('reduce.conv', 'reduce.bn', 'depthwise.conv', 'depthwise.bn', 'expand.conv', 'expand.bn')
MEGVII_INPUT = Normalisation('BGR', (0.0,) * 3, (1.0,) * 3, 'train.py of the release')


def shuffle_units() -> Iterator[dict[str, int]]:
    """Count the units of a ShuffleNet in the ways in which published names do.

    Yields:
        ``stage`` from 0, ``paper_stage`` from 2, ``unit`` within the stage and ``index`` over all
        stages, for a format string.
    """
    index = 0
    for stage, units in enumerate(UNITS):
        for unit in range(units):
            yield dict(stage=stage, paper_stage=stage + 2, unit=unit, index=index)
            index += 1


def _table(stem: Sequence[str], unit: str, layers: Sequence[str]) -> dict[str, str]:
    """Make a table of the stem's two layers, and of those of each unit."""
    table = dict(zip(stem, ('stages.0.0.conv', 'stages.0.0.bn'), strict=True))
    for place in shuffle_units():
        ours = f'stages.{place["stage"] + 1}.{place["unit"]}'
        for theirs, layer in zip(layers, LAYERS, strict=True):
            table[f'{unit.format(**place)}.{theirs}'] = f'{ours}.{layer}'
    return table


def depthwise_behind_shuffle(tensors: dict[str, Tensor], inverse: bool) -> dict[str, Tensor]:
    """Reorder the depthwise layers for a shuffle that precedes them.

    Published code shuffles behind the depthwise convolution and its BatchNorm; the paper (Figure 2)
    and this package before them. Both act on each channel alone, so with their parameters in the
    shuffled order the network computes the same.

    Args:
        tensors: Tensors by our names.
        inverse: Whether the shuffle is the inverse of the paper's.

    Returns:
        The tensors, those of the depthwise layers reordered.
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


def _networks(**kwargs: str) -> list[Network]:
    return [
        dict(type='ShuffleNetV1', groups=groups, widen_factor=width, **kwargs)
        for width in (1.0, 0.25, 0.5, 1.5, 2.0)
        for groups in (3, 1, 2, 4, 8)
    ]


FAMILIES = (
    # Its stem has int(24 * widen_factor) channels and its stages are rounded to multiples of 8, so
    # that only some variants have the shapes of this package's; of the others the loader reports
    # the shapes. Published weights are 1.0x with 3 groups, which fit.
    Family(
        'MMPretrain ShuffleNetV1',
        frozenset({'conv1.conv.weight', 'layers.0.0.g_conv_1x1_compress.conv.weight'}),
        _table(
            stem=('conv1.conv', 'conv1.bn'),
            unit='layers.{stage}.{unit}',
            layers=[
                f'{name}.{layer}'
                for name in ('g_conv_1x1_compress', 'depthwise_conv3x3_bn', 'g_conv_1x1_expand')
                for layer in ('conv', 'bn')
            ],
        ),
        imagenet('imagenet_bs64_pil_resize.py'),
        _networks(),
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
            stem=('first_conv.0', 'first_conv.1'),
            unit='features.{index}',
            # Positions in a branch's Sequential, where ReLU takes a place of its own.
            layers=[
                *(f'branch_main_1.{i}' for i in (0, 1, 3, 4)),
                *(f'branch_main_2.{i}' for i in (0, 1)),
            ],
        ),
        MEGVII_INPUT,
        _networks(shuffle='inverse'),
        requires=dict(shuffle='inverse'),
        finish=lambda tensors: depthwise_behind_shuffle(tensors, inverse=True),
        head={'classifier.0': 'fc'},
    ),
)
