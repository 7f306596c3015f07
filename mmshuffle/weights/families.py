"""Which published naming scheme the tensors of a file have, and where in it they are."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import torch
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn

from mmshuffle.errors import UserError

from .family import FAMILIES, Family, Tensors

# What frameworks put in front of a network's names, such as MMDetection and Lightning.
PART = r'(?:module|model|_orig_mod|backbone|net|network|encoder|body|shadow)\.'
USUAL = re.compile(f'(?:{PART})*')


def recognise(
    module: nn.Module, tensors: Tensors, prefix: str | None = None
) -> tuple[Family | None, Tensors]:
    """Find the family of ``tensors`` and rename them for ``module``.

    Args:
        prefix: Name below which the network's tensors are; the others are then dropped. Where None,
            it is found, such as ``backbone.`` or ``module.model.``, and removed.

    Returns:
        The family, None where no published scheme matches or the names are those of ``module``
        already, and the tensors by its names; names without a counterpart are kept.

    Raises:
        UserError: The file has several such networks, or ``module`` other settings than the
            published one.
    """
    below = _below(prefix)
    tensors, _ = _split(tensors, below)
    network = module.backbone if is_classifier(module) else module
    own = module.state_dict().keys()
    needed = {name for name in own if not name.endswith('num_batches_tracked')}
    inner, others = _split(tensors, _own_start(tensors, own))
    # Also names that a family has: MMPretrain's networks run in MMDetection as they are.
    if needed and needed <= inner.keys():
        return None, {**others, **inner}
    family, start = _find(tensors, below)
    if family is None:
        return None, {**others, **inner}
    inner, others = _split(tensors, start)
    state = family.convert(network, {**others, **inner})
    if network is not module:
        state = place_in_classifier(module, state, family.head, family.background)
    return family, state


def is_classifier(module: nn.Module) -> bool:
    """Whether ``module`` is a backbone with a head whose last layer is ``fc``."""
    return hasattr(module, 'backbone') and hasattr(getattr(module, 'head', None), 'fc')


def place_in_classifier(
    classifier: nn.Module,
    tensors: dict[str, Tensor],
    layers: Mapping[str, str],
    background: bool = False,
) -> dict[str, Tensor]:
    """Give a backbone's converted tensors, and its published classifier, a classifier's names.

    Fully connected layers and 1x1 convolutions stand for each other. A layer that was published
    without a bias gets one of zeros where the head has one.

    Args:
        tensors: The backbone's by its own names, the others by published names.
        layers: Published name of a layer to its name in the head.
        background: Whether class 0 of the published classifier is no class of the data set; it is
            dropped unless the head has a place for it.
    """
    backbone, head = classifier.backbone.state_dict(), classifier.head.state_dict()
    result = {}
    for name, value in tensors.items():
        layer, _, leaf = name.rpartition('.')
        ours = f'{layers[layer]}.{leaf}' if layer in layers else None
        if ours is not None and ours in head:
            needed = head[ours].shape
            if background and len(value) == needed[0] + 1:
                value = value[1:]
            result[f'head.{ours}'] = (
                value.reshape(needed) if value.numel() == needed.numel() else value
            )
        else:
            result[f'backbone.{name}' if name in backbone else name] = value
    if 'head.fc.weight' in result and 'fc.bias' in head:
        result.setdefault('head.fc.bias', torch.zeros_like(head['fc.bias']))
    return result


def find_family(names: Collection[str], prefix: str | None = None) -> Family | None:
    """The family of a file's tensors below a prefix, found where None; None if none is known."""
    below = _below(prefix)
    return _find({n.removeprefix(below) for n in names if n.startswith(below)}, below)[0]


def _find(names: Collection[str], below: str) -> tuple[Family | None, str]:
    """The family, and what stands in front of its names, all of which had ``below`` there."""
    for family in FAMILIES:
        for start in _starts(names, family.markers):
            if not family.below or f'.{below}{start}'.endswith(f'.{family.below}'):
                return family, start
    return None, ''


def _below(prefix: str | None) -> str:
    return '' if not prefix else prefix.rstrip('.') + '.'


def hints(module: nn.Module, family: Family) -> Iterator[str]:
    """Say in which settings, that no tensor shows, ``module`` differs from the published one."""
    norms = (layer.eps for layer in module.modules() if isinstance(layer, _BatchNorm))
    for eps in {eps for eps in norms if eps != family.eps}:
        yield (
            f'trained with BatchNorm eps {family.eps:g}, not {eps:g}: '
            f"give norm_cfg=dict(type='BN', eps={family.eps:g})"
        )
    wanted = dict(family.act_cfg)
    for activate in filter(None, (getattr(m, 'activate', None) for m in module.modules())):
        given = {name: getattr(activate, name, None) for name in wanted}
        given['type'] = type(activate).__name__
        if given != wanted:
            arguments = ', '.join(f'{name}={value!r}' for name, value in wanted.items())
            alike = given['type'] == wanted['type']
            yield (
                f'trained with {wanted if alike else wanted["type"]}, not '
                f'{given if alike else given["type"]}: give act_cfg=dict({arguments})'
            )
            break


def _starts(names: Collection[str], markers: Collection[str]) -> list[str]:
    """What stands in front of markers that are all there; the usual alone, if there is any."""
    marker = min(markers)
    ends = {name.removesuffix(marker) for name in names if name.endswith(marker)}
    starts = [
        start
        for start in sorted(ends, key=lambda start: (len(start), start))
        if (not start or start[-1] in './') and all(start + other in names for other in markers)
    ]
    usual = [start for start in starts if USUAL.fullmatch(start)]
    if not usual and len(starts) > 1:
        raise UserError(
            f'the file has these weights below {" and ".join(starts)}: give one of them as prefix'
        )
    return usual or starts


def _own_start(names: Collection[str], own: Collection[str]) -> str:
    """What usual prefix stands in front of most of a network's own names."""
    counts = Counter({'': 0})
    for name in names:
        ends = [0, *(found.end() for found in re.finditer(PART, USUAL.match(name)[0]))]
        counts.update(name[:end] for end in ends if name[end:] in own)
    return max(counts, key=lambda start: (counts[start], -len(start)))


def _split(tensors: Tensors, prefix: str) -> tuple[Tensors, Tensors]:
    """Part tensors into those below ``prefix``, without it, and the others."""
    inner = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    return inner, {n: t for n, t in tensors.items() if not n.startswith(prefix)}
