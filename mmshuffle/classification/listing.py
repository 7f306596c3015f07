"""Finding the images of a classification data set, with a clear message for each mistake."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmshuffle.errors import UserError

# Of formats that OpenCV reads; .jfif is what browsers on Windows save.
EXTENSIONS = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.jp2', '.png', '.bmp', '.dib', '.webp'),
    *('.tif', '.tiff', '.pbm', '.pgm', '.ppm', '.pnm'),
)
VALIDATION_NAME = re.compile(r'ILSVRC2012_val_\d{8}\.JPEG')
GROUND_TRUTH = 'ILSVRC2012_validation_ground_truth.txt'

Classes = tuple[str, ...]
Labelled = list[tuple[str, int]]


def find_class_folders(folder: Path, classes: Sequence[str] | None = None) -> Classes:
    """Find the classes of images that lie in a folder a class.

    What is hidden by a leading dot is passed over.

    Args:
        classes: Their names in the order of the labels; all folders, by name, where None.

    Raises:
        UserError: The folder is absent, has no class folders, or one of them has no images.
    """
    _require_folder(folder)
    found = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not _is_hidden(e.name))
    if not found:
        raise UserError(_explain_no_folders(folder))
    names = tuple(classes or found)
    missing = sorted(set(names) - set(found))
    if missing:
        raise UserError(
            f'{folder} has no folder {", ".join(missing[:3])}; it has {", ".join(found[:3])}, ...: '
            'fix classes, or leave it out to take all folders'
        )
    for name in names:
        with os.scandir(folder / name) as entries:
            if any(map(_is_image, entries)):  # the first is enough
                continue
        there = list(os.scandir(folder / name))
        hint = f' but {there[0].name}, whose suffix is none of an image' if there else ''
        if any(entry.is_dir() for entry in there):
            hint = ' but folders: data_prefix is a level too high'
        raise UserError(f'class folder {folder / name} has no images{hint}; fix the layout')
    return names


def list_class_folders(
    folder: Path, classes: Sequence[str] | None = None
) -> tuple[Classes, Labelled]:
    """List images that lie in a folder a class; see :func:`find_class_folders`."""
    names = find_class_folders(folder, classes)
    return names, [(path, i) for i, name in enumerate(names) for path in _images(folder / name)]


def passed_over(folder: Path) -> list[str]:
    """Find the files in class folders that are no images by their names."""
    return sorted(
        entry.path
        for part in os.scandir(folder)
        if part.is_dir() and not _is_hidden(part.name)
        for entry in os.scandir(part.path)
        if entry.is_file() and not _is_image(entry) and not _is_hidden(entry.name)
    )


def list_annotated(
    folder: Path, ann_file: Path, classes: Sequence[str] | None = None
) -> tuple[Classes | None, Labelled]:
    """List images whose labels are in a file.

    The file has a line an image: its path below ``folder``, a tab or blank, and its class as an
    index from 0 or as one of ``classes``. Or it is ILSVRC's
    ``ILSVRC2012_validation_ground_truth.txt``, one number an image, in the folder ``data`` of the
    devkit with ``meta.mat`` beside it, which is needed because the devkit numbers the classes in an
    order of its own.

    Returns:
        The names of the classes, None where the file has indices only, and path and label of each
        image.

    Raises:
        UserError: A file is absent, a line is of neither form, or images and lines do not match.
    """
    _require_folder(folder)
    lines = read_lines(ann_file, 'ann_file')
    if all(line.isdecimal() for line in lines):
        return _list_devkit(folder, ann_file, [int(line) for line in lines])
    indices = {name: index for index, name in enumerate(classes or ())}
    labelled: Labelled = []
    for number, line in enumerate(lines, 1):
        path, _, label = line.rpartition('\t' if '\t' in line else ' ')
        path, label = path.strip(), label.strip()
        index = int(label) if label.isdecimal() else indices.get(label, -1)
        if not path or index < 0 or (classes and index >= len(classes)):
            raise UserError(
                f'{ann_file}, line {number}: {line!r}: give the image, a tab or blank, and an '
                'index from 0 or one of classes'
            )
        labelled.append((str(folder / path), index))
    absent = [path for path, _ in labelled if not os.path.isfile(path)]
    if absent:
        raise UserError(
            f'{len(absent)} of {len(labelled)} images of {ann_file} do not exist, such as '
            f'{absent[0]}; fix data_prefix, below which the paths are'
        )
    return (tuple(classes) if classes else None), labelled


def read_lines(path: Path, argument: str) -> list[str]:
    """Read a text file's lines, but blank ones; messages name the argument that gave its path."""
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()  # Windows begins it with a mark
    except OSError:
        raise UserError(f'{argument} {path} cannot be read; fix the path') from None
    except UnicodeDecodeError:
        raise UserError(f'{argument} {path} is no text; fix the path') from None
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise UserError(f'{argument} {path} is empty; fix the path')
    return lines


