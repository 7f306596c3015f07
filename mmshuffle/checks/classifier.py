"""Checks of a classifier's config that find what would fail late, or train on nothing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config

from mmshuffle.backbones import BaseBackbone
from mmshuffle.errors import UserError, one_line

from .dataset import check_checkpoints, type_name
from .detector import LOADERS, check_numbers
from .input import check_input
from .problem import Problem


def is_classifier_config(cfg: Config) -> bool:
    """Whether a config is of an :class:`ImageClassifier`."""
    return isinstance(cfg.get('model'), Mapping) and type_name(cfg.model) == 'ImageClassifier'


def check_classifier(cfg: Config, loaders: Sequence[str] = LOADERS) -> list[Problem]:
    """Check a classifier's config against itself and against the files that it names.

    Args:
        cfg: The config.
        loaders: Which data loaders to check; training needs all, testing only the last.

    Returns:
        The problems, none if the config is sound.
    """
    missing = [
        part for part in ('backbone', 'head') if not isinstance(cfg.model.get(part), Mapping)
    ]
    if missing:
        return [Problem('model', f'an ImageClassifier needs {" and ".join(missing)}: give both')]
    problems = list(check_classifier_model(cfg.model))
    problems += check_checkpoints(cfg, training='train_dataloader' in loaders)
    problems += check_numbers(cfg)
    problems += check_input(cfg.model)
    problems += _check_datasets(cfg, loaders)
    return problems


def check_classifier_model(model: Mapping[str, Any]) -> Iterator[Problem]:
    """Compare the channels of backbone and head."""
    backbone = {**model['backbone'], 'init_cfg': None}
    try:
        network = MODELS.build({'_scope_': 'mmdet', **backbone})
        MODELS.build({'_scope_': 'mmdet', **model['head']})
    except (ValueError, TypeError, KeyError) as error:
        yield Problem('model', one_line(error))
        return
    if isinstance(network, BaseBackbone):
        channels = network.out_channels[-1]
    else:
        network.eval()
        with torch.no_grad():
            channels = network(torch.zeros(1, 3, 64, 64))[-1].shape[1]
    wanted = model['head'].get('in_channels')
    if wanted != channels:
        yield Problem(
            'model.head.in_channels',
            f"{wanted}, but the backbone's last output has {channels}: set it to that",
        )


def _check_datasets(cfg: Config, loaders: Sequence[str]) -> Iterator[Problem]:
    """Find the classes of each data set and compare them with each other and with the head."""
    number = cfg.model.head.get('num_classes')
    known: tuple[str, tuple[str, ...]] | None = None
    checked: list[Mapping[str, Any]] = []
    for loader in loaders:
        dataset = cfg.get(loader, {}).get('dataset')
        if not isinstance(dataset, Mapping) or type_name(dataset) != 'ImageFolder':
            continue
        where = f'{loader}.dataset'
        files = {k: v for k, v in dataset.items() if k not in ('pipeline', 'test_mode')}
        if files in checked:
            continue
        checked.append(files)
        try:
            built = DATASETS.build({'_scope_': 'mmdet', **files, 'lazy_init': True})
            classes, labels = built.find_classes()
        except (UserError, TypeError, KeyError, ValueError) as error:
            yield Problem(where, one_line(error))
            continue
        highest = max(labels)
        if highest == number and 0 not in labels:
            yield Problem(
                where, f'its labels are from {min(labels)} to {highest}: count them from 0'
            )
        elif isinstance(number, int) and (
            highest >= number or (classes and len(classes) != number)
        ):
            found = (
                len(classes) if classes else f'labels up to {highest}, so at least {highest + 1}'
            )
            yield Problem(
                'model.head.num_classes',
                f'{number}, but {where} has {found} classes: set it to that',
            )
        if classes and known and classes != known[1]:
            different = sorted(set(classes) ^ set(known[1]))[:3] or ['their order']
            yield Problem(
                where,
                f'its classes are not those of {known[0]} (such as {", ".join(different)}): give '
                'both data sets the same class folders, or classes',
            )
        known = known or (classes and (where, classes)) or None
