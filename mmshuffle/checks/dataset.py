"""Checks of the files that a detector config names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config

from mmshuffle.data.annotations import (
    check_annotations,
    extra_categories,
    missing_classes,
    missing_images,
    read_annotations,
)
from mmshuffle.errors import UserError, way_to_train

from .problem import Problem


def check_checkpoints(cfg: Config, training: bool) -> list[Problem]:
    """Look for the local checkpoint files that a run starts from."""
    found = [('load_from', cfg.get('load_from'))]
    if training and not cfg.get('load_from'):
        found += _pretrained(cfg.model, 'model')
    return [
        Problem(
            where, f'checkpoint {path} does not exist; fix it, or give None{way_to_train(path)}'
        )
        for where, path in found
        if isinstance(path, str) and is_local(path) and not Path(path).expanduser().is_file()
    ]


def check_dataset(cfg: Config, dataset: Mapping[str, Any], where: str) -> list[Problem]:
    """Check folders, annotation file, boxes and class names of a COCO data set on this machine."""
    root = dataset.get('data_root') or ''
    local = is_local(str(root)) and not dataset.get('backend_args')
    if type_name(dataset) != 'CocoDataset' or not local:
        return []
    if root and not Path(root).is_dir():
        return [Problem(f'{where}.data_root', f'folder {root} does not exist; mend the path')]
    if not dataset.get('ann_file'):
        return []
    path = Path(root) / dataset['ann_file']
    try:
        content = read_annotations(path, test_mode=bool(dataset.get('test_mode')))
    except UserError as error:
        return [Problem(f'{where}.ann_file', str(error))]
    source = f'{where} ({path})'
    messages = check_annotations(content, bool(cfg.get('allow_empty_boxes', False)))
    folder = (dataset.get('data_prefix') or {}).get('img', '')
    messages += missing_images(content, Path(root) / folder)
    problems = [Problem(source, message) for message in messages]
    classes = class_names(dataset)
    if classes is not None:
        problems += [Problem(f'{where}.metainfo', m) for m in missing_classes(content, classes)]
        problems += [
            Problem(f'{where}.metainfo', message, fatal=False)
            for message in extra_categories(content, classes)
        ]
    return problems


def class_names(dataset: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes that a data set config stands for; None where they cannot be told."""
    given = (dataset.get('metainfo') or {}).get('classes')
    if isinstance(given, str):  # mmengine reads a file with a name a line
        path = Path(given)
        return tuple(path.read_text().split('\n')) if path.is_file() else None
    if given:
        return tuple(given)
    kind = dataset.get('type')
    kind = kind if isinstance(kind, type) else DATASETS.get(f'mmdet.{type_name(dataset)}')
    return tuple((getattr(kind, 'METAINFO', None) or {}).get('classes') or ()) or None


def type_name(cfg: Mapping[str, Any]) -> str:
    """Name of the class that a config builds, given as a string or as the class itself."""
    kind = cfg.get('type')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def is_local(path: str) -> bool:
    """Whether a path is of this machine, and not an address such as ``s3://`` or ``https://``."""
    return '://' not in path


def _pretrained(node: Any, where: str) -> list[tuple[str, str]]:
    """Every checkpoint of an ``init_cfg`` in a model."""
    found = []
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == 'init_cfg':
                entries = value if isinstance(value, (list, tuple)) else [value]
                found += [
                    (f'{where}.init_cfg.checkpoint', entry['checkpoint'])
                    for entry in entries
                    if isinstance(entry, Mapping) and entry.get('checkpoint')
                ]
            else:
                found += _pretrained(value, f'{where}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            found += _pretrained(value, f'{where}[{index}]')
    return found
