"""Checks of a COCO annotation file before it is trained on."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmshuffle.errors import UserError

EXAMPLES = 3


def read_annotations(path: str | Path, test_mode: bool = False) -> dict[str, Any]:
    """Read a COCO annotation file.

    Args:
        path: The file.
        test_mode: Accept a file without annotations, as COCO's test-dev has.

    Raises:
        UserError: It does not exist, is no JSON, or lacks one of COCO's three lists of objects.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'annotation file {path} does not exist; mend data_root or ann_file')
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f'annotation file {path} is no valid JSON: {error}') from None
    if test_mode and isinstance(content, dict):
        content.setdefault('annotations', [])
    for key in ('images', 'annotations', 'categories'):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise UserError(
                f'annotation file {path} has no list {key!r} of objects; give a COCO file'
            )
    return content


def check_annotations(content: dict[str, Any], allow_empty_boxes: bool = False) -> list[str]:
    """Find the annotations that cannot be trained on.

    Args:
        content: A COCO annotation file.
        allow_empty_boxes: Accept boxes of zero width or height. COCO's own train2017 has a few, and
            MMDetection leaves them out.

    Returns:
        One message a kind of problem, naming the first annotations that have it.
    """
    images = _ids(content['images'])
    categories = _ids(content['categories'])
    boxes: dict[str, list] = {'malformed': [], 'negative': [], 'empty': []}
    orphans, uncategorised = [], []
    for annotation in content['annotations']:
        name = annotation.get('id')
        kind = _box_problem(annotation.get('bbox'))
        if kind is not None:
            boxes[kind].append((name, annotation.get('bbox')))
        if not _is_in(annotation.get('image_id'), images):
            orphans.append((name, annotation.get('image_id')))
        if not _is_in(annotation.get('category_id'), categories):
            uncategorised.append((name, annotation.get('category_id')))
    rules = {
        'malformed': 'a box is four finite numbers [x, y, width, height]',
        'negative': 'width and height must be above 0',
        'empty': 'width and height must be above 0 (allow_empty_boxes=True leaves them out)',
    }
    if allow_empty_boxes:
        del boxes['empty']
    messages = [
        f'{len(found)} annotations with a {kind} bbox ({_examples(found)}): {rules[kind]}'
        for kind, found in boxes.items()
        if found
    ]
    for found, what in ((orphans, 'image_id'), (uncategorised, 'category_id')):
        if found:
            messages.append(
                f'{len(found)} annotations with an unknown {what} ({_examples(found)}): every '
                f'{what} must be in the file'
            )
    return messages


def missing_classes(content: dict[str, Any], classes: Sequence[str]) -> list[str]:
    """Find the class names of a config that an annotation file lacks.

    MMDetection drops them without a word.
    """
    names = [category.get('name') for category in content['categories']]
    missing = [name for name in classes if name not in names]
    if not missing:
        return []
    return [
        f'classes {_names(missing)} are not among the categories {_names(names)}: set '
        'metainfo=dict(classes=...) to the names in the file'
    ]


def extra_categories(content: dict[str, Any], classes: Sequence[str]) -> list[str]:
    """Find the categories with annotations that a config leaves out; so does MMDetection."""
    used = {str(annotation.get('category_id')) for annotation in content['annotations']}
    extra = [c.get('name') for c in content['categories'] if str(c.get('id')) in used]
    extra = [name for name in extra if name not in classes]
    return [f'categories {_names(extra)} are not among the classes: left out'] if extra else []


def missing_images(content: dict[str, Any], folder: str | Path) -> list[str]:
    """Look for the first, the middle and the last image of a file in its folder."""
    images = content['images']
    if not images:
        return ['the annotation file lists no images']
    picked = {0, len(images) // 2, len(images) - 1}
    names = [images[i].get('file_name') for i in sorted(picked)]
    absent = [name for name in names if name and not (Path(folder) / name).is_file()]
    if not absent:
        return []
    return [f'image {absent[0]} is not in {folder}: mend data_prefix']


def _box_problem(box: Any) -> str | None:
    if not isinstance(box, list) or len(box) != 4:
        return 'malformed'
    if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in box):
        return 'malformed'
    if min(box[2:]) < 0:
        return 'negative'
    return 'empty' if min(box[2:]) == 0 else None


def _ids(entries: Iterable[dict]) -> set:
    return {entry['id'] for entry in entries if isinstance(entry.get('id'), (int, str))}


def _is_in(value: Any, ids: set) -> bool:
    return isinstance(value, (int, str)) and value in ids


def _examples(found: Sequence[tuple[Any, Any]]) -> str:
    shown = ', '.join(f'id {name}: {value}' for name, value in found[:EXAMPLES])
    return shown + (', ...' if len(found) > EXAMPLES else '')


def _names(names: Iterable[str], limit: int = 10) -> str:
    names = list(names)
    return '[' + ', '.join(map(str, names[:limit])) + (', ...]' if len(names) > limit else ']')
