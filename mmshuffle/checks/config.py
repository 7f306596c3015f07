"""Everything that can be told to be wrong with a config before a run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config

from mmshuffle.data.finetune import class_of, class_settings

from .classifier import check_classifier_model, check_image_folders, is_classifier_config
from .dataset import check_datasets
from .dataset_config import LOADERS, class_names, unwrapped
from .detector import check_model
from .loaders import check_loader
from .problem import Problem, guarded, mismatch
from .weights import check_checkpoints

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
    """
    model = cfg.get('model')
    if not isinstance(model, Mapping):
        return [Problem('model', 'the config has none; inherit one from a _base_ file')]
    classifier = is_classifier_config(cfg)
    starts_trained = bool(cfg.get('load_from'))
    check = check_classifier_model if classifier else check_model
    problems = guarded('model', check, model, starts_trained)
    problems += check_checkpoints(cfg, training='train_dataloader' in loaders)
    problems += _check_numbers(cfg)
    if classifier:
        for loader in loaders:
            problems += guarded(loader, check_loader, cfg, loader)
        problems += guarded('model.head', check_image_folders, cfg, loaders, [])
    else:
        problems += check_datasets(cfg, loaders)
        for loader in loaders:
            for where, dataset in unwrapped(cfg, loader):
                problems += guarded(where, check_class_counts, model, dataset)
    return list(dict.fromkeys(problems))


def check_class_counts(model: Mapping[str, Any], dataset: Mapping[str, Any]) -> Iterator[Problem]:
    """Compare every setting of a detector that counts classes with the classes of a data set."""
    names, kind = class_names(dataset), class_of(dataset, DATASETS)
    # Data sets of trackers count otherwise, and detectors with a language model compare with words.
    read_alike = {base.__name__ for base in getattr(kind, '__mro__', ())}
    if not names or not read_alike & {'CocoDataset', 'XMLDataset'} or 'language_model' in model:
        return
    info = {**(getattr(kind, 'METAINFO', None) or {}), **(dataset.get('metainfo') or {})}
    things = len(info.get('thing_classes') or names)
    wanted = dict(
        num_classes=things, num_things_classes=things, num_stuff_classes=len(names) - things
    )
    for place, part, key, given in class_settings(model):
        if isinstance(given, int) and given != wanted[key]:
            given = f'{given}{"" if key in part else " by default"}'
            truth = f'the data set has {wanted[key]} classes'
            yield mismatch(f'{place}.{key}', given, truth, wanted[key])


def _check_numbers(cfg: Config) -> Iterator[Problem]:
    for where, kinds in NUMBERS.items():
        node: Any = cfg
        for key in where.split('.'):
            node = node.get(key) if isinstance(node, (Config, Mapping)) else None
        if node is not None and (not isinstance(node, kinds) or node <= 0):
            yield Problem(where, f'{node!r}: give a number above 0')
