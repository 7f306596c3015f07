"""COCO annotation files: read once, and judged by what MMDetection 3.3 does with them."""

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmshuffle.errors import UserError

EXAMPLES = 3
LISTS = ('images', 'annotations', 'categories')
MISSING = object()
# Numbers and brackets: no text can be in it, nor the end of the entry.
POLYGONS = re.compile(r'"segmentation"\s*:\s*\[[-+0-9.eE,\s\[\]]*\]')


class Finding(NamedTuple):
    """One kind of fault in an annotation file, in one line; a run must not start if fatal."""

    message: str
    fatal: bool = True


@dataclass(frozen=True)
class Use:
    """What a run does with an annotation file.

    Attributes:
        classes: Names of the classes that are trained on; all of the file's where None.
        labelled: Whether boxes are needed.
        evaluated: Whether pycocotools evaluates on the file.
        masks: Whether masks are trained or evaluated.
        poly2mask: Whether masks are rendered; if not, MMDetection leaves run lengths out.
        min_size: Images with a shorter side below it, in pixels, are left out.
        filter_empty: Whether images without annotations of the classes are left out.
    """

    classes: tuple[str, ...] | None = None
    labelled: bool = True
    evaluated: bool = False
    masks: bool = False
    poly2mask: bool = True
    min_size: int = 0
    filter_empty: bool = False


