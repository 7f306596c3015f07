"""What ``tools/verify_dataset.py`` verifies: data that paths or a config name, with its images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmshuffle.classification.listing import passed_over
from mmshuffle.data.annotations import read_annotations
from mmshuffle.data.finetune import annotation_files, find_dataset
from mmshuffle.data.pictures import Loading
from mmshuffle.errors import UserError

from .classifier import check_image_folders
from .dataset import read_datasets
from .dataset_config import LOADERS, loading_of, type_name, unwrapped
from .problem import Problem
from .verify import Part, Picture

Sources = tuple[list[Problem], list[Part]]


def from_paths(train: Sequence[str], val: Sequence[str], masks: bool = False) -> Sources:
    """Find data by one or two paths: an annotation file and its images, or a folder.

    A folder holds class folders, or the parts ``train`` and ``val`` of a set of either kind.
    """
    given = max(train, val, key=len)
    if len(given) > 2:
        raise UserError(f'{" ".join(given)}: give an annotation file and its image folder')
    first = Path(train[0])
    if first.is_dir() and not val and annotation_files(first, 'train'):
        found = find_dataset(first)
        train, val = ([str(part.ann), str(part.images)] for part in (found.train, found.val))
        first = found.train.ann
    elif first.is_dir() and not val and (first / 'train').is_dir() and (first / 'val').is_dir():
        train, val = [str(first / 'train')], [str(first / 'val')]
    if not first.exists():
        raise UserError(f'{first} does not exist; give an annotation file or a folder')
    folders, load, cfg = first.is_dir(), dict(type='LoadImageFromFile'), Config()
    if folders:
        cfg.model = dict(head=dict())
    else:
        content = read_annotations(first, True, masks=False)
        classes = tuple(dict.fromkeys(c.get('name') for c in content['categories']))
        load_boxes = dict(type='LoadAnnotations', with_bbox=True, with_mask=masks)
    for name, paths in zip(('train', 'val'), filter(None, (train, val))):
        dataset: dict[str, Any] = dict(type='ImageFolder', data_root=paths[0], pipeline=[load])
        if folders and len(paths) > 1:
            raise UserError(f'{" ".join(paths)}: give one folder of class folders a part')
        if not folders:
            folder = Path(paths[1]) if len(paths) > 1 else Path(paths[0]).parent
            if not folder.is_dir():
                raise UserError(f'image folder {folder} does not exist; fix the path')
            dataset = dict(type='CocoDataset', ann_file=paths[0], pipeline=[load, load_boxes])
            dataset |= dict(data_prefix=dict(img=str(folder)), metainfo=dict(classes=classes))
        cfg[f'{name}_dataloader'] = dict(sampler=dict(type='DefaultSampler'), dataset=dataset)
    if val and not folders:
        metric = ['bbox', 'segm'] if masks else 'bbox'
        cfg.val_evaluator = dict(type='CocoMetric', ann_file=val[0], metric=metric)
    problems, parts = from_config(cfg)

    def short(where: str) -> str:  # the parts by their names, not by a config that nobody wrote
        return where.replace('_dataloader.dataset', '')

    for part in parts:
        part.facts['source'] = short(part.facts['source'])
    return (
        [replace(p, where=short(p.where), message=short(p.message)) for p in problems],
        [replace(part, source=short(part.source)) for part in parts],
    )


def from_config(cfg: Config) -> Sources:
    """Collect the data of a config of a detector or classifier."""
    loaders = [name for name in LOADERS if cfg.get(name)]
    problems, files = read_datasets(cfg, loaders, sampled=False)
    parts = []
    for file in files:
        name = file.loader.removesuffix('_dataloader')
        facts = dict(part=name, source=str(file.path), images=int(file.kept.images.sum()))
        facts |= dict(missing=file.missing, boxes=file.kept.total, kept=file.kept.boxes)
        facts['lost'] = {reason: len(found) for reason, found in file.kept.lost.items()}
        pictures = [Picture(path, size) for path, size in file.pictures.items()]
        parts.append(Part(name, file.source, pictures, file.loading or Loading(), facts))
    folders: list[tuple[str, str, Any, Any]] = []
    if any(type_name(d) == 'ImageFolder' for n in loaders for _, d in unwrapped(cfg, n)):
        problems += check_image_folders(cfg, loaders, folders)
    for loader, where, dataset, built in folders:
        folder, name = Path(built.data_prefix['img_path']), loader.removesuffix('_dataloader')
        source = f'{where} ({folder})'
        pictures = [Picture(d['img_path'], None, d['gt_label']) for d in built.load_data_list()]
        classes = len({picture.label for picture in pictures})
        facts = dict(part=name, source=source, images=len(pictures), classes=classes)
        parts.append(Part(name, source, pictures, loading_of(dataset), facts))
        others = [] if built.ann_file else passed_over(folder)
        if others:
            message = f'{len(others)} files have no suffix of an image and are passed over, such as'
            message = f'{message} {others[0]}: convert or remove them'
            problems.append(Problem(source, message, fatal=False))
    if not parts and not problems:
        raise UserError('there is no data of the types CocoDataset or ImageFolder to verify')
    return problems, parts
