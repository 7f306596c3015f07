"""Checks of a detector config that find what otherwise ends in AP 0 without a word."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config

from mmshuffle.backbones import BaseBackbone
from mmshuffle.data.coco_check import (
    check_annotations,
    check_classes,
    missing_images,
    read_annotations,
)
from mmshuffle.errors import UserError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        where: The setting, as a path in the config.
        message: What is wrong and how to mend it, in one line.
        fatal: Whether the run must not start.
    """

    where: str
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        return f'{self.where}: {self.message}'


def check_config(cfg: Config, loaders: Sequence[str] = LOADERS) -> list[Problem]:
    """Check a detector config against itself and against the files that it names.

    Args:
        cfg: The config.
        loaders: Which data loaders to check; training needs all, testing only the last.

    Returns:
        The problems, none if the config is sound.
    """
    problems = list(check_model(cfg.model))
    training = 'train_dataloader' in loaders
    problems += check_checkpoints(cfg, training)
    seen: dict[str, Any] = {}
    for loader in loaders:
        if cfg.get(loader) is None:
            continue
        for where, dataset in _datasets(cfg[loader].dataset, f'{loader}.dataset'):
            key = repr((dataset.get('ann_file'), dataset.get('data_root'), dataset.get('metainfo')))
            if key not in seen:
                seen[key] = True
                problems += check_dataset(cfg, dataset, where)
    return problems


def check_model(model: Mapping[str, Any]) -> Iterator[Problem]:
    """Follow channels and strides from the backbone to the heads."""
    if 'backbone' not in model:
        return
    try:
        channels, strides = output_spec(model['backbone'])
    except (ValueError, TypeError, KeyError) as error:
        yield Problem('model.backbone', _last_line(error))
        return
    yield from _check_untrained_norm(model['backbone'])
    neck = model.get('neck')
    if neck and neck['type'] == 'FPN':
        expected = list(neck['in_channels'])
        if expected != list(channels):
            yield Problem(
                'model.neck.in_channels',
                f'{expected}, but the backbone gives {list(channels)}: set it to that',
            )
        channels, strides = _fpn_spec(neck, strides)
    elif neck:
        return
    yield from _check_dense_head(model, 'rpn_head', channels, strides)
    yield from _check_dense_head(model, 'bbox_head', channels, strides)
    if model.get('roi_head'):
        yield from _check_roi_head(model['roi_head'], channels, strides)


