"""The published naming schemes of ``families.json``, made ready to use.

There, names of a network's layers stand in two strings: those of its units, where ``stage2.0-3``
are ``stage2.0`` to ``stage2.3``, and those of the layers behind each. The names of a scheme and
ours are in the same order. ``like`` is the scheme that gives the rest, and lists of a network's
arguments are of several networks.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .family import Family, Normalisation


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


def from_tf_axes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put (h, w, in, out), and (h, w, channels, 1) of depthwise layers, into PyTorch's order."""
    result = {}
    for name, value in tensors.items():
        if value.ndim == 4 and name.startswith(('stages.', 'logits.')):
            axes = (2, 3, 0, 1) if '.depthwise.' in name else (3, 2, 0, 1)
            value = value.permute(axes).contiguous()
        result[name] = value
    return result


FINISH = {
    'depthwise behind shuffle': partial(depthwise_behind_shuffle, inverse=False),
    'depthwise behind inverse shuffle': partial(depthwise_behind_shuffle, inverse=True),
    'axes of TensorFlow': from_tf_axes,
}


def _layers(units: str, layers: str) -> list[str]:
    """Names of all layers of some units."""
    names = []
    for unit in units.split(' '):
        several = re.fullmatch(r'(.*?)(\d+)-(\d+)', unit)
        numbers = range(int(several[2]), int(several[3]) + 1) if several else ()
        names += [f'{several[1]}{n}' for n in numbers] or [unit]
    return [name + layer for name in names for layer in layers.split(' ')]


def _table(
    theirs: Mapping[str, Sequence[str]], ours: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Make a table of published names to ours."""
    pairs = (zip(_layers(*theirs[part]), _layers(*ours[part]), strict=True) for part in ours)
    return dict(itertools.chain.from_iterable(pairs))


def _networks(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make a config of each combination of the arguments that are lists."""
    choices = (value if isinstance(value, list) else [value] for value in arguments.values())
    return [dict(zip(arguments, chosen, strict=True)) for chosen in itertools.product(*choices)]


def _read() -> tuple[Family, ...]:
    content = json.loads(Path(__file__).with_name('families.json').read_text('utf-8'))
    rows = {row['name']: row for row in content['families']}
    families = []
    for row in rows.values():
        row = {**rows.get(row.get('like'), {}), **row}
        given = row['normalisation']
        known = dict(
            markers=frozenset(row['markers'].split()),
            table=_table(row['theirs'], content['ours'][row['ours']]),
            normalisation=Normalisation(
                **{**given, 'mean': tuple(given['mean']), 'std': tuple(given['std'])}
            ),
            networks=_networks(row['networks']),
        )
        if 'finish' in row:
            known['finish'] = FINISH[row['finish']]
        others = row.keys() - {'about', 'like', 'theirs', 'ours', *known}
        families.append(Family(**known, **{key: row[key] for key in others}))
    return tuple(families)


FAMILIES = _read()