def _list_devkit(folder: Path, ann_file: Path, numbers: list[int]) -> tuple[Classes, Labelled]:
    wnids = _devkit_classes(ann_file.with_name('meta.mat'))
    images = [p for p in _images(folder) if VALIDATION_NAME.fullmatch(os.path.basename(p))]
    if len(images) != len(numbers):
        raise UserError(
            f'{folder} has {len(images)} images named ILSVRC2012_val_*.JPEG and {ann_file} '
            f'{len(numbers)} labels; unpack all of ILSVRC2012_img_val.tar there, without folders'
        )
    unknown = sorted(set(numbers) - wnids.keys())
    if unknown:
        raise UserError(f'{ann_file} has the label {unknown[0]}, which meta.mat beside it lacks')
    classes = tuple(sorted(wnids.values()))
    index = {wnid: i for i, wnid in enumerate(classes)}
    return classes, [(path, index[wnids[n]]) for path, n in zip(images, numbers, strict=True)]


def _devkit_classes(path: Path) -> dict[int, str]:
    """Number in the devkit to WordNet id, of the classes that have no subclasses."""
    from scipy.io import loadmat

    if not path.is_file():
        raise UserError(
            f'{path} does not exist, and without it the numbers of the devkit mean nothing; leave '
            f'{GROUND_TRUTH} in the folder data of the devkit'
        )
    try:
        synsets = np.atleast_1d(loadmat(path, squeeze_me=True)['synsets'])
        return {
            int(row['ILSVRC2012_ID']): str(row['WNID'])
            for row in synsets
            if int(row['num_children']) == 0
        }
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        raise UserError(f'{path} is not the meta.mat of ILSVRC2012_devkit_t12') from None


def _images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if _is_image(entry))


def _is_image(entry: os.DirEntry) -> bool:
    return entry.name.lower().endswith(EXTENSIONS) and not _is_hidden(entry.name)


def _is_hidden(name: str) -> bool:
    """Whether it is no part of the data, such as .ipynb_checkpoints or macOS's ._picture.jpg."""
    return name.startswith('.')


def _require_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise UserError(f'{folder} is a file; data_root and data_prefix name a folder of images')
    parent = folder.parent
    while not parent.is_dir():
        parent = parent.parent
    there = sorted(entry.name for entry in os.scandir(parent))[:5]
    kaggle = parent / 'ILSVRC' / 'Data' / 'CLS-LOC'
    hint = f"; set data_root to '{kaggle}/'" if kaggle.is_dir() else ''
    raise UserError(
        f'folder {folder} does not exist; {parent} has {", ".join(there) or "nothing in it"}'
        f'{hint or ": fix data_root or data_prefix"}'
    )


def _explain_no_folders(folder: Path) -> str:
    names = [entry.name for entry in os.scandir(folder)]
    if any(name.endswith('.tar') for name in names):
        return f'{folder} has .tar files; unpack each into a folder of its name'
    if any(VALIDATION_NAME.fullmatch(name) for name in names):
        return (
            f'{folder} has the validation images of ILSVRC without class folders; sort them into '
            f"folders, or set ann_file to the devkit's data/{GROUND_TRUTH}, or to a list of images "
            'and labels'
        )
    if any(name.lower().endswith(EXTENSIONS) for name in names):
        return (
            f'{folder} has images and no class folders; sort them into a folder a class, or set '
            'ann_file to a list of images and labels'
        )
    return f'{folder} has no class folders; fix data_root or data_prefix'
