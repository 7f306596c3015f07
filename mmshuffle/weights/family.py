"""The published naming schemes, and what is known of the networks that have them.

In ``families.json``, names of a network's layers stand in two strings: those of its units, where
``stage2.0-3`` are ``stage2.0`` to ``stage2.3``, and those of the layers behind each. The names of a
scheme and ours are in the same order. ``like`` is the scheme that gives the rest, and lists of a
network's arguments are of several networks.
"""

import itertools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmshuffle.errors import UserError

Tensors = dict[str, Tensor]
Network = dict[str, Any]


def depthwise_behind_shuffle(tensors: Tensors, inverse: bool) -> Tensors:
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


def from_tf_axes(tensors: Tensors) -> Tensors:
    """Put (h, w, in, out), and (h, w, channels, 1) of depthwise layers, into PyTorch's order."""
    result = {}
    for name, value in tensors.items():
        if value.ndim == 4 and name.startswith(('stages.', 'logits.')):
            axes = (2, 3, 0, 1) if '.depthwise.' in name else (3, 2, 0, 1)
            value = value.permute(axes).contiguous()
        result[name] = value
    return result


# What reorders the tensors of a family, if needed.
FINISH: dict[str, Callable[[Tensors], Tensors]] = {
    '': lambda tensors: tensors,
    'depthwise behind shuffle': partial(depthwise_behind_shuffle, inverse=False),
    'depthwise behind inverse shuffle': partial(depthwise_behind_shuffle, inverse=True),
    'axes of TensorFlow': from_tf_axes,
}


@dataclass(frozen=True)
class Normalisation:
    """The input that weights were trained with: ``(pixel - mean) / std``, pixels from 0 to 255."""

    channel_order: str  # ``'RGB'`` or ``'BGR'``; ``mean`` and ``std`` are in this order
    mean: Sequence[float]  # subtracted from the pixels
    std: Sequence[float]  # divides the difference
    source: str  # who says so
    exception: str = ''  # input of other files of the same names, which no tensor tells apart

    def __str__(self) -> str:
        exception = f' ({self.exception})' if self.exception else ''
        return f'{self.channel_order}, mean {_show(self.mean)}, std {_show(self.std)}{exception}'


@dataclass(frozen=True)
class Family:
    """A naming scheme, and how the networks published under it were trained."""

    name: str
    markers: Collection[str]  # tensor names that together tell the scheme
    table: Mapping[str, str]  # published name of a module, or of a tensor, to ours
    normalisation: Normalisation
    # Configs of the networks that files can be of. Their shapes differ, so one at most fits a file.
    networks: Sequence[Network]
    requires: Mapping[str, Any] = field(default_factory=dict)  # arguments that decide the meaning
    finish: str = ''  # name of the function of ``FINISH`` that the tensors go through
    eps: float = 1e-5
    act_cfg: Mapping[str, Any] = field(default_factory=lambda: dict(type='ReLU'))
    # The published classifier, after renaming: name of a layer to its name in the head of
    # :class:`~mmshuffle.classification.ImageClassifier`.
    head: Mapping[str, str] = field(default_factory=lambda: {'fc': 'fc'})
    background: bool = False  # whether class 0 of the published classifier is the background
    # What the name in front of the markers must end with, where another part of that name is of
    # another family.
    below: str = ''

    def convert(self, network: nn.Module, tensors: Tensors) -> Tensors:
        """Rename tensors for a network; names without a counterpart are kept."""
        if self.networks[0]['type'] in {cls.__name__ for cls in type(network).__mro__}:
            check_settings(network, self.requires)
        renamed = {}
        for name, value in tensors.items():
            module, _, leaf = name.rpartition('.')
            ours = f'{self.table[module]}.{leaf}' if module in self.table else name
            renamed[self.table.get(name, ours)] = value
        return FINISH[self.finish](renamed)


# The key of the note in a training checkpoint's ``meta``, and the settings that it has: they decide
# what weights mean, but not their names and shapes, so that a ShuffleNet V2 0.5x in one channel
# order would take the weights of the other without a word.
NOTE = 'backbone_settings'
NOTED = ('layout', 'shuffle')


def settings_of(model: nn.Module) -> dict[str, str]:
    """Such settings of a backbone, or of a model's ``backbone``; empty where it has none."""
    backbone = getattr(model, 'backbone', model)
    found = {name: getattr(backbone, name, None) for name in NOTED}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def noted_settings(meta: object) -> dict[str, str]:
    """The note in a checkpoint's ``meta``, empty where it has none."""
    note = meta.get(NOTE) if isinstance(meta, Mapping) else None
    return {name: note[name] for name in NOTED if name in note} if isinstance(note, Mapping) else {}


def check_settings(model: nn.Module, wanted: Mapping[str, Any]) -> None:
    """Refuse weights of a backbone with other settings."""
    backbone = getattr(model, 'backbone', model)
    for name, value in wanted.items():
        found = getattr(backbone, name, value)
        # Without groups no shuffle changes anything.
        if found != value and not (name == 'shuffle' and backbone.groups == 1):
            raise UserError(
                f'these weights were trained with {name}={value!r}, not {found!r}: '
                f'give the backbone {name}={value!r}'
            )


def _show(values: Sequence[float]) -> str:
    shown = [f'{value:g}' for value in values]
    return shown[0] if len(set(shown)) == 1 else f'({", ".join(shown)})'


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
        known = dict(
            markers=row['markers'].split(),
            table=_table(row['theirs'], content['ours'][row['ours']]),
            normalisation=Normalisation(**row['normalisation']),
            networks=_networks(row['networks']),
        )
        others = row.keys() - {'about', 'like', 'theirs', 'ours', *known}
        families.append(Family(**known, **{key: row[key] for key in others}))
    return tuple(families)


FAMILIES = _read()
