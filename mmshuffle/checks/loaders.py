"""Whether what data loaders consist of can be built, and what becomes of one sample."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmdet.evaluation import CocoMetric
from mmdet.registry import DATA_SAMPLERS, DATASETS, EVALUATOR, METRICS
from mmengine.config import Config
from mmengine.dataset import Compose

from mmshuffle.data.finetune import class_of

from .dataset_config import is_coco, steps_of, type_name
from .parts import explain
from .problem import Problem, as_list


def check_loader(cfg: Config, loader: str) -> Iterator[Problem]:
    """Build the transforms of a data loader and its evaluators; nothing is read for that."""
    settings = cfg.get(loader)
    if settings is None:
        return
    if not isinstance(settings, Mapping):
        several = "; several data sets go into dataset=dict(type='ConcatDataset', datasets=...)"
        more = several if isinstance(settings, (list, tuple)) else ''
        yield Problem(loader, f'it is a {type(settings).__name__}: give one dict{more}')
        return
    if settings.get('persistent_workers') and not settings.get('num_workers'):
        message = 'PyTorch refuses it with num_workers=0: set it to False, or give workers'
        yield Problem(f'{loader}.persistent_workers', message)
    sampler = settings.get('sampler') or {}
    if isinstance(sampler, Mapping) and class_of(sampler, DATA_SAMPLERS) is None:
        message = f'{sampler.get("type")!r} is no known sampler: give type DefaultSampler'
        yield Problem(f'{loader}.sampler', message)
    yield from _check_built(settings.get('dataset'), f'{loader}.dataset')
    yield from _check_evaluators(cfg, loader, settings.get('dataset'))


def _check_built(dataset: Any, where: str, packed: bool = False) -> Iterator[Problem]:
    """Check a data set with those inside of it; ``packed`` by the pipeline of one around it."""
    if not isinstance(dataset, Mapping):
        what = f'it is {"missing" if dataset is None else f"a {type(dataset).__name__}"}'
        yield Problem(where, f'{what}: give a dict with the type of a data set')
        return
    kind = class_of(dataset, DATASETS)
    if kind is None:
        message = 'is no known data set: fix it, or import its module'
        yield Problem(f'{where}.type', f'{dataset.get("type")!r} {message}')
        return
    inside = [(f'{where}.dataset', dataset['dataset'])] if 'dataset' in dataset else []
    if 'datasets' in dataset:
        parts = dataset['datasets']
        if not isinstance(parts, (list, tuple)) or not parts:
            yield Problem(f'{where}.datasets', 'it is empty or no list: give a list of data sets')
            return
        inside += [(f'{where}.datasets[{index}]', part) for index, part in enumerate(parts)]
    pipeline = dataset.get('pipeline')
    if pipeline:
        yield from _check_pipeline(pipeline, f'{where}.pipeline')
    elif not packed and (is_coco(dataset) or ('pipeline' in dataset and not inside)):
        message = 'give a list of transforms, from LoadImageFromFile to PackDetInputs'
        message = f'it is empty, and the model gets no images: {message}'
        yield Problem(f'{where}.pipeline', message)
    if inside:
        try:
            settings = {key: value for key, value in dataset.items() if key != 'type'}
            inspect.signature(kind).bind(**settings)
        except TypeError as error:
            yield Problem(where, f'{type_name(dataset)}: {error}')
    for place, part in inside:
        yield from _check_built(part, place, packed or bool(pipeline))


def _check_pipeline(pipeline: Any, where: str) -> Iterator[Problem]:
    if not isinstance(pipeline, (list, tuple)):
        yield Problem(where, f'it is a {type(pipeline).__name__}: give a list of transforms')
        return
    for index, step in enumerate(pipeline):
        try:
            Compose([step])
        except Exception as error:  # whatever a constructor raises
            reason, absent = explain(error)
            name = type_name(step) if isinstance(step, Mapping) else 'it'
            yield Problem(f'{where}[{index}]', f'{name} cannot be built: {reason}', not absent)


def _check_evaluators(cfg: Config, loader: str, dataset: Any) -> Iterator[Problem]:
    name = loader.replace('dataloader', 'evaluator')
    given = cfg.get(name)
    if isinstance(given, (Mapping, list, tuple)) and not given:
        fix = "give a metric, as dict(type='CocoMetric', ann_file=...), or set "
        fix += f'{loader}, {name} and {loader.replace("dataloader", "cfg")} to None'
        yield Problem(name, f'it is empty, so that nothing is evaluated: {fix}')
    for evaluator in as_list(given):
        kind = class_of(evaluator, METRICS, EVALUATOR)
        if kind is None and evaluator:
            yield Problem(name, f'{evaluator.get("type")!r} is no known metric: fix it')
        if kind is not CocoMetric:
            continue
        try:  # its file is read elsewhere
            METRICS.build({**evaluator, 'type': kind, 'ann_file': None})
        except Exception as error:  # whatever a constructor raises
            yield Problem(name, f'CocoMetric cannot be built: {explain(error)[0]}')
        instances = any('instances' in step.get('meta_keys', ()) for step in steps_of(dataset))
        if not isinstance(evaluator.get('ann_file'), str) and not instances:
            message = 'give the path of the annotation file of the images'
            yield Problem(f'{name}.ann_file', f'{evaluator.get("ann_file")!r}: {message}')
