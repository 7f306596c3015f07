"""Data that the project draws itself: a detection set in COCO's format, and single objects."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from mmshuffle.errors import UserError

from .drawing import CLASSES, Scene, draw_scene

# Raise it with every change of what is drawn, so that no older set is taken for this one.
VERSION = 3
DESCRIPTION = 'dataset.json'
SPLITS = ('train', 'val')
JPEG_QUALITY = 90


def draw_dataset(
    root: str | Path,
    train: int = 400,
    val: int = 100,
    seed: int = 0,
    size: tuple[int, int] = (320, 240),
    progress: bool = True,
    zoom: float = 1.0,
) -> None:
    """Draw ``root/{train,val}/*.jpg`` and ``root/annotations/{train,val}.json``.

    The same arguments give the same bytes. The set appears whole or not at all: it is drawn into a
    neighbouring folder that is renamed at the end. If ``root`` holds exactly this set already, it
    is kept; another drawn set is replaced.

    A box encloses the visible part of its object, and ``area`` is the number of visible pixels.
    Every object drawn has a box.

    Args:
        val: Number of validation images; none is among the training images.
        seed: Of the random numbers. Image i of a split depends on this, i and ``size`` only.
        size: Width and height in pixels.
        zoom: How many times larger the objects are.

    Raises:
        UserError: An argument is out of range, or ``root`` holds something else.
    """
    if min(train, val) < 1 or min(size) < 64 or seed < 0:
        what = f'{train} + {val} images of {size[0]}x{size[1]} with seed {seed}'
        least = '1 image a split, 64 pixels a side, and no negative seed'
        raise UserError(f'cannot draw {what}: at least {least}')
    facts = dict(kind='mmshuffle drawn set', version=VERSION, seed=seed, train=train, val=val)
    facts |= dict(width=size[0], height=size[1], zoom=zoom)
    _make(Path(root), facts, _draw_split, progress)


def draw_objects(
    root: str | Path, train: int, val: int, side: int, seed: int = 1, progress: bool = True
) -> None:
    """Draw ``root/{train,val}/CLASS/*.jpg``: single objects, for a classifier.

    They are cut out of pictures like those of :func:`draw_dataset`, but by default other ones: a
    square around the box with an eighth of its longer side about it. Every class has as many.

    Args:
        train: Number of training images, of all classes together.
        side: Of an image, in pixels.

    Raises:
        UserError: As for :func:`draw_dataset`.
    """
    if min(train, val) < len(CLASSES) or side < 16 or seed < 0:
        what = f'{train} + {val} objects of {side} pixels with seed {seed}'
        least = f'{len(CLASSES)} a split, 16 pixels, and no negative seed'
        raise UserError(f'cannot draw {what}: at least {least}')
    facts = dict(kind='mmshuffle drawn objects', version=VERSION, seed=seed, train=train, val=val)
    _make(Path(root), dict(facts, side=side), _draw_object_split, progress)


def _make(
    root: Path, facts: dict[str, Any], draw_split: Callable[..., None], progress: bool
) -> None:
    """Draw a set into a neighbouring folder, and move it to its place."""
    if _holds(root, facts):
        return
    unused = root.is_dir() and (not any(root.iterdir()) or 'kind' in _facts(root))
    if root.exists() and not unused:
        raise UserError(f'{root} holds something other than a drawn set; name another folder')

    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f'.{root.name}.', suffix='.partial', dir=root.parent))
    try:
        interval = 0.1 if sys.stderr.isatty() else 30  # into a file, a line now and then
        form = dict(desc='drawing', unit=' images', leave=False, mininterval=interval)
        with tqdm(total=facts['train'] + facts['val'], disable=not progress, **form) as bar:
            for split in SPLITS:
                draw_split(partial, split, facts, bar)
        (partial / DESCRIPTION).write_text(json.dumps(facts, indent=2) + '\n')
        # mkdtemp's folders are for their owner only.
        partial.chmod(0o755)
        if not _holds(root, facts):
            shutil.rmtree(root, ignore_errors=True)
            os.rename(partial, root)
    except OSError:
        if not _holds(root, facts):  # another process may just have put the same there
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def scenes(
    split: str, count: int, seed: int, size: tuple[int, int], zoom: float = 1.0
) -> Iterator[Scene]:
    """Draw the pictures of a split, each from a stream of random numbers of its own."""
    for i in range(count):
        # As SeedSequence(seed).spawn(2)[split].spawn(count)[i], without making the others.
        stream = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), i))
        yield draw_scene(np.random.default_rng(stream), *size, zoom)


def describe_objects(scene: Scene) -> list[dict[str, Any]]:
    """Return the COCO annotations of a scene, without the ids."""
    objects = []
    for label, mask in zip(scene.labels, scene.masks()):
        x, y = (np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1))
        box = [int(n) for n in (x[0], y[0], x[-1] + 1 - x[0], y[-1] + 1 - y[0])]
        area = int(np.count_nonzero(mask))
        objects.append({'category_id': label + 1, 'bbox': box, 'area': area, 'iscrowd': 0})
    return objects


def _draw_split(folder: Path, split: str, facts: dict[str, Any], bar: tqdm) -> None:
    width, height = facts['width'], facts['height']
    (folder / split).mkdir()
    (folder / 'annotations').mkdir(exist_ok=True)
    content = dict(info=dict(description=f'{facts["kind"]}, {split}, seed {facts["seed"]}'))
    images, annotations = content['images'], content['annotations'] = [], []
    content['categories'] = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    pictures = scenes(split, facts[split], facts['seed'], (width, height), facts['zoom'])
    for i, scene in enumerate(pictures, 1):
        name = f'{i:06d}.jpg'
        _write_jpeg(scene.image, folder / split / name)
        images.append(dict(id=i, file_name=name, width=width, height=height))
        for entry in describe_objects(scene):
            annotations.append(dict(id=len(annotations) + 1, image_id=i, **entry))
        bar.update()
    (folder / 'annotations' / f'{split}.json').write_text(json.dumps(content))


def _draw_object_split(folder: Path, split: str, facts: dict[str, Any], bar: tqdm) -> None:
    for name in CLASSES:
        (folder / split / name).mkdir(parents=True)
    count, side = facts[split], facts['side']
    missing = [(count + i) // len(CLASSES) for i in range(len(CLASSES))]
    pictures = scenes(split, sys.maxsize, facts['seed'], (320, 240))
    while any(missing):
        scene = next(pictures)
        for entry in describe_objects(scene):
            label = entry['category_id'] - 1
            if not missing[label]:
                continue
            x, y, width, height = entry['bbox']
            scale = side / (1.25 * max(width, height))
            left, top = (side - scale * (2 * x + width)) / 2, (side - scale * (2 * y + height)) / 2
            matrix = np.float32([[scale, 0, left], [0, scale, top]])
            image = cv2.warpAffine(scene.image, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
            _write_jpeg(image, folder / split / CLASSES[label] / f'{missing[label]:06d}.jpg')
            missing[label] -= 1
            bar.update()


def _write_jpeg(image: np.ndarray, path: Path) -> None:
    jpeg = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    path.write_bytes(jpeg.tobytes())


def _holds(root: Path, facts: dict[str, Any]) -> bool:
    """Tell whether a folder holds a set of this description with all its files."""
    return _facts(root) == facts and all(
        ('side' in facts or (root / 'annotations' / f'{split}.json').is_file())
        and sum(1 for _ in (root / split).rglob('*.jpg')) == facts[split]
        for split in SPLITS
    )


def _facts(root: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return dict(json.loads((root / DESCRIPTION).read_text()))
    return {}
