"""Checks that the parts of a detector fit each other, which otherwise may end in AP 0.

The parts are run on blank images one after another, as the detector does, so that what fits is told
by the parts themselves. Only what is certainly wrong is an error, and a setting is advised only
where the part runs with it; a part that takes more than feature maps is passed over.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from .dataset_config import type_name
from .levels import check_levels
from .parts import Features, Trial, fit, observe, unbuildable
from .problem import Problem, mismatch, placed
from .roi import check_roi_head
from .weights import check_input, check_untrained_norm

# Large enough for seven levels.
IMAGE_SIZE = 256
SSD_SIZES = (320, 300, 512, 640)


def check_model(
    model: Mapping[str, Any], starts_trained: bool = False, where: str = 'model'
) -> list[Problem]:
    """Follow feature maps from the backbone to the heads.

    What is wrong is told at the size of image for which the least is.
    """
    found = []
    for size in _image_sizes(model):
        found.append(list(_check_at(model, size, starts_trained, where)))
        if not any(problem.fatal for problem in found[-1]):
            return found[-1]
    return min(found, key=lambda problems: sum(problem.fatal for problem in problems))


def _check_at(
    model: Mapping[str, Any], size: int, starts_trained: bool, where: str
) -> Iterator[Problem]:
    if isinstance(model.get('detector'), Mapping):  # of semi-supervised training or tracking
        yield from check_model(model['detector'], starts_trained, f'{where}.detector')
    backbone = model.get('backbone')
    if not isinstance(backbone, Mapping) or 'type' not in backbone:
        return
    trial, features = observe(backbone, size)
    if trial.module is None:
        yield unbuildable(f'{where}.backbone', backbone, trial)
        return
    if not starts_trained:
        yield from check_untrained_norm(backbone, trial.module, f'{where}.backbone')
        yield from check_input(model, where)
    if features is None:
        return
    if model.get('neck'):
        features = yield from _check_neck(model, where, features, trial.module)
    if features is None:
        return
    for name in ('rpn_head', 'bbox_head', 'mask_head', 'semantic_head'):
        yield from _check_dense_head(model, name, where, features)
    if isinstance(model.get('roi_head'), Mapping):
        yield from check_roi_head(model['roi_head'], f'{where}.roi_head', features, starts_trained)
    yield from _check_transformer(model, where, features)


def _image_sizes(model: Mapping[str, Any]) -> tuple[int, ...]:
    """Sizes of image that a detector may be meant for: SSD's strides hold for one only."""
    head = model.get('bbox_head')
    generator = head.get('anchor_generator') if isinstance(head, Mapping) else None
    if not isinstance(generator, Mapping) or 'SSD' not in type_name(generator):
        return (IMAGE_SIZE,)
    size = generator.get('input_size')
    return (size,) if isinstance(size, int) else SSD_SIZES


def _check_neck(
    model: Mapping[str, Any], where: str, features: Features, network: nn.Module
) -> Iterator[Problem]:
    """Yield what is wrong; return the neck's outputs, None where they are not known."""
    for index, (place, part) in enumerate(placed(model['neck'], f'{where}.neck')):
        trial = fit(part, features.maps, _width_fixes(part, features))
        if trial.error:
            source = f'part {index - 1} of the neck' if index else 'the backbone'
            other = '' if index else _other_outputs(part.get('in_channels'), features, network)
            yield _misfit(place, part, source, features, trial, other)
        features = Features.of(trial.outputs, features.size)
        if features is None:
            return None
    return features


def _check_dense_head(
    model: Mapping[str, Any], name: str, where: str, features: Features
) -> Iterator[Problem]:
    """Check a head that takes all feature maps."""
    head, place = model.get(name), f'{where}.{name}'
    if not isinstance(head, Mapping):
        return
    fixes = _width_fixes(head, features)
    trial = fit(_as_built(head, name, model), features.maps, fixes)
    if trial.module is None:
        plain = fit(head, features.maps, fixes)  # as a detector of another package may build it
        trial = trial if plain.module is None else plain
    if trial.error:
        source = 'the neck' if model.get('neck') else 'the backbone'
        yield _misfit(place, head, source, features, trial)
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    if isinstance(trial.module, BaseDenseHead):
        reads = getattr(trial.module, 'reads', slice(None))  # the maps that it takes, if not all
        maps = Features(features.maps[reads], features.size)
        yield from check_levels(head, place, maps, trial.module)
        # Of Cascade RPN, which does not run on feature maps alone.
        width, several = features.channels[0], len(set(features.channels)) > 1
        stages = placed(head.get('stages'), f'{place}.stages')
        for (at, stage), module in zip(stages, trial.module.stages if stages else ()):
            if stage.get('in_channels') != width and not several:
                truth = f'it gets {width} channels'
                yield mismatch(f'{at}.in_channels', stage.get('in_channels'), truth, width)
            yield from check_levels(stage, at, features, module)
            width = module.feat_channels if module.bridged_feature else width


