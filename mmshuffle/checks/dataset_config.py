"""What the data part of a detector config says: classes, wrappers, pipelines and evaluators."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.fileio import list_from_file

from mmshuffle.data.annotations import Finding, Use
from mmshuffle.data.finetune import class_of, walk
from mmshuffle.data.pictures import Loading

from .problem import Problem, as_list, placed

FILTERS = ('filter_empty_gt', 'min_size')
OLD_KEYS = {
    'classes': 'metainfo=dict(classes=...)',
    **dict.fromkeys(('img_prefix', 'seg_prefix'), 'data_prefix=dict(img=...)'),
}
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def check_settings(dataset: Mapping[str, Any], where: str) -> Iterator[Problem]:
    """What MMDetection misreads or fails on before it opens a file of a COCO data set."""

    def told(key: str, message: str, fatal: bool = True) -> Problem:
        return Problem(f'{where}.{key}', message, fatal)

    for key in filter(dataset.__contains__, OLD_KEYS):
        yield told(key, f'MMDetection 3 does not take it: give {OLD_KEYS[key]}')
    path = dataset.get('ann_file')
    if not path:
        yield told('ann_file', 'it is missing: give the path of the annotation file')
    elif not isinstance(path, (str, os.PathLike)):
        message = 'give one path, and a data set each in a ConcatDataset for more'
        yield told('ann_file', f'{path!r}: {message}')
    filters = dataset.get('filter_cfg') or {}
    if not isinstance(filters, Mapping):
        yield told('filter_cfg', f'{filters!r}: give a dict')
    elif not isinstance(filters.get('min_size', 0), (int, float)):
        yield told('filter_cfg.min_size', f'{filters["min_size"]!r}: give a number of pixels')
    elif set(filters) - set(FILTERS):
        unknown = min(set(filters) - set(FILTERS), key=str)
        message = f'MMDetection reads {" and ".join(FILTERS)} only, and {unknown!r} does nothing'
        yield told('filter_cfg', f'{message}: leave it out', fatal=False)
    chosen = dataset.get('indices')
    several = isinstance(chosen, (list, tuple)) and all(type(i) is int for i in chosen)
    if chosen is not None and not (chosen and (type(chosen) is int or several)):
        yield told('indices', f'{chosen!r}: give a number of images, or a list of them')
    proposals = dataset.get('proposal_file')
    path = Path(dataset.get('data_root') or '', str(proposals))
    if proposals and is_local(f'{proposals}') and not path.is_file():
        yield told('proposal_file', f'{path} does not exist: fix the path, or leave it out')
    prefix = dataset.get('data_prefix')
    if not isinstance(prefix, Mapping) or not isinstance(prefix.get('img'), str):
        yield told('data_prefix', f'{prefix!r}: give dict(img=...), the folder below data_root')
    metainfo = dataset.get('metainfo') or {}
    if isinstance(metainfo, Mapping):
        yield from (told('metainfo', *finding) for finding in _check_metainfo(metainfo))
    else:
        yield told('metainfo', f'{metainfo!r}: give dict(classes=(...))')


def _check_metainfo(metainfo: Mapping[str, Any]) -> Iterator[Finding]:
    if 'classes' not in metainfo and any(str(key).lower() == 'classes' for key in metainfo):
        yield Finding('MMDetection 3 reads classes, in small letters')
    names = given = metainfo.get('classes', ('',))
    if isinstance(given, str):
        names = read_names(given)
        what = (
            'a file that is no UTF-8 text: save it as plain UTF-8 text with a name a line'
            if Path(given).is_file()
            else 'no text file with a name a line, so that each category whose name is a part of '
            'it would be taken: give a tuple, with a comma also behind one name: '
            f'classes=({given!r},)'
        )
        if names is None:
            yield Finding(f'classes is the string {given!r} and {what}')
    elif not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
        yield Finding(f'classes is {given!r}: give a tuple of the names in the file')
        return
    if names is not None and not names:
        yield Finding('classes is empty: give the names in the file')
    palette = metainfo.get('palette')
    short = isinstance(palette, (list, tuple)) and len(palette) < len(names or ())
    if short and 'classes' in metainfo:
        message = f'palette has {len(palette)} colours for {len(names)} classes'
        fix = "and pictures cannot be drawn: give a colour each, or 'random'"
        yield Finding(f'{message}, {fix}', fatal=False)


def class_names(dataset: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes that a data set config stands for; None where they cannot be told."""
    kind = class_of(dataset, DATASETS)
    metainfo = dataset.get('metainfo') or {}
    if 'classes' not in metainfo:
        return tuple((getattr(kind, 'METAINFO', None) or {}).get('classes') or ()) or None
    given = metainfo['classes']
    names = tuple((read_names(given) if isinstance(given, str) else given) or ())
    return names if names and all(isinstance(name, str) for name in names) else None


