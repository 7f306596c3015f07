"""Checks that a dense head and its feature maps agree on the strides and the number of levels."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from mmshuffle.data.finetune import defaults

from .dataset_config import type_name
from .parts import Features
from .problem import Problem, mismatch

GENERATORS = (
    'anchor_generator',
    'prior_generator',
    'approx_anchor_generator',
    'square_anchor_generator',
)
STRIDES = ('strides', 'point_strides', 'featmap_strides')
# The upper bound of FCOS's last range.
INFINITY = 1e8


def check_levels(
    head: Mapping[str, Any], where: str, features: Features, module: nn.Module
) -> Iterator[Problem]:
    """Compare what a head says about each level with its feature maps.

    MMDetection pairs levels with ``zip``: with too many of either the rest is left out in silence.
    """
    widths = head.get('in_channels')
    if isinstance(widths, (list, tuple)) and len(widths) != len(features.maps):
        truth = f'its inputs have {features.channels} channels'
        advice = type(widths)(features.channels)
        yield mismatch(f'{where}.in_channels', list(widths), truth, advice)
    for key, steps, beside in _strides(head, module):
        if not _agree(steps, features, exact='SSD' not in type_name(beside)):
            more = _lists_beside(beside, len(steps), len(features.maps))
            truth = 'its inputs have other strides'
            yield mismatch(f'{where}.{key}', steps, truth, f'{features.strides}{more}')
    ranges = getattr(module, 'regress_ranges', None)
    if isinstance(ranges, (list, tuple)) and len(ranges) != len(features.maps):
        bounds = [-1, *(8 * step for step in features.strides[:-1]), INFINITY]
        advice = tuple(itertools.pairwise(bounds))
        message = f'{len(ranges)} ranges for {len(features.maps)} feature maps: set it to {advice}'
        yield Problem(f'{where}.regress_ranges', message)


def _lists_beside(generator: Mapping[str, Any], given: int, wanted: int) -> str:
    """Name the other settings of an anchor generator that have an entry for each level."""
    names = [
        name
        for name, value in generator.items()
        if name != 'strides' and isinstance(value, (list, tuple)) and len(value) == given
    ]
    return f', with as many entries in {", ".join(names)}' if names and given != wanted else ''


def _strides(
    head: Mapping[str, Any], module: nn.Module
) -> list[tuple[str, list, Mapping[str, Any]]]:
    """The strides that a head's config gives, or else those that it has by default."""
    found = [
        (f'{key}.strides', _steps(head[key].get('strides')), head[key])
        for key in GENERATORS
        if isinstance(head.get(key), Mapping)
    ]
    found += [(key, _steps(head[key]), {}) for key in STRIDES if key in head]
    used = _steps(getattr(getattr(module, 'prior_generator', None), 'strides', None))
    if used and used not in [steps for _, steps, _ in found]:
        found += [(key, used, {}) for key in _defaults(module, used)][:1]
    return [(key, steps, beside) for key, steps, beside in found if steps]


def _defaults(module: nn.Module, used: list) -> Iterator[str]:
    """The arguments whose default gives a head the strides that it uses."""
    for name, default in defaults(type(module)):
        if name in GENERATORS and isinstance(default, Mapping):
            name, default = f'{name}.strides', default.get('strides')
        if name.rpartition('.')[2] in STRIDES and _steps(default) == used:
            yield name


def _steps(given: Any) -> list:
    """Strides as numbers, of pairs the first; nothing where they are no list of numbers."""
    if not isinstance(given, (list, tuple)):
        return []
    steps = [step[0] if isinstance(step, (list, tuple)) and step else step for step in given]
    return steps if all(isinstance(step, (int, float)) for step in steps) else []


def _agree(steps: list, features: Features, exact: bool) -> bool:
    if exact and all(isinstance(step, int) for step in steps):
        return steps == features.strides
    # SSD's small maps are rounded, and YOLACT spaces its anchors by fractions of the image.
    return len(steps) == len(features.maps) and all(
        abs(step * m.shape[-1] - features.size) < step
        for step, m in zip(steps, features.maps, strict=True)
    )