def _as_built(head: Mapping[str, Any], name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """A head's config with what MMDetection's detectors add."""
    added = {key: model.get(key) for key in ('train_cfg', 'test_cfg')}
    if name == 'rpn_head':
        added = {key: (value or {}).get('rpn') for key, value in added.items()}
        added['num_classes'] = head.get('num_classes', 1)
    return {**head, **added}


def _check_transformer(
    model: Mapping[str, Any], where: str, features: Features
) -> Iterator[Problem]:
    """Check what DETR and its relatives, and MaskFormer and its, say about feature maps."""
    levels, neck = model.get('num_feature_levels'), model.get('neck')
    if isinstance(levels, int) and levels != len(features.maps) and isinstance(neck, Mapping):
        given = f'{neck.get("num_outs")}, which gives {len(features.maps)} feature maps'
        truth = f'num_feature_levels is {levels}'
        yield mismatch(f'{where}.neck.num_outs', given, truth, levels)
    node: Any = model
    for key in ('encoder', 'layer_cfg', 'self_attn_cfg', 'embed_dims'):
        node = node.get(key) if isinstance(node, Mapping) else None
    if isinstance(node, int) and neck and set(features.channels) != {node}:
        truth = f'the encoder has embed_dims={node}'
        yield mismatch(f'{where}.neck.out_channels', _widths(features), truth, node)
    head = model.get('panoptic_head')
    wanted = head.get('in_channels') if isinstance(head, Mapping) else None
    if isinstance(wanted, (list, tuple)) and list(wanted) != features.channels:
        truth = f'its inputs have {features.channels} channels'
        place = f'{where}.panoptic_head.in_channels'
        yield mismatch(place, list(wanted), truth, features.channels)


def _width_fixes(part: Mapping[str, Any], features: Features) -> list[dict[str, Any]]:
    """Settings of ``in_channels`` that a part may need, the likeliest first."""
    given, channels = part.get('in_channels'), features.channels
    kind = tuple if isinstance(given, tuple) else list
    fixes = []
    out = part.get('out_channels')
    both = all(isinstance(value, (list, tuple)) for value in (given, out))
    if both and len(out) > len(given):  # SSDNeck's outputs begin with its inputs
        added = kind(out[len(given) :])
        fixes.append(dict(in_channels=kind(channels), out_channels=kind(channels) + added))
    several = [dict(in_channels=kind(channels)), dict(in_channels=kind(channels[::-1]))]
    single = [dict(in_channels=channels[-1])]
    fixes += [*single, *several] if isinstance(given, int) else [*several, *single]
    return fixes


def _misfit(
    where: str,
    part: Mapping[str, Any],
    source: str,
    features: Features,
    trial: Trial,
    other: str = '',
) -> Problem:
    if trial.fix is None and trial.module is None:
        return unbuildable(where, part, trial)
    maps = f'{_widths(features)} channels at strides {features.strides}'
    if trial.fix is None:
        message = f"{type_name(part)} does not take {source}'s outputs, {maps}: {trial.error}"
        return Problem(where, message)
    key = next(iter(trial.fix))
    given = part.get(key, 'not given')
    values = ', '.join(f'{name}={value}' for name, value in trial.fix.items())
    advice = values if len(trial.fix) > 1 else f'it to {trial.fix[key]}'
    return Problem(
        f'{where}.{key}',
        f'{given}, but {source} gives {_widths(features)} channels: set {advice}{other}',
    )


def _widths(features: Features) -> int | list[int]:
    """Channels of the maps, once where all are the same."""
    return features.channels[0] if len(set(features.channels)) == 1 else features.channels


def _other_outputs(wanted: Any, features: Features, network: nn.Module) -> str:
    """Name the outputs of the backbone that a neck was written for, if it has them."""
    indices = getattr(network, 'out_indices', None)
    lists = all(isinstance(given, (list, tuple)) for given in (wanted, indices))
    if not lists or len(indices) != len(features.channels):
        return ''
    chosen = tuple(i for i, width in zip(indices, features.channels) if width in wanted)
    found = len(chosen) == len(wanted) < len(indices)
    return f', or out_indices={chosen} of the backbone' if found else ''
