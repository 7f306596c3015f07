"""Checks of the files that a detector config names, by the rules of MMDetection 3.3."""

import itertools
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config

from mmshuffle.data import annotations, pictures
from mmshuffle.data.annotations import Use, listed, read_annotations, used_categories
from mmshuffle.data.boxes import Kept, check_boxes
from mmshuffle.data.entries import check_entries
from mmshuffle.data.pictures import Loading
from mmshuffle.errors import UserError

from .dataset_config import (
    LOADERS,
    check_settings,
    evaluators_of,
    is_coco,
    is_local,
    loading_of,
    same_file,
    unwrapped,
    use_of,
)
from .loaders import check_loader
from .parts import explain
from .problem import Problem, guarded


@dataclass
class CocoFile:
    """A COCO data set of a config, and what is remembered of its file after the check."""

    where: str
    dataset: Mapping[str, Any]
    path: Path
    use: Use
    loading: Loading | None  # how the run reads its images; None where that is not known
    names: list[str] = field(default_factory=list)  # of the categories that become labels
    image_names: dict[Any, str] = field(default_factory=dict)  # by id, without folders
    kept: Kept | None = None
    missing: int = 0  # number of the images that are used and not there
    # Path, width and height of the others; empty where ``loading`` is None.
    pictures: dict[str, tuple[float, float]] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)  # the file, until it has been checked

    @property
    def loader(self) -> str:
        """The data loader that it belongs to."""
        return self.where.partition('.')[0]

    @property
    def source(self) -> str:
        """What messages about the file begin with."""
        return f'{self.where} ({self.path})'

    @property
    def folder(self) -> str:
        """The folder of its images."""
        return os.path.join(self.dataset.get('data_root') or '', self.dataset['data_prefix']['img'])


def check_datasets(cfg: Config, loaders: Sequence[str] = LOADERS) -> list[Problem]:
    """Check every COCO data set of a config on this machine, and whether they fit each other."""
    return read_datasets(cfg, loaders)[0]


@annotations.uncollected()
def read_datasets(
    cfg: Config, loaders: Sequence[str] = LOADERS, sampled: bool = True
) -> tuple[list[Problem], list[CocoFile]]:
    """Do the same as :func:`check_datasets`, and return what was read.

    If ``sampled``, a sample of the images is opened, and one sent through its pipeline.
    """
    problems: list[Problem] = []
    files: list[CocoFile] = []
    seen: list[Any] = []
    for loader in loaders:
        built = guarded(loader, check_loader, cfg, loader)
        problems += built
        for where, dataset in unwrapped(cfg, loader):
            known = len(files)
            found = guarded(where, _check_coco, cfg, where, dataset, files, seen, sampled)
            for file in files[known:]:
                if sampled and not any(problem.fatal for problem in built + found):
                    found += guarded(where, _check_sample, cfg, file)
                file.content = {}
            problems += found
    training = [file for file in files if file.loader == 'train_dataloader']
    for file in files:
        differ = guarded(file.where, _compare, training, file)
        if any('another order' in problem.message for problem in differ):
            # That names both files; the order of the classes follows from it.
            problems = [p for p in problems if p.where != f'{file.where}.metainfo']
        problems += differ
    for loader in loaders:
        place = loader.replace('dataloader', 'evaluator')
        read = [file for file in files if file.loader == loader]
        for evaluator in evaluators_of(cfg, loader):
            problems += guarded(place, _check_evaluator, place, evaluator, read)
    return _once(problems), files


def _check_coco(
    cfg: Config,
    where: str,
    dataset: Mapping[str, Any],
    files: list[CocoFile],
    seen: list[Any],
    sampled: bool,
) -> Iterator[Problem]:
    """Check one data set, and add what is remembered of its file to ``files``."""
    root = str(dataset.get('data_root') or '')
    if not is_local(root) or dataset.get('backend_args'):
        return
    if root and not Path(root).is_dir():
        yield Problem(f'{where}.data_root', f'folder {root} does not exist; fix the path')
        return
    if not is_coco(dataset):
        return
    wrong = list(check_settings(dataset, where))
    fatal = any(problem.fatal for problem in wrong)
    if not fatal and not is_local(str(dataset['ann_file'])):
        return
    key: Any = {name: value for name, value in dataset.items() if name != 'pipeline'}
    if not fatal:
        path, loader = Path(root, dataset['ann_file']), where.partition('.')[0]
        use = use_of(cfg, loader, dataset, path)
        file = CocoFile(where, dataset, path, use, loading_of(dataset))
        key = (path, use, file.loading, dataset.get('data_prefix'))
    if key in seen:
        return
    seen.append(key)
    yield from wrong
    if fatal:
        return
    content = yield from _read(where, path, use, bool(dataset.get('test_mode')))
    if content is None:
        return
    if loader == 'test_dataloader' and not content['annotations']:
        file.use = replace(use, labelled=False)
    file.content = content
    files.append(file)
    for finding in annotations.check_categories(content, file.use.classes):
        of_config = finding.message.startswith('classes')
        yield Problem(f'{where}.metainfo' if of_config else file.source, *finding)
    file.names = used_categories(content, file.use.classes, 'name')
    file.image_names = _image_names(content)
    findings, file.kept = check_boxes(content, file.use)
    yield from (Problem(file.source, *finding) for finding in findings)
    images = list(itertools.compress(content['images'], file.kept.images))
    chosen = dataset.get('indices')
    if isinstance(chosen, (list, tuple)) and max(chosen) >= len(images):
        message = f'{max(chosen)} is behind the last of {len(images)} images: leave it out'
        yield Problem(f'{where}.indices', message)
    if file.loading is not None:
        yield from _check_pictures(file, root, images, sampled)