def output_spec(backbone: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of a backbone's outputs: declared, or else observed on a blank image."""
    network = MODELS.build({**backbone, 'init_cfg': None, '_scope_': 'mmdet'})
    if isinstance(network, BaseBackbone):
        return network.out_channels, network.out_strides
    size = 256
    with torch.no_grad():
        network.eval()  # ResNet's returns nothing
        outputs = network(torch.zeros(1, 3, size, size))
    return (
        tuple(output.shape[1] for output in outputs),
        tuple(size // output.shape[-1] for output in outputs),
    )


def check_checkpoints(cfg: Config, training: bool) -> list[Problem]:
    """Look for the local checkpoint files that a run starts from."""
    found = [('load_from', cfg.get('load_from'))]
    if training and not cfg.get('load_from'):
        found += _pretrained(cfg.model, 'model')
    return [
        Problem(where, f'checkpoint {path} does not exist; mend the path, or set it to None')
        for where, path in found
        if path and not urlparse(path).scheme and not Path(path).expanduser().is_file()
    ]


def check_dataset(cfg: Config, dataset: Mapping[str, Any], where: str) -> list[Problem]:
    """Check folders, annotation file, boxes, class names and their number."""
    root = Path(dataset.get('data_root') or '')
    if dataset.get('data_root') and not root.is_dir():
        return [Problem(f'{where}.data_root', f'folder {root} does not exist; mend the path')]
    ann_file = dataset.get('ann_file')
    if not ann_file or not str(ann_file).endswith('.json'):
        return []
    try:
        content = read_annotations(root / ann_file)
    except UserError as error:
        return [Problem(f'{where}.ann_file', str(error))]
    classes = class_names(dataset)
    messages = check_annotations(content, bool(cfg.get('allow_empty_boxes', False)))
    messages += missing_images(content, root / dataset.get('data_prefix', {}).get('img', ''))
    problems = [Problem(f'{where} ({root / ann_file})', message) for message in messages]
    if classes:
        problems += [Problem(f'{where}.metainfo', m) for m in check_classes(content, classes)]
        problems += [
            Problem(
                setting,
                f'{number}, but the data set has {len(classes)} classes: set it to that',
            )
            for setting, number in _class_counts(cfg.model, 'model')
            if number != len(classes)
        ]
    return problems


def class_names(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes that a data set config stands for; none where they cannot be told."""
    given = (dataset.get('metainfo') or {}).get('classes')
    if given:
        return (given,) if isinstance(given, str) else tuple(given)
    kind = DATASETS.get(f'mmdet.{dataset["type"]}') or DATASETS.get(dataset['type'])
    return tuple((getattr(kind, 'METAINFO', None) or {}).get('classes', ()))


def raise_on(problems: Sequence[Problem]) -> None:
    """Refuse to start a run.

    Raises:
        UserError: One of the problems is fatal; the message has a line for each.
    """
    fatal = [str(problem) for problem in problems if problem.fatal]
    if fatal:
        raise UserError('\n       '.join(fatal))


def _fpn_spec(
    neck: Mapping[str, Any], strides: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    end = neck.get('end_level', -1)
    levels = list(strides[neck.get('start_level', 0) : None if end == -1 else end + 1])
    while len(levels) < neck['num_outs']:
        levels.append(levels[-1] * 2)
    return (neck['out_channels'],) * len(levels), tuple(levels)


def _check_dense_head(
    model: Mapping[str, Any], name: str, channels: Sequence[int], strides: Sequence[int]
) -> Iterator[Problem]:
    head = model.get(name)
    if not isinstance(head, Mapping):
        return
    where = f'model.{name}'
    wanted = head.get('in_channels')
    if isinstance(wanted, int) and set(channels) != {wanted}:
        yield Problem(
            f'{where}.in_channels',
            f'{wanted}, but its inputs have {sorted(set(channels))} channels: set it to that',
        )
    for key in ('anchor_generator', 'prior_generator'):
        generator = head.get(key)
        if generator is None or 'strides' not in generator:
            continue
        given = [s[0] if isinstance(s, Sequence) else s for s in generator['strides']]
        if given != list(strides):
            yield Problem(
                f'{where}.{key}.strides',
                f'{given}, but its inputs have strides {list(strides)}: set it to that',
            )


def _check_roi_head(
    head: Mapping[str, Any], channels: Sequence[int], strides: Sequence[int]
) -> Iterator[Problem]:
    extractor = head.get('bbox_roi_extractor')
    if not isinstance(extractor, Mapping) or not isinstance(head.get('bbox_head'), Mapping):
        return
    where = 'model.roi_head'
    levels = list(extractor['featmap_strides'])
    if levels != list(strides[: len(levels)]):
        yield Problem(
            f'{where}.bbox_roi_extractor.featmap_strides',
            f'{levels}, but its inputs have strides {list(strides)}: give the first of these',
        )
    width = extractor['out_channels']
    if width != channels[0]:
        yield Problem(
            f'{where}.bbox_roi_extractor.out_channels',
            f'{width}, but its inputs have {channels[0]} channels: set it to that',
        )
    shared = head.get('shared_head')
    if isinstance(shared, Mapping) and shared['type'] == 'BackboneStageHead':
        stage = MODELS.build({**shared, 'init_cfg': None, '_scope_': 'mmdet'})
        if stage.in_channels != width:
            yield Problem(
                f'{where}.shared_head',
                f"takes {stage.in_channels} channels, but gets {width}: give it the detector's "
                'backbone, and the stage behind its last output',
            )
        width = stage.out_channels
    elif shared:
        return
    wanted = head['bbox_head'].get('in_channels')
    if wanted is not None and wanted != width:
        yield Problem(
            f'{where}.bbox_head.in_channels',
            f'{wanted}, but it gets {width} channels: set it to that',
        )


def _check_untrained_norm(backbone: Mapping[str, Any]) -> Iterator[Problem]:
    """Statistics that are never learned and never loaded make the detector learn nothing."""
    if any('Pretrained' in str(cfg.get('type')) for cfg in _as_list(backbone.get('init_cfg'))):
        return
    if backbone.get('norm_eval') or backbone.get('frozen_stages', -1) >= 0:
        yield Problem(
            'model.backbone',
            'norm_eval or frozen_stages without pretrained weights: layers stay at their random '
            'initial values (AP 0); give init_cfg a checkpoint, or drop both',
            fatal=False,
        )


def _datasets(dataset: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Unwrap RepeatDataset, ClassBalancedDataset, ConcatDataset and the like."""
    if 'dataset' in dataset:
        yield from _datasets(dataset['dataset'], f'{where}.dataset')
    elif 'datasets' in dataset:
        for index, part in enumerate(dataset['datasets']):
            yield from _datasets(part, f'{where}.datasets[{index}]')
    else:
        yield where, dataset


def _class_counts(node: Any, where: str) -> Iterator[tuple[str, int]]:
    """Every num_classes of a model, but the RPN's, which has one class of its own."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == 'num_classes' and isinstance(value, int):
                yield f'{where}.{key}', value
            elif key not in ('rpn_head', 'backbone'):
                yield from _class_counts(value, f'{where}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _class_counts(value, f'{where}[{index}]')


def _pretrained(node: Any, where: str) -> list[tuple[str, str]]:
    """Every checkpoint of an ``init_cfg`` in a model."""
    found = []
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == 'init_cfg':
                found += [
                    (f'{where}.init_cfg.checkpoint', cfg['checkpoint'])
                    for cfg in _as_list(value)
                    if cfg.get('checkpoint')
                ]
            else:
                found += _pretrained(value, f'{where}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            found += _pretrained(value, f'{where}[{index}]')
    return found


def _as_list(cfg: Any) -> list:
    return cfg if isinstance(cfg, list) else [cfg] if cfg else []


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
