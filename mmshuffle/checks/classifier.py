"""Checks that the parts and the data sets of a classifier fit each other."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config

from mmshuffle.errors import UserError, one_line

from .dataset_config import type_name, unwrapped
from .parts import fit, observe, unbuildable
from .problem import Problem, mismatch
from .weights import check_input

IMAGE_SIZE = 224


def is_classifier_config(cfg: Config) -> bool:
    """Whether a config is of an :class:`ImageClassifier`."""
    return isinstance(cfg.get('model'), Mapping) and type_name(cfg.model) == 'ImageClassifier'


def check_classifier_model(
    model: Mapping[str, Any], starts_trained: bool = False
) -> Iterator[Problem]:
    """Compare the channels of backbone and head, and the input with that of the weights."""
    missing = [part for part in ('backbone', 'head') if not isinstance(model.get(part), Mapping)]
    if missing:
        yield Problem('model', f'an ImageClassifier needs {" and ".join(missing)}: give both')
        return
    trial, features = observe(model['backbone'], IMAGE_SIZE)
    if trial.module is None:
        yield unbuildable('model.backbone', model['backbone'], trial)
    if not starts_trained:
        yield from check_input(model)
    if features is None:
        return
    width = features.channels[-1]
    trial = fit(model['head'], features.maps, [dict(in_channels=width)])
    if trial.fix:
        truth = f"the backbone's last output has {width} channels"
        yield mismatch('model.head.in_channels', model['head'].get('in_channels'), truth, width)
    elif trial.error:
        yield unbuildable('model.head', model['head'], trial)


def check_image_folders(cfg: Config, loaders: Sequence[str], found: list) -> Iterator[Problem]:
    """Find the classes of each data set and compare them with each other and with the head.

    Loader, place, config and data set of each are appended to ``found``.
    """
    number = cfg.model.head.get('num_classes')
    known: tuple[str, tuple[str, ...]] | None = None
    checked: list[Mapping[str, Any]] = []
    for loader, where, dataset in ((n, *entry) for n in loaders for entry in unwrapped(cfg, n)):
        files = {k: v for k, v in dataset.items() if k not in ('pipeline', 'test_mode')}
        if type_name(dataset) != 'ImageFolder' or files in checked:
            continue
        checked.append(files)
        try:
            built = DATASETS.build({'_scope_': 'mmdet', **files, 'lazy_init': True})
            classes, labels = built.find_classes()
        except (UserError, TypeError, KeyError, ValueError) as error:
            yield Problem(where, one_line(error))
            continue
        found.append((loader, where, dataset, built))
        highest = max(labels)
        if highest == number and 0 not in labels:
            message = f'its labels are from {min(labels)} to {highest}: count them from 0'
            yield Problem(where, message)
        elif isinstance(number, int) and (
            highest >= number or (classes and len(classes) != number)
        ):
            has = len(classes) if classes else f'labels up to {highest}, so at least {highest + 1}'
            truth = f'{where} has {has} classes'
            yield mismatch('model.head.num_classes', number, truth, 'that')
        if classes and known and classes != known[1]:
            different = ', '.join(sorted(set(classes) ^ set(known[1]))[:3] or ['their order'])
            message = f'its classes are not those of {known[0]} (such as {different})'
            fix = 'give both data sets the same class folders, or classes'
            yield Problem(where, f'{message}: {fix}')
        known = known or (classes and (where, classes)) or None