def is_coco(dataset: Mapping[str, Any]) -> bool:
    """Whether a config is of MMDetection's CocoDataset or of a class that reads files as it does.

    MMDetection's own other data sets have files with peculiarities of their own.
    """
    kind = class_of(dataset, DATASETS)
    if not isinstance(kind, type) or not issubclass(kind, CocoDataset):
        return False
    readers = ('__init__', 'load_data_list', 'parse_data_info', 'filter_data')
    same = all(getattr(kind, name) is getattr(CocoDataset, name) for name in readers)
    return kind is CocoDataset or (same and not kind.__module__.startswith('mmdet.'))


def unwrapped(cfg: Config, loader: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Data sets of a loader with their places, out of RepeatDataset, ConcatDataset and so on."""
    settings = cfg.get(loader)
    dataset = settings.get('dataset', {}) if isinstance(settings, Mapping) else None
    if isinstance(dataset, Mapping):
        yield from _unwrapped(dataset, f'{loader}.dataset')


def type_name(cfg: Mapping[str, Any]) -> str:
    """Name of the class that a config builds, given as a string or as the class itself."""
    kind = cfg.get('type')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def is_local(path: str) -> bool:
    """Whether a path is of this machine, and not an address such as ``s3://`` or ``https://``."""
    return '://' not in path


def use_of(cfg: Config, loader: str, dataset: Mapping[str, Any], path: Path) -> Use:
    """What a run does with an annotation file."""
    steps = list(steps_of(dataset.get('pipeline')))
    loads = [s for s in steps if 'LoadAnnotations' in type_name(s)]
    evaluators = [e for e in evaluators_of(cfg, loader) if same_file(Path(e['ann_file']), path)]
    segm = any('segm' in (e.get('metric') or ()) for e in evaluators)
    training = loader == 'train_dataloader'
    filters = {} if dataset.get('test_mode') else dataset.get('filter_cfg') or {}
    empty = any('LoadEmptyAnnotations' in type_name(s) for s in steps)
    return Use(
        classes=class_names(dataset),
        labelled=not empty and not any(e.get('format_only') for e in evaluators),
        evaluated=bool(evaluators),
        masks=segm or (training and any(s.get('with_mask') for s in loads)),
        poly2mask=all(s.get('poly2mask', True) for s in loads) or not training,
        min_size=filters.get('min_size', 0),
        filter_empty=bool(filters.get('filter_empty_gt', False)),
    )


def loading_of(dataset: Mapping[str, Any]) -> Loading | None:
    """How a pipeline reads its images; None where it does so in a way of its own."""
    pipeline = dataset.get('pipeline') or [dict(type='LoadImageFromFile')]
    first = pipeline[0] if isinstance(pipeline, (list, tuple)) else None
    if not isinstance(first, Mapping) or type_name(first) not in ('LoadImageFromFile', 'LoadImage'):
        return None
    if first.get('backend_args') or first.get('file_client_args'):
        return None
    return Loading(
        first.get('color_type', 'color'),
        first.get('imdecode_backend', 'cv2'),
        first.get('max_unreadable', 0),
    )


def steps_of(pipeline: Any) -> Iterator[Mapping[str, Any]]:
    """The transforms of a pipeline, with those that are inside of others."""
    return (step for _, step in walk(pipeline) if 'type' in step)


def evaluators_of(cfg: Config, loader: str) -> list[Mapping[str, Any]]:
    """Evaluators of a loader that read a COCO file on this machine."""
    given = as_list(cfg.get(loader.replace('dataloader', 'evaluator')))
    given = [e for e in given if type_name(e) == 'CocoMetric' and not e.get('backend_args')]
    return [e for e in given if isinstance(e.get('ann_file'), str) and is_local(e['ann_file'])]


def _unwrapped(dataset: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    inside = placed(dataset.get('dataset'), f'{where}.dataset')
    inside = inside or placed(dataset.get('datasets'), f'{where}.datasets')
    for place, part in inside:
        yield from _unwrapped(part, place)
    if not inside:
        yield where, dataset


def read_names(path: str) -> list[str] | None:
    """The lines of a class file as mmengine reads it, also blank ones; None if it cannot be."""
    try:
        return list_from_file(path)
    except (OSError, UnicodeDecodeError):
        return None


def same_file(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve()