def _read(
    where: str, path: Path, use: Use, test_mode: bool = False
) -> Generator[Problem, None, dict[str, Any] | None]:
    """Read a file; None where it has entries that cannot be looked through."""
    try:
        content = read_annotations(path, test_mode, masks=use.masks)
    except UserError as error:
        yield Problem(f'{where}.ann_file', str(error))
        return None
    problems = [Problem(f'{where} ({path})', *finding) for finding in check_entries(content, use)]
    yield from problems
    return None if any(problem.fatal for problem in problems) else content


def _check_sample(cfg: Config, file: CocoFile) -> Iterator[Problem]:
    """Try the pipeline with an image that is there, in training one with a box that is kept."""
    content, needed = file.content, []
    picked = iter(itertools.compress(content['images'], file.kept.images))
    if file.loader == 'train_dataloader' and file.use.labelled:
        needed = ['bboxes', 'labels']
        roi_head = (cfg.get('model') or {}).get('roi_head')
        if isinstance(roi_head, Mapping) and roi_head.get('mask_head'):
            needed.append('masks')
        images = {image['id']: image for image in content['images']}
        lost = set(itertools.chain.from_iterable(file.kept.lost.values()))
        labels = set(used_categories(content, file.use.classes))
        picked = (
            images[a['image_id']]
            for i, a in enumerate(content['annotations'])
            if i not in lost and a['category_id'] in labels
        )
    elif file.loader != 'train_dataloader' and evaluators_of(cfg, file.loader):
        needed = ['img_id']
    there = (i for i in picked if os.path.isfile(os.path.join(file.folder, i['file_name'])))
    image = next(there, None)
    if image is not None and not file.dataset.get('proposal_file'):
        outer = cfg[file.loader].get('dataset')
        packed = outer is file.dataset or not outer.get('pipeline')
        yield from _run_sample(file, image, needed, packed)


def _run_sample(
    file: CocoFile, image: Mapping[str, Any], needed: Sequence[str], packed: bool
) -> Iterator[Problem]:
    """Send an image through the pipeline of a COCO data set, as MMDetection does.

    ``needed`` is what a model or an evaluator needs of it; ``packed`` whether the pipeline must end
    with PackDetInputs or its like.
    """
    where, content = f'{file.where}.pipeline', file.content
    try:
        built = DATASETS.build({'_scope_': 'mmdet', **file.dataset, 'lazy_init': True})
        built.cat_ids = used_categories(content, built.metainfo['classes'])
        built.cat2label = {key: label for label, key in enumerate(built.cat_ids)}
        entries = [a for a in content['annotations'] if a['image_id'] == image['id']]
        info = dict(raw_img_info={**image, 'img_id': image['id']}, raw_ann_info=entries)
        data = built.pipeline({**built.parse_data_info(info), 'sample_idx': 0})
    except Exception as error:  # whatever a transform raises
        name = type(error).__name__
        yield Problem(where, f'it fails on {image["file_name"]!r}: {name}: {explain(error)[0]}')
        return
    if data is None or not packed:  # the image is passed over
        return
    if 'inputs' not in data:
        keys = ', '.join(map(str, list(data)[:5]))
        yield Problem(where, f'it gives the model no inputs, but {keys}: end it with PackDetInputs')
        return
    sample = data.get('data_samples')
    objects = getattr(sample, 'gt_instances', None)
    if objects is None:  # of several views, as in semi-supervised training
        return
    if 'img_id' in needed and 'img_id' not in sample.metainfo_keys():
        yield Problem(where, 'CocoMetric needs img_id: add it to meta_keys of PackDetInputs')
    wanted = dict(bboxes='with_bbox', labels='with_label', masks='with_mask')
    absent = [key for key in wanted if key in needed and key not in objects]
    if absent:
        settings = ', '.join(f'{wanted[key]}=True' for key in absent)
        message = f'it gives no {" and no ".join(absent)} to train on'
        yield Problem(where, f'{message}: add LoadAnnotations({settings})')


