"""From a folder in COCO's format to a config that trains on it."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import Registry

from mmshuffle.errors import UserError

from .annotations import Use, read_annotations, used_categories
from .entries import check_entries
from .pictures import explain_missing, find_missing

# Roboflow writes valid/.
SPLITS = {'train': ('train',), 'val': ('val', 'valid')}
ANNOTATIONS = (
    'annotations/{}.json',
    'annotations/instances_{}.json',
    'annotations/instances_{}2017.json',
    'instances_{}.json',
    'instances_{}2017.json',
    '{}/_annotations.coco.json',
)
IMAGES = ('{}', '{}2017', 'images/{}', 'images/{}2017', 'images', 'JPEGImages', '.')

COUNTS = ('num_classes', 'num_things_classes', 'num_stuff_classes')
# Parts in which these names count something else.
OTHER_PARTS = ('backbone', 'neck', 'rpn_head', 'reid', 'track_head')


@dataclass(frozen=True)
class Split:
    """Annotation file, image folder and number of images of a part of a detection set."""

    ann: Path
    images: Path
    count: int


@dataclass(frozen=True)
class DetectionData:
    """A detection set in COCO's format."""

    train: Split
    val: Split
    classes: tuple[str, ...]  # those with annotations, in the order of the training file


def find_dataset(folder: str | Path, **given: str | Path | None) -> DetectionData:
    """Find annotations and images in a folder, by the usual layouts, and check them.

    Args:
        folder: Root of the set.
        **given: Annotation files ``train_ann`` and ``val_ann`` that are none of
            :data:`ANNOTATIONS`, and image folders ``train_images`` and ``val_images`` that are none
            of :data:`IMAGES`; as they are, or relative to ``folder``.

    Raises:
        UserError: Something is missing, ambiguous or cannot be trained on; the message names the
            option of ``tools/quickstart.py`` that decides it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'data folder {folder} does not exist')
    splits, contents = {}, []
    for split in SPLITS:
        ann = _annotation_file(folder, split, given.get(f'{split}_ann'))
        content = read_annotations(ann, masks=False)
        if not content['images'] or not content['annotations']:
            raise UserError(f'{ann} has no images or no annotations; nothing can be trained on it')
        # What cannot be looked through; mmshuffle.checks.dataset says the rest.
        for finding in check_entries(content, Use(evaluated=True)):
            if finding.fatal:
                raise UserError(f'{ann}: {finding.message}')
        names = [image['file_name'] for image in content['images']]
        images = _image_folder(folder, split, ann, names, given.get(f'{split}_images'))
        splits[split] = Split(ann, images, len(names))
        contents.append(content)
    if (ann := splits['train'].ann).samefile(splits['val'].ann):
        raise UserError(f'{ann} is given for training and validation; give two files')
    used = set()
    for content in contents:
        names = {category['id']: category['name'] for category in content['categories']}
        used |= {names[annotation['category_id']] for annotation in content['annotations']}
    return DetectionData(**splits, classes=tuple(used_categories(contents[0], used, 'name')))


def apply_dataset(cfg: Config, dataset: DetectionData) -> None:
    """Make a detector's config train, validate and test on a set; changes ``cfg``.

    The data of all three loaders, the evaluators' annotation files and the number of classes of
    every classifying head are set. Testing uses the validation images.
    """
    for name, split in (('train', dataset.train), ('val', dataset.val), ('test', dataset.val)):
        inner = cfg[f'{name}_dataloader'].dataset
        while 'dataset' in inner:  # wrapped, as in RepeatDataset
            inner = inner.dataset
        inner.data_root = ''
        inner.ann_file = str(split.ann.resolve())
        inner.data_prefix = dict(img=str(split.images.resolve()))
        inner.metainfo = dict(classes=dataset.classes)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        for metric in evaluator if isinstance(evaluator, Sequence) else [evaluator]:
            metric.ann_file = str(dataset.val.ann.resolve())
            metric.classwise = True
    for _, part, key, _ in list(class_settings(cfg.model)):
        if key == 'num_classes':
            part[key] = len(dataset.classes)


def apply_epochs(cfg: Config, epochs: int | None, batch_size: int | None, train_count: int) -> None:
    """Set the length of the training and fit the learning-rate schedule to it; changes ``cfg``.

    Schedulers that count epochs are stretched. Of those that count iterations, the warm-up keeps
    its length, but takes no more than a fifth of the run, and the others end with the run.

    Args:
        cfg: A config that trains by epoch.
        epochs: None keeps the config's.
        batch_size: Images a step; None keeps the config's.
    """
    if 'max_epochs' not in (cfg.get('train_cfg') or {}):
        raise UserError('the config must train by epoch: set train_cfg.max_epochs')
    if batch_size is not None:
        cfg.train_dataloader.batch_size = batch_size
    old = cfg.train_cfg.max_epochs
    new = cfg.train_cfg.max_epochs = old if epochs is None else epochs
    iterations = new * -(-train_count // cfg.train_dataloader.batch_size)
    warm_up = 0
    schedulers = cfg.get('param_scheduler') or []
    for scheduler in schedulers if isinstance(schedulers, Sequence) else [schedulers]:
        if scheduler.get('by_epoch', True):
            for key in ('begin', 'end', 'T_max'):
                if key in scheduler:
                    scheduler[key] = round(scheduler[key] * new / old)
            if 'milestones' in scheduler:
                scheduler.milestones = [round(m * new / old) for m in scheduler.milestones]
        elif scheduler.type in ('LinearLR', 'ConstantLR'):
            scheduler.end = warm_up = min(scheduler.end, max(iterations // 5, 1))
        else:
            scheduler.begin = min(scheduler.get('begin', 0), warm_up)
            scheduler.end = iterations
            if 'T_max' in scheduler:
                scheduler.T_max = iterations - scheduler.begin


def annotation_files(folder: Path, split: str) -> list[Path]:
    """Annotation files that a folder has for the part ``train`` or ``val``, by the usual names."""
    patterns = [pattern.format(name) for name in SPLITS[split] for pattern in ANNOTATIONS]
    return _distinct(folder / p for p in patterns if (folder / p).is_file())


def _annotation_file(folder: Path, split: str, given: str | Path | None) -> Path:
    option = f'--{split}-ann'
    if given is not None:
        return _given(folder, given, option)
    found, what = annotation_files(folder, split), f'of the {split} images'
    usual = ', '.join(ANNOTATIONS[i].format(split) for i in (0, 1, 5))
    none = f'{folder} has no annotation file {what}, such as {usual}; name it with {option}'
    several = f'{folder} has several annotation files {what} ({_listed(found)})'
    return _single(found, none, f'{several}; choose one with {option}')


def _image_folder(
    folder: Path, split: str, ann: Path, names: list[str], given: str | Path | None
) -> Path:
    option = f'--{split}-images'
    if given is not None:
        chosen = _given(folder, given, option)
        if len(missing := find_missing(chosen, names)) < len(names):
            return chosen
        message = explain_missing(chosen, folder, missing, len(names))
        raise UserError(f'{option}: {message} ({ann})')
    # Roboflow keeps the images beside their annotations.
    places = [folder / p.format(name) for name in SPLITS[split] for p in IMAGES] + [ann.parent]
    places = _distinct(p for p in places if p.is_dir())
    # Single ones may be missing; the check of the config names them.
    found = [p for p in places if 2 * len(find_missing(p, names)) < len(names)]
    none = f'the {split} images ({names[0]}, ...) are in none of {_listed(places)}'
    several = f'the {split} images could be those in {_listed(found)}; choose one with {option}'
    return _single(found, f'{none}; name their folder with {option}', several)


def _single(found: list[Path], none: str, several: str) -> Path:
    if len(found) != 1:
        raise UserError(several if found else none)
    return found[0]


def _given(folder: Path, given: str | Path, option: str) -> Path:
    for path in (Path(given), folder / given):
        if path.exists():
            return path
    raise UserError(f'{option}: neither {given} nor {folder / given} exists')


def walk(
    node: Any, where: str = '', skipped: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dict in a part of a config, the outer one first, with its place; not of some keys."""
    if isinstance(node, Mapping):
        yield where, node
        for key, value in node.items():
            if key not in skipped:
                yield from walk(value, f'{where}.{key}', skipped)
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from walk(value, f'{where}[{index}]', skipped)


