"""Tables from published module names to this package's, which the converters are made of."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mmshuffle.backbones.mobilenet_v1 import STAGE_LAYERS
from mmshuffle.backbones.shufflenet_v2 import STAGE_UNITS

# Layers of the units, in the order in which every table lists them.
V1_UNIT = ('reduce.conv', 'reduce.bn', 'depthwise.conv', 'depthwise.bn', 'expand.conv', 'expand.bn')
V2_PROJECTION = ('0.conv', '0.bn', '1.conv', '1.bn')
V2_BRANCH = ('0.conv', '0.bn', '1.conv', '1.bn', '2.conv', '2.bn')


def rename(tensors: dict[str, Tensor], table: dict[str, str]) -> dict[str, Tensor]:
    """Rename tensors by the names of their modules.

    Args:
        tensors: Tensors by names such as ``conv1.0.weight``.
        table: Published module name to ours.

    Returns:
        The same tensors; a name whose module is not in ``table`` is kept.
    """
    renamed = {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition('.')
        renamed[f'{table[module]}.{leaf}' if module in table else name] = value
    return renamed


def shuffle_units() -> Iterator[dict[str, int]]:
    """Count the units of a ShuffleNet in the ways in which published names do.

    Yields:
        ``stage`` from 0, ``paper_stage`` from 2, ``unit`` within the stage and ``index`` over all
        stages, for a format string.
    """
    index = 0
    for stage, units in enumerate(STAGE_UNITS):
        for unit in range(units):
            yield dict(stage=stage, paper_stage=stage + 2, unit=unit, index=index)
            index += 1


def shufflenet_v1_table(stem: Sequence[str], unit: str, layers: Sequence[str]) -> dict[str, str]:
    """Make the table of a ShuffleNet V1.

    Args:
        stem: Published names of the first convolution and its BatchNorm.
        unit: Format string of a unit's name, see :func:`shuffle_units`.
        layers: Published names of :data:`V1_UNIT` in a unit.
    """
    table = dict(zip(stem, ('stages.0.0.conv', 'stages.0.0.bn'), strict=True))
    for place in shuffle_units():
        ours = f'stages.{place["stage"] + 1}.{place["unit"]}'
        for theirs, layer in zip(layers, V1_UNIT, strict=True):
            table[f'{unit.format(**place)}.{theirs}'] = f'{ours}.{layer}'
    return table


def shufflenet_v2_table(
    stem: Sequence[str],
    unit: str,
    projection: Sequence[str],
    branch: Sequence[str],
    last: Sequence[str] = (),
) -> dict[str, str]:
    """Make the table of a ShuffleNet V2.

    Args:
        stem: Published names of the first convolution and its BatchNorm.
        unit: Format string of a unit's name, see :func:`shuffle_units`.
        projection: Published names of :data:`V2_PROJECTION` in the first unit of a stage.
        branch: Published names of :data:`V2_BRANCH` in a unit.
        last: Published names of Conv5 and its BatchNorm, if published.
    """
    table = dict(zip(stem, ('stages.0.0.conv', 'stages.0.0.bn'), strict=True))
    table.update(zip(last, ('stages.4.conv', 'stages.4.bn')))
    for place in shuffle_units():
        theirs, stage = unit.format(**place), f'stages.{place["stage"] + 1}'
        for name, layer in zip(branch, V2_BRANCH, strict=True):
            table[f'{theirs}.{name}'] = f'{stage}.branches.{place["unit"]}.{layer}'
        if place['unit'] == 0:
            for name, layer in zip(projection, V2_PROJECTION, strict=True):
                table[f'{theirs}.{name}'] = f'{stage}.projection.{layer}'
    return table


def mobilenet_v1_layers() -> list[str]:
    """Our names of MobileNet V1's 13 depthwise separable layers, first to last."""
    return [
        # Stage 0 begins with the first convolution.
        f'stages.{stage}.{position + (stage == 0)}'
        for stage, layers in enumerate(STAGE_LAYERS)
        for position in range(len(layers))
    ]


def depthwise_behind_shuffle(tensors: dict[str, Tensor], inverse: bool) -> dict[str, Tensor]:
    """Reorder ShuffleNet V1's depthwise layers for a shuffle that precedes them.

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