def _once(problems: Sequence[Problem]) -> list[Problem]:
    """Say once what is wrong with a file that several loaders read, as an error if it is one."""
    kept: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        _, opened, path = problem.where.partition(' (')
        key = (path if opened else problem.where, problem.message)
        if key not in kept or (problem.fatal and not kept[key].fatal):
            kept[key] = problem
    return list(kept.values())


def _check_pictures(
    file: CocoFile, root: str, images: list[Mapping[str, Any]], sampled: bool
) -> Iterator[Problem]:
    """Look for the images, and open a sample of them."""
    folder = file.folder
    missing = pictures.find_missing(folder, [image['file_name'] for image in images])
    file.missing = len(missing)
    if missing:
        message = pictures.explain_missing(folder, root, missing, len(images))
        fatal = len(missing) > min(file.loading.tolerated, len(images) - 1)
        yield Problem(file.source, message, fatal)
    gone = set(missing)
    file.pictures = {
        os.path.normpath(os.path.join(folder, i['file_name'])): (i['width'], i['height'])
        for i in images
        if i['file_name'] not in gone
    }
    paths = list(file.pictures)
    if sampled and paths:
        picked = [paths[index] for index in pictures.sample(len(paths))]
        opened = (pictures.inspect_image(p, file.pictures[p], file.loading)[1] for p in picked)
        faults = list(itertools.chain.from_iterable(opened))
        for finding in pictures.summarise(faults, len(picked), file.loading):
            yield Problem(file.source, *finding)


def _image_names(content: Mapping[str, Any]) -> dict[Any, str]:
    return {image['id']: image['file_name'].rpartition('/')[2] for image in content['images']}


def _compare(training: Sequence[CocoFile], file: CocoFile) -> Iterator[Problem]:
    """Compare a data set with those that are trained on: labels must mean the same."""
    for other in training:
        if other is file:
            return
        # Detectors that are given the names of the classes with each image learn no numbers.
        if other.dataset.get('return_classes') or file.dataset.get('return_classes'):
            continue
        if file.use.classes != other.use.classes:
            mine, others = (listed(f.use.classes or f.names) for f in (file, other))
            message = f'classes {mine} are not those of {other.where} {others}: give both the same'
            yield Problem(f'{file.where}.metainfo', message)
            return
        same = sorted(file.names) == sorted(other.names)
        # Names that a file lacks are told where it is compared with given classes.
        if file.names != other.names and (same or file.use.classes is None):
            yield Problem(
                file.where,
                f'the categories of {file.path} {listed(file.names)} '
                f'{"have another order than" if same else "differ from"} those of {other.path} '
                f'{listed(other.names)}, and MMDetection numbers the classes of each file in its '
                'order: give both files the same categories in the same order',
            )
            return
        both = file.pictures.keys() & other.pictures.keys()
        if both and file.loader != other.loader and not same_file(file.path, other.path):
            message = f'{len(both)} images of {file.path} are also in {other.path}, such as '
            message += f'{min(both)}: figures on images that were trained on say little'
            yield Problem(file.where, message, fatal=False)


def _check_evaluator(
    where: str, evaluator: Mapping[str, Any], found: Sequence[CocoFile]
) -> Iterator[Problem]:
    """Compare the file of an evaluator with the files whose images it evaluates."""
    path = Path(evaluator['ann_file'])
    if not found or any(same_file(path, file.path) for file in found):
        return
    content = yield from _read(where, path, Use(evaluated=True))
    if content is None:
        return
    names = _image_names(content)
    for file in found:
        others = [key for key, name in file.image_names.items() if names.get(key, name) != name]
        source, more = f'{file.path}, which {file.where} reads', ''
        if not file.image_names.keys() <= names.keys():
            fault = f'{path} lacks images of'
        elif others:
            fault = f'{len(others)} image ids of {path} stand for other images than in'
            first = others[0]
            more = f' (such as {first!r}: {names[first]!r}, and {file.image_names[first]!r} there)'
        elif used_categories(content, file.use.classes, 'name') != file.names:
            fault = f'the categories of {path} or their order differ from those of'
        else:
            continue
        yield Problem(f'{where}.ann_file', f'{fault} {source}{more}: give it that file')
