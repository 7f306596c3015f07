"""Single entries of a COCO annotation file: keys, types, ids and what they refer to."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from .annotations import EXAMPLES, Finding, Use, examples

MISSING = object()
NUMBER = {int, float}


def check_entries(content: dict[str, Any], use: Use) -> Iterator[Finding]:
    """Find keys that are missing or of the wrong type, ids that occur twice, and orphans."""
    sound = True
    for list_name, key, kind, fix in RULES:
        for fault, found in _misfits(content[list_name], key, kind).items():
            what = f'have no {key}' if fault == 'missing' else f'have {fault} for {key}'
            shown = examples(content, found, None if fault == 'missing' else key, list_name)
            head = f'{len(found)} of {len(content[list_name])} {list_name} {what} {shown}'
            finding = Finding(f'{head}: {fix}', _is_fatal(list_name, key, fault, use))
            sound = sound and not finding.fatal
            yield finding
    if not sound:
        return
    yield from _check_ids(content, use)
    names = Counter(image['file_name'] for image in content['images'])
    twice = [i for i, image in enumerate(content['images']) if names[image['file_name']] > 1]
    if twice:
        yield Finding(
            f'{len(twice)} of {len(content["images"])} images have the file_name of another '
            f'{examples(content, twice, "file_name", "images")}: each is an image of its own to '
            'MMDetection, with its own boxes only; give them one entry',
            fatal=False,
        )
    for key, list_name in (('image_id', 'images'), ('category_id', 'categories')):
        known = {entry['id'] for entry in content[list_name]}
        column = [annotation[key] for annotation in content['annotations']]
        if known.issuperset(column):
            continue
        found = [i for i, value in enumerate(column) if value not in known]
        as_text = {str(value): value for value in known}
        alike = next((as_text[str(column[i])] for i in found if str(column[i]) in as_text), None)
        hint = '' if alike is None else f'the {list_name} have {alike!r}, text and numbers differ: '
        yield Finding(
            f'{len(found)} of {len(column)} annotations have an unknown {key} '
            f'{examples(content, found, key)}: {hint}give each the id of one of the {list_name}, '
            'or remove it'
        )


def _check_ids(content: dict[str, Any], use: Use) -> Iterator[Finding]:
    for list_name, (what, fix) in TWICE.items():
        column = [entry['id'] for entry in content[list_name]]
        ids = Counter(column)
        if len(ids) < len(column):
            first = next(value for value in column if ids[value] > 1)
            same = [i for i, value in enumerate(column) if value == first]
            places = ', '.join(f'{list_name}[{i}]' for i in same[:EXAMPLES])
            yield Finding(
                f'{sum(n > 1 for n in ids.values())} {what} ids occur more than once (such as '
                f'{what} id {first!r}: {places}): {fix}'
            )
    zero = [i for i, annotation in enumerate(content['annotations']) if annotation['id'] == 0]
    if zero and use.evaluated:
        yield Finding(
            f'annotations have the id 0 {examples(content, zero, "bbox")}, which pycocotools takes '
            'for no box: a detection that fits it counts as wrong, and AP is too low; number the '
            'annotations from 1',
            fatal=False,
        )


def is_finite(numbers: Iterable[float]) -> bool:
    """Whether none of some numbers is NaN, infinite or too large for a float."""
    try:
        return math.isfinite(sum(numbers))
    except OverflowError:
        return False


# Types of the values for which no more than a sum is looked at; else those of numbers.
USUAL = {'flag': {int, bool}, 'text': {str}, 'id': {int}, 'reference': {int}}
_UNIQUE = 'give each a whole number of its own, not in quotes'
RULES = (
    ('images', 'id', 'id', _UNIQUE),
    ('images', 'file_name', 'text', "give the image's path below data_prefix"),
    ('images', 'width', 'size', 'give the width in pixels, a number above 0'),
    ('images', 'height', 'size', 'give the height in pixels, a number above 0'),
    ('annotations', 'id', 'id', _UNIQUE),
    ('annotations', 'image_id', 'reference', 'give the id of its image'),
    ('annotations', 'category_id', 'reference', 'give the id of its category'),
    ('annotations', 'bbox', 'box', 'give four numbers [x, y, width, height] in pixels'),
    ('annotations', 'area', 'number', 'give the area in pixels, for a box its width x height'),
    ('annotations', 'iscrowd', 'flag', 'write 0, or 1 for a crowd, not in quotes'),
    ('categories', 'id', 'id', _UNIQUE),
    ('categories', 'name', 'text', 'give it a name'),
)
TWICE = {
    'images': (
        'image',
        'MMDetection keeps the last image of an id and gives it the boxes of all; '
        'number the images anew, and the image_id of the annotations with them',
    ),
    'annotations': ('annotation', 'MMDetection refuses the file; number the annotations anew'),
    'categories': ('category', 'MMDetection mixes them up; give each category an id of its own'),
}


def _misfits(entries: list[dict[str, Any]], key: str, kind: str) -> dict[str, list[int]]:
    """Indices of the entries whose value does not fit, by kind of fault."""
    column = [entry.get(key, MISSING) for entry in entries]
    found: dict[str, list[int]] = {}
    for index, value in enumerate(column if not _all_fit(column, kind) else ()):
        if fault := _fault(value, kind):
            found.setdefault(fault, []).append(index)
    return found


def _all_fit(column: list[Any], kind: str) -> bool:
    """Decide by types and a sum, at the speed of C, what is so nearly always."""
    if kind == 'box':
        if not set(map(type, column)) <= {list} or not set(map(len, column)) <= {4}:
            return False
        column = list(itertools.chain.from_iterable(column))
    if not set(map(type, column)) <= USUAL.get(kind, NUMBER):
        return False
    if kind in USUAL:
        return kind != 'text' or all(column)
    return is_finite([*column, 0.0]) and (kind != 'size' or min(column, default=1) > 0)


def _fault(value: Any, kind: str) -> str | None:
    """Why a value is none of a kind; None where it is one."""
    if value is MISSING:
        return 'missing'
    if value is None:
        return 'null'
    if kind == 'box' and isinstance(value, list):
        fits = len(value) == 4 and not any(_fault(number, 'number') for number in value)
        return None if fits else 'no four numbers'
    if isinstance(value, str):
        fault = None if kind in ('text', 'reference') else 'text'
        return fault if value or kind != 'text' else 'an empty text'
    if isinstance(value, bool):
        return None if kind == 'flag' else 'true or false'
    if not isinstance(value, (int, float)):
        return 'no number' if kind == 'size' else 'a list or object'
    if not is_finite([value, 0.0]):
        return 'NaN or Infinity'
    if kind in ('text', 'box'):
        return 'a number'
    if kind == 'id' and isinstance(value, float):
        return 'a decimal number'
    return 'a number of 0 or less' if kind == 'size' and value <= 0 else None


def _is_fatal(list_name: str, key: str, fault: str, use: Use) -> bool:
    """Whether MMDetection fails on it, or takes it for something else."""
    if key == 'iscrowd' and fault in ('missing', 'null'):
        return use.evaluated  # training takes it for 0
    if key == 'id' and fault == 'text':
        # pycocotools takes the text of a category for a list, and computes with those of boxes.
        return list_name != 'images' and use.evaluated
    return key != 'id' or fault != 'a decimal number'