def read_annotations(
    path: str | Path, test_mode: bool = False, masks: bool = True
) -> dict[str, Any]:
    """Read a COCO annotation file as pycocotools would.

    Args:
        path: The file.
        test_mode: Accept a file without annotations, as COCO's test-dev has.
        masks: Keep the segmentations, which are most of a large file.

    Raises:
        UserError: It does not exist, is no UTF-8 or no JSON, or lacks one of COCO's three lists of
            objects.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'annotation file {path} does not exist; fix data_root or ann_file')
    try:
        text = _decode(path.read_bytes())
        content = json.loads(text) if masks else _parse_lightly(text)
    except OSError as error:
        raise UserError(f'annotation file {path} cannot be read: {error.strerror}') from None
    except json.JSONDecodeError as error:
        raise UserError(f'annotation file {path} is no valid JSON: {_explain(error)}') from None
    except (ValueError, RecursionError) as error:
        raise UserError(f'annotation file {path} is no valid JSON: {error}') from None
    if not isinstance(content, dict):
        raise UserError(
            f'annotation file {path} holds a {type(content).__name__}, not an object with '
            f'{", ".join(LISTS)}; give a COCO file'
        )
    if test_mode:
        content.setdefault('annotations', [])
    for key in LISTS:
        entries = content.get(key)
        if not isinstance(entries, list):
            raise UserError(f'annotation file {path} has no list {key!r}; give a COCO file')
        if not set(map(type, entries)) <= {dict}:
            index = next(i for i, entry in enumerate(entries) if not isinstance(entry, dict))
            raise UserError(
                f'annotation file {path}: {key}[{index}] is {entries[index]!r}, not an object; '
                'give a COCO file'
            )
    return content


def check_entries(content: dict[str, Any], use: Use) -> list[Finding]:
    """Find keys that are missing or of the wrong type, ids that occur twice, and orphans.

    Args:
        content: A COCO annotation file.
        use: What the run does with it.

    Returns:
        One finding a kind of fault, with the first entries that have it.
    """
    findings = []
    for list_name, key, fits, fix in RULES:
        for kind, found in _misfits(content[list_name], key, fits).items():
            fatal = _is_fatal(list_name, key, kind, use)
            what = f'have no {key}' if kind == 'missing' else f'have {kind} for {key}'
            shown = _examples(list_name, content, found, None if kind == 'missing' else key)
            findings.append(
                Finding(
                    f'{len(found)} of {len(content[list_name])} {list_name} {what} {shown}: {fix}',
                    fatal,
                )
            )
    if any(finding.fatal for finding in findings):
        return findings
    for list_name, what in (
        ('images', 'image'),
        ('annotations', 'annotation'),
        ('categories', 'category'),
    ):
        ids = Counter(entry['id'] for entry in content[list_name])
        if len(ids) == len(content[list_name]):
            continue
        twice = [i for i, entry in enumerate(content[list_name]) if ids[entry['id']] > 1]
        first = content[list_name][twice[0]]['id']
        same = [i for i in twice if content[list_name][i]['id'] == first]
        places = ', '.join(f'{list_name}[{i}]' for i in same[:EXAMPLES])
        findings.append(
            Finding(
                f'{sum(n > 1 for n in ids.values())} {what} ids occur more than once (such as '
                f'{what} id {first!r}: {places}): {TWICE[list_name]}'
            )
        )
    names = Counter(image['file_name'] for image in content['images'])
    twice = [i for i, image in enumerate(content['images']) if names[image['file_name']] > 1]
    if twice:
        findings.append(
            Finding(
                f'{len(twice)} of {len(content["images"])} images have the file_name of another '
                f'{_examples("images", content, twice, "file_name")}: each is an image of its own '
                'to MMDetection, with its own boxes only; give them one entry',
                fatal=False,
            )
        )
    for key, list_name in (('image_id', 'images'), ('category_id', 'categories')):
        known = {entry['id'] for entry in content[list_name]}
        column = [annotation[key] for annotation in content['annotations']]
        if known.issuperset(column):
            continue
        found = [i for i, value in enumerate(column) if value not in known]
        as_text = {str(value): value for value in known}
        alike = next((as_text[str(column[i])] for i in found if str(column[i]) in as_text), None)
        hint = (
            f'the {list_name} have {alike!r}, text and numbers differ: '
            if alike is not None
            else ''
        )
        findings.append(
            Finding(
                f'{len(found)} of {len(column)} annotations have an unknown {key} '
                f'{_examples("annotations", content, found, key)}: {hint}give each the id of one '
                f'of the {list_name}, or remove it'
            )
        )
    return findings


def check_categories(content: dict[str, Any], classes: Sequence[str] | None) -> list[Finding]:
    """Compare the categories of a file with the classes of a config.

    MMDetection numbers the classes by the order of the file's categories, whatever the config says.

    Args:
        content: A COCO annotation file whose entries were checked.
        classes: The config's; None for all of the file's.
    """
    names = [category['name'] for category in content['categories']]
    chosen = used_names(content, classes)
    findings = []
    twice = [name for name, count in Counter(chosen).items() if count > 1]
    if twice:
        places = [i for i, name in enumerate(names) if name == twice[0]]
        shown = ', '.join(f'categories[{i}], id {content["categories"][i]["id"]!r}' for i in places)
        findings.append(
            Finding(
                f'the categories have the name {twice[0]!r} twice ({shown}), so that labels reach '
                f'{len(chosen) - 1} with {len(set(chosen))} classes: give them one category'
            )
        )
    if classes is None:
        return findings
    missing = [name for name in classes if name not in names]
    if missing:
        near = {_plain(name): name for name in names}
        hint = ', '.join(
            f'{name!r} is {near[_plain(name)]!r} there' for name in missing if _plain(name) in near
        )
        findings.append(
            Finding(
                f'classes {listed(missing)} are not among the categories {listed(names)} of the '
                f'file{f" ({hint})" if hint else ""}: set metainfo=dict(classes=...) to the names '
                'in the file, in its order'
            )
        )
    elif not twice and chosen != list(classes):
        fault = 'repeat a name' if len(set(classes)) < len(classes) else 'are in another order'
        findings.append(
            Finding(
                f'classes {listed(classes)} {fault}, and MMDetection numbers them in the order of '
                f'the file: set metainfo=dict(classes={tuple(chosen)!r})'
            )
        )
    left_out = {c['id']: c['name'] for c in content['categories'] if c['name'] not in classes}
    counts = Counter(
        left_out[a['category_id']] for a in content['annotations'] if a['category_id'] in left_out
    )
    if counts and not missing:
        findings.append(
            Finding(
                f'categories {listed(counts)} are not among the classes: left out, with '
                f'{sum(counts.values())} of {len(content["annotations"])} annotations',
                fatal=False,
            )
        )
    return findings


def used_names(content: dict[str, Any], classes: Sequence[str] | None) -> list[str]:
    """Names of the categories that MMDetection numbers, in the order of their labels."""
    names = [category['name'] for category in content['categories']]
    return names if classes is None else [name for name in names if name in classes]


def listed(names: Iterable[Any], limit: int = 10) -> str:
    """Write names so that blanks around them and text for numbers are seen."""
    names = list(names)
    return f'[{", ".join(map(repr, names[:limit]))}{", ..." if len(names) > limit else ""}]'


def places(content: dict[str, Any], found: Sequence[int], key: str | None = None) -> str:
    """Name the first of some annotations, with the value of a key."""
    return _examples('annotations', content, found, key)


def _decode(raw: bytes) -> str:
    for mark, name in (
        (b'\xef\xbb\xbf', 'it starts with a byte order mark (BOM)'),
        (b'\xff\xfe', 'it is UTF-16'),
        (b'\xfe\xff', 'it is UTF-16'),
        (b'\x1f\x8b', 'it is compressed with gzip'),
        (b'PK\x03\x04', 'it is a zip archive'),
        (b'version https://git-lfs', 'it is a pointer of Git LFS (git lfs pull fetches the file)'),
    ):
        if raw.startswith(mark):
            raise ValueError(f'{name}; save it as plain UTF-8 text without BOM')
    if b'\0' in raw[:4]:
        raise ValueError('it is UTF-16 or UTF-32; save it as plain UTF-8 text without BOM')
    if not raw.strip():
        raise ValueError('it is empty')
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f'byte {error.start} ({raw[error.start]:#x}) is no UTF-8; save it as UTF-8 text'
        ) from None


def _explain(error: json.JSONDecodeError) -> str:
    if error.doc.lstrip().startswith('<'):
        return 'it is HTML or XML'
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith('Unterminated string'):
        return (
            f'it ends in the middle, at line {error.lineno} column {error.colno}: was it cut off?'
        )
    return str(error)


def _parse_lightly(text: str) -> Any:
    """Parse without the polygons, in half of the time and a third of the memory."""
    light = POLYGONS.sub('"segmentation":[]', text)
    # Whether what was left out had as many opening as closing brackets.
    if _surplus(text) == _surplus(light):
        with contextlib.suppress(ValueError):
            return json.loads(light, object_hook=_without_segmentation)
    # Faults are told by their places in the file.
    return json.loads(text, object_hook=_without_segmentation)


def _surplus(text: str) -> int:
    return text.count('[') - text.count(']')


def _without_segmentation(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop('segmentation', None)
    return entry


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_size(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_box(value: Any) -> bool:
    return type(value) is list and len(value) == 4 and all(map(_is_number, value))


def _is_flag(value: Any) -> bool:
    return type(value) is bool or _is_number(value)


def _is_text(value: Any) -> bool:
    return type(value) is str and bool(value)


def _is_id(value: Any) -> bool:
    return type(value) is int


def _is_reference(value: Any) -> bool:
    return type(value) in (int, str) or _is_number(value)


_UNIQUE = 'give each a whole number of its own, not in quotes'
RULES: tuple[tuple[str, str, Callable[[Any], bool], str], ...] = (
    ('images', 'id', _is_id, _UNIQUE),
    ('images', 'file_name', _is_text, "give the image's path below data_prefix"),
    ('images', 'width', _is_size, 'give the width in pixels, a number above 0'),
    ('images', 'height', _is_size, 'give the height in pixels, a number above 0'),
    ('annotations', 'id', _is_id, _UNIQUE),
    ('annotations', 'image_id', _is_reference, 'give the id of its image'),
    ('annotations', 'category_id', _is_reference, 'give the id of its category'),
    ('annotations', 'bbox', _is_box, 'give four numbers [x, y, width, height] in pixels'),
    ('annotations', 'area', _is_number, 'give the area in pixels, for a box its width x height'),
    ('annotations', 'iscrowd', _is_flag, 'write 0, or 1 for a crowd, not in quotes'),
    ('categories', 'id', _is_id, _UNIQUE),
    ('categories', 'name', _is_text, 'give it a name'),
)
# What every value has the type of, nearly always.
FAST = {
    _is_id: {int},
    _is_reference: {int},
    _is_number: {int, float},
    _is_size: {int, float},
    _is_flag: {int, bool},
    _is_text: {str},
}
TWICE = {
    'images': 'MMDetection keeps the last image of an id and gives it the boxes of all; '
    'number the images anew, and the image_id of the annotations with them',
    'annotations': 'MMDetection refuses the file; number the annotations anew',
    'categories': 'MMDetection mixes them up; give each category an id of its own',
}


def _misfits(
    entries: list[dict[str, Any]], key: str, fits: Callable[[Any], bool]
) -> dict[str, list[int]]:
    """Indices of the entries whose value does not fit, by kind of fault."""
    column = [entry.get(key, MISSING) for entry in entries]
    # Types alone decide nearly always, at the speed of C.
    if fits is _is_box:
        if _are_boxes(column):
            return {}
    elif set(map(type, column)) <= FAST[fits]:
        if fits is _is_text and all(column):
            return {}
        if fits is _is_number or fits is _is_size:
            positive = fits is _is_number or min(column, default=1) > 0
            if positive and all(map(math.isfinite, column)):
                return {}
        elif fits is not _is_text:
            return {}
    found: dict[str, list[int]] = {}
    for index, value in enumerate(column):
        if not fits(value):
            found.setdefault(_kind(value, fits), []).append(index)
    return found


def _are_boxes(column: list[Any]) -> bool:
    if not set(map(type, column)) <= {list} or not set(map(len, column)) <= {4}:
        return False
    numbers = [number for box in column for number in box]
    return set(map(type, numbers)) <= {int, float} and all(map(math.isfinite, numbers))


def _kind(value: Any, fits: Callable[[Any], bool]) -> str:
    if value is MISSING:
        return 'missing'
    if value is None:
        return 'null'
    if fits is _is_box and isinstance(value, list):
        return 'no four numbers'
    if fits is _is_text and value == '':
        return 'an empty text'
    if isinstance(value, str):
        return 'text'
    if isinstance(value, bool):
        return 'true or false'
    if isinstance(value, float) and not math.isfinite(value):
        return 'NaN or Infinity'
    if isinstance(value, float) and fits is _is_id:
        return 'a decimal number'
    if fits is _is_size:
        return 'a number of 0 or less' if isinstance(value, (int, float)) else 'no number'
    return 'a number' if isinstance(value, (int, float)) else 'a list or object'


def _is_fatal(list_name: str, key: str, kind: str, use: Use) -> bool:
    """Whether MMDetection fails on it, or takes it for something else."""
    if key == 'iscrowd' and kind in ('missing', 'null'):
        return use.evaluated  # training takes it for 0
    if key == 'id' and kind == 'a decimal number':
        return False
    if key == 'id' and kind == 'text':
        # pycocotools takes the text of a category for a list, and computes with those of boxes.
        return list_name != 'images' and use.evaluated
    return True


def _examples(
    list_name: str, content: dict[str, Any], found: Sequence[int], key: str | None
) -> str:
    """Name the first entries by place and id."""
    shown = []
    for index in found[:EXAMPLES]:
        entry = content[list_name][index]
        name = f'{list_name}[{index}]'
        if key != 'id':
            name += f', id {entry.get("id")!r}'
        shown.append(name if key is None else f'{name}: {_short(entry.get(key))}')
    return f'({"; ".join(shown)}{"; ..." if len(found) > EXAMPLES else ""})'


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _plain(name: str) -> str:
    return str(name).strip().strip('\ufeff').casefold()