def class_settings(model: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], str, Any]]:
    """Find the settings of a model that count the classes of its data set.

    Yields:
        Place of a part, its config, name of the setting, and its value, by default if not given.
    """
    for where, part in walk(model, 'model', OTHER_PARTS):
        name = where.rpartition('.')[2].partition('[')[0]
        for key in COUNTS:
            value = part.get(key, _default(part, key) if name.endswith('head') else None)
            # HTC's semantic head counts kinds of surface.
            counts_others = (name, key) == ('semantic_head', 'num_classes')
            if value is not None and not counts_others and not part.get('class_agnostic'):
                yield where, part, key, value


def _default(part: Mapping[str, Any], key: str) -> Any:
    """What a class of MMDetection's registry takes for a setting that is not given."""
    found = defaults(class_of(part, MODELS))
    return next((value for name, value in found if name == key), None)


def class_of(cfg: Mapping[str, Any], *registries: Registry) -> Any:
    """The class, or function, that a config builds; None where it is not registered."""
    kind = cfg.get('type')
    if isinstance(kind, type) or kind is None:
        return kind
    return next(filter(None, (registry.get(str(kind)) for registry in registries)), None)


def defaults(kind: Any) -> Iterator[tuple[str, Any]]:
    """Arguments of a class and of its bases, with their defaults, None where they have none."""
    for base in getattr(kind, '__mro__', ()):
        for name, parameter in inspect.signature(base.__init__).parameters.items():
            yield name, None if parameter.default is parameter.empty else parameter.default


def _distinct(paths: Iterable[Path]) -> list[Path]:
    """Leave out paths to a file or folder that is there already, through a link."""
    kept: dict[Path, Path] = {}
    for path in paths:
        kept.setdefault(path.resolve(), path)
    return list(kept.values())


def _listed(paths: Iterable[Path]) -> str:
    return ', '.join(map(str, paths))
