"""Everything that can be told to be wrong with a config before a run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mmshuffle.errors import one_line

from .classes import check_class_counts
from .classifier import check_classifier_model, check_image_folders, is_classifier_config
from .dataset import check_checkpoints, check_dataset
from .detector import check_model
from .problem import Problem

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Numbers that a slip on the command line turns into text.
NUMBERS = {
    'train_cfg.max_epochs': int,
    'train_cfg.max_iters': int,
    'train_dataloader.batch_size': int,
    'optim_wrapper.optimizer.lr': (int, float),
}


def check_config(cfg: Config, loaders: Sequence[str] = LOADERS) -> list[Problem]:
    """Check the config of a detector or classifier against itself and the files that it names.

    Args:
        cfg: The config; the modules that it names must have been imported.
        loaders: Which data loaders to check; training needs all, testing only the last.

    Returns:
        The problems, none if the config is sound.
    """
    model = cfg.get('model')
    if not isinstance(model, Mapping):
        return [Problem('model', 'the config has none; inherit one from a _base_ file')]
    classifier = is_classifier_config(cfg)
    starts_trained = bool(cfg.get('load_from'))
    problems = _guarded(
        'model',
        lambda: (
            check_classifier_model(model, starts_trained)
            if classifier
            else check_model(model, starts_trained)
        ),
    )
    problems += check_checkpoints(cfg, training='train_dataloader' in loaders)
    problems += _check_numbers(cfg)
    if classifier:
        problems += _guarded('model.head', lambda: check_image_folders(cfg, loaders))
    else:
        problems += _check_datasets(cfg, loaders)
    return list(dict.fromkeys(problems))


def _check_numbers(cfg: Config) -> Iterator[Problem]:
    for where, kinds in NUMBERS.items():
        node: Any = cfg
        for key in where.split('.'):
            node = node.get(key) if isinstance(node, (Config, Mapping)) else None
        if node is not None and (not isinstance(node, kinds) or node <= 0):
            yield Problem(where, f'{node!r}: give a number above 0')


def _check_datasets(cfg: Config, loaders: Sequence[str]) -> Iterator[Problem]:
    """Check each data set of a detector once."""
    checked = []
    for loader in loaders:
        if not isinstance(cfg.get(loader), Mapping):
            continue
        for where, dataset in datasets_of(cfg[loader].get('dataset', {}), f'{loader}.dataset'):
            key = [dataset.get(k) for k in ('type', 'data_root', 'ann_file', 'metainfo')]
            if key in checked:
                continue
            checked.append(key)
            yield from _guarded(where, lambda d=dataset, w=where: check_dataset(cfg, d, w))
            yield from _guarded(where, lambda d=dataset: check_class_counts(cfg.model, d))


def datasets_of(dataset: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Unwrap RepeatDataset, ClassBalancedDataset, ConcatDataset and the like."""
    if isinstance(dataset.get('dataset'), Mapping):
        yield from datasets_of(dataset['dataset'], f'{where}.dataset')
    elif isinstance(dataset.get('datasets'), (list, tuple)):
        for index, part in enumerate(dataset['datasets']):
            yield from datasets_of(part, f'{where}.datasets[{index}]')
    else:
        yield where, dataset


def _guarded(where: str, check: Callable[[], Any]) -> list[Problem]:
    """A config that the check does not understand must still run."""
    try:
        return list(check())
    except Exception as error:
        message = f'not checked ({type(error).__name__}: {one_line(error)})'
        return [Problem(where, message, fatal=False)]
