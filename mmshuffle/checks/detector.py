"""Checks of a detector config that find what otherwise ends in AP 0 without a word.

Only what is certainly wrong is an error; a part of a detector that is not known here is passed
over.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm

from mmshuffle.backbones import BaseBackbone
from mmshuffle.errors import UserError, last_line

from .dataset import check_checkpoints, check_dataset, class_names, type_name
from .input import check_input
from .problem import Problem

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Necks whose output strides follow from their arguments.
PYRAMIDS = ('FPN', 'PAFPN')


@dataclass(frozen=True)
class Features:
    """Channels and strides of a list of feature maps; None where they are not known."""

    channels: tuple[int, ...] | None
    strides: tuple[int, ...] | None


def check_config(cfg: Config, loaders: Sequence[str] = LOADERS) -> list[Problem]:
    """Check a detector config against itself and against the files that it names.

    Args:
        cfg: The config.
        loaders: Which data loaders to check; training needs all, testing only the last.

    Returns:
        The problems, none if the config is sound.
    """
    model = cfg.get('model')
    if not isinstance(model, Mapping):
        return [Problem('model', 'the config has none; inherit one from a _base_ file')]
    starts_trained = bool(cfg.get('load_from'))
    problems = _guarded('model', lambda: list(check_model(model, starts_trained)))
    problems += check_checkpoints(cfg, training='train_dataloader' in loaders)
    problems += list(check_numbers(cfg))
    checked = []
    for loader in loaders:
        if not isinstance(cfg.get(loader), Mapping):
            continue
        for where, dataset in _datasets(cfg[loader].get('dataset', {}), f'{loader}.dataset'):
            key = [dataset.get(k) for k in ('type', 'data_root', 'ann_file', 'metainfo')]
            if key in checked:
                continue
            checked.append(key)
            problems += _guarded(where, lambda d=dataset, w=where: check_dataset(cfg, d, w))
            problems += _guarded(where, lambda d=dataset: list(_check_class_counts(model, d)))
    return list(dict.fromkeys(problems))


def raise_on(problems: Sequence[Problem]) -> None:
    """Refuse to start a run.

    Raises:
        UserError: One of the problems is fatal; the message has a line for each.
    """
    fatal = [str(problem) for problem in problems if problem.fatal]
    if fatal:
        raise UserError('\n       '.join(fatal))


def check_model(model: Mapping[str, Any], starts_trained: bool = False) -> Iterator[Problem]:
    """Follow channels and strides from the backbone to the heads.

    Args:
        model: A detector's config.
        starts_trained: Whether ``load_from`` fills the whole detector.
    """
    if not isinstance(model.get('backbone'), Mapping):
        return
    backbone = {k: v for k, v in model['backbone'].items() if k != 'init_cfg'}
    try:
        network = MODELS.build({'_scope_': 'mmdet', **backbone})
    except (ValueError, TypeError, KeyError) as error:
        yield Problem('model.backbone', last_line(str(error)))
        return
    if not starts_trained:
        yield from _check_untrained_norm(model['backbone'], network)
        yield from check_input(model)
    features = _observe(network)
    neck = model.get('neck')
    if isinstance(neck, Mapping):
        wanted = neck.get('in_channels')
        known = features.channels and (type_name(neck) in PYRAMIDS or isinstance(wanted, list))
        if known and wanted not in (list(features.channels), tuple(features.channels)):
            yield Problem(
                'model.neck.in_channels',
                f'{wanted}, but the backbone gives {list(features.channels)}: set it to that',
            )
        features = _neck_features(neck, features)
    elif neck:
        features = Features(None, None)
    for name in ('rpn_head', 'bbox_head'):
        if isinstance(model.get(name), Mapping):
            yield from _check_dense_head(model[name], f'model.{name}', features)
    if isinstance(model.get('roi_head'), Mapping):
        yield from _check_roi_head(model['roi_head'], features)


def output_spec(backbone: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of a backbone's outputs: declared, or else observed on a blank image."""
    features = _observe(MODELS.build({'_scope_': 'mmdet', **backbone, 'init_cfg': None}))
    return features.channels, features.strides


def _observe(network: torch.nn.Module) -> Features:
    if isinstance(network, BaseBackbone):
        return Features(network.out_channels, network.out_strides)
    size = 256
    network.eval()  # ResNet's returns nothing
    try:
        with torch.no_grad():
            outputs = network(torch.zeros(1, 3, size, size))
        return Features(
            tuple(output.shape[1] for output in outputs),
            tuple(round(size / output.shape[-1]) for output in outputs),
        )
    except Exception:  # a backbone that takes other inputs, or gives no feature maps
        return Features(None, None)


def _neck_features(neck: Mapping[str, Any], features: Features) -> Features:
    width, levels = neck.get('out_channels'), neck.get('num_outs')
    if type_name(neck) not in PYRAMIDS or not isinstance(levels, int) or not features.strides:
        return Features(None, None)
    end = neck.get('end_level', -1)
    strides = list(features.strides)[neck.get('start_level', 0) :]
    if end not in (-1, len(features.strides) - 1):
        strides = list(features.strides)[neck.get('start_level', 0) : end + 1]
    while len(strides) < levels:
        strides.append(strides[-1] * 2)
    return Features((width,) * len(strides), tuple(strides))


def _check_dense_head(head: Mapping[str, Any], where: str, features: Features) -> Iterator[Problem]:
    wanted = head.get('in_channels')
    if isinstance(wanted, int) and features.channels and set(features.channels) != {wanted}:
        yield Problem(
            f'{where}.in_channels',
            f'{wanted}, but its inputs have {sorted(set(features.channels))} channels: '
            'set it to that',
        )
    settings = [('strides', head.get('strides'))]
    for key in ('anchor_generator', 'prior_generator'):
        if isinstance(head.get(key), Mapping):
            settings.append((f'{key}.strides', head[key].get('strides')))
    for key, given in settings:
        if not isinstance(given, (list, tuple)) or not features.strides:
            continue
        steps = [s[0] if isinstance(s, (list, tuple)) else s for s in given]
        # YOLACT spaces its anchors by fractions of the image.
        if all(isinstance(s, int) for s in steps) and steps != list(features.strides):
            yield Problem(
                f'{where}.{key}',
                f'{list(given)}, but its inputs have strides {list(features.strides)}: '
                'set it to that',
            )


def _check_roi_head(head: Mapping[str, Any], features: Features) -> Iterator[Problem]:
    where = 'model.roi_head'
    width = None
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        for extractor in _as_list(head.get(name)):
            yield from _check_extractor(extractor, f'{where}.{name}', features)
            if name == 'bbox_roi_extractor':
                width = extractor.get('out_channels')
    shared = head.get('shared_head')
    if isinstance(shared, Mapping):
        if type_name(shared) != 'BackboneStageHead' or width is None:
            return
        stage = MODELS.build({'_scope_': 'mmdet', **shared, 'init_cfg': None})
        if stage.in_channels != width:
            yield Problem(
                f'{where}.shared_head',
                f"takes {stage.in_channels} channels, but gets {width}: give it the detector's "
                'backbone, and the stage behind its last output',
            )
        width = stage.out_channels
    for bbox_head in _as_list(head.get('bbox_head')):
        wanted = bbox_head.get('in_channels')
        if isinstance(wanted, int) and width is not None and wanted != width:
            yield Problem(
                f'{where}.bbox_head.in_channels',
                f'{wanted}, but it gets {width} channels: set it to that',
            )


def _check_extractor(
    extractor: Mapping[str, Any], where: str, features: Features
) -> Iterator[Problem]:
    levels, width = extractor.get('featmap_strides'), extractor.get('out_channels')
    if not features.strides or not isinstance(levels, (list, tuple)):
        return
    if list(levels) != list(features.strides[: len(levels)]):
        yield Problem(
            f'{where}.featmap_strides',
            f'{list(levels)}, but its inputs have strides {list(features.strides)}: give the first '
            'of these',
        )
    if isinstance(width, int) and width != features.channels[0]:
        yield Problem(
            f'{where}.out_channels',
            f'{width}, but its inputs have {features.channels[0]} channels: set it to that',
        )


def _check_untrained_norm(
    backbone: Mapping[str, Any], network: torch.nn.Module
) -> Iterator[Problem]:
    """Statistics that are never learned and never loaded make the detector learn nothing."""
    if any('Pretrained' in str(c.get('type')) for c in _as_list(backbone.get('init_cfg'))):
        return
    if not any(isinstance(module, _BatchNorm) for module in network.modules()):
        return
    if backbone.get('norm_eval') or backbone.get('frozen_stages', -1) >= 0:
        yield Problem(
            'model.backbone',
            'norm_eval or frozen_stages without pretrained weights: layers stay at their random '
            'initial values (AP 0); give init_cfg a checkpoint, or drop both',
            fatal=False,
        )


def check_numbers(cfg: Config) -> Iterator[Problem]:
    """Numbers that a slip on the command line turns into text."""
    for where, kinds in (
        ('train_cfg.max_epochs', int),
        ('train_cfg.max_iters', int),
        ('train_dataloader.batch_size', int),
        ('optim_wrapper.optimizer.lr', (int, float)),
    ):
        node: Any = cfg
        for key in where.split('.'):
            node = node.get(key) if isinstance(node, (Config, Mapping)) else None
        if node is not None and (not isinstance(node, kinds) or node <= 0):
            yield Problem(where, f'{node!r}: give a number above 0')


def _check_class_counts(model: Mapping[str, Any], dataset: Mapping[str, Any]) -> Iterator[Problem]:
    classes = class_names(dataset)
    if classes is None:
        return
    roi_head = model.get('roi_head') if isinstance(model.get('roi_head'), Mapping) else {}
    heads = [('model.bbox_head', model.get('bbox_head'))]
    heads += [(f'model.roi_head.{k}', roi_head.get(k)) for k in ('bbox_head', 'mask_head')]
    for where, head in heads:
        for part in _as_list(head):
            number = part.get('num_classes')
            if number is not None and number != len(classes):
                yield Problem(
                    f'{where}.num_classes',
                    f'{number}, but the data set has {len(classes)} classes: set it to that',
                )


def _datasets(dataset: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Unwrap RepeatDataset, ClassBalancedDataset, ConcatDataset and the like."""
    if isinstance(dataset.get('dataset'), Mapping):
        yield from _datasets(dataset['dataset'], f'{where}.dataset')
    elif isinstance(dataset.get('datasets'), (list, tuple)):
        for index, part in enumerate(dataset['datasets']):
            yield from _datasets(part, f'{where}.datasets[{index}]')
    else:
        yield where, dataset


def _guarded(where: str, check: Any) -> list[Problem]:
    """A config that the check does not understand must still run."""
    try:
        return check()
    except Exception as error:
        message = f'not checked ({type(error).__name__}: {last_line(str(error))})'
        return [Problem(where, message, fatal=False)]


def _as_list(cfg: Any) -> list[Mapping[str, Any]]:
    entries = cfg if isinstance(cfg, (list, tuple)) else [cfg]
    return [entry for entry in entries if isinstance(entry, Mapping)]
