"""COCO annotation files: read once, and judged by what MMDetection 3.3 does with them."""

import contextlib
import gc
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmshuffle.errors import UserError

EXAMPLES = 3
LISTS = ('images', 'annotations', 'categories')
# Numbers and brackets: no text can be in it, nor the end of the entry.
POLYGONS = re.compile(rb'"segmentation"\s*:\s*\[[-+0-9.eE,\s\[\]]*\]')


class Finding(NamedTuple):
    """One kind of fault in an annotation file, in one line; a run must not start if fatal."""

    message: str
    fatal: bool = True


@dataclass(frozen=True)
class Use:
    """What a run does with an annotation file."""

    classes: tuple[str, ...] | None = None  # names of those trained on, or all of the file's
    labelled: bool = True
    evaluated: bool = False
    masks: bool = False
    poly2mask: bool = True  # whether masks are rendered; if not, MMDetection leaves run lengths out
    min_size: int = 0  # images with a shorter side below it, in pixels, are left out
    filter_empty: bool = False  # whether images without annotations of the classes are left out


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python's garbage collector from looking for cycles among millions of objects."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@uncollected()
def read_annotations(
    path: str | Path, test_mode: bool = False, masks: bool = True
) -> dict[str, Any]:
    """Read a COCO annotation file as pycocotools would.

    Args:
        test_mode: Accept a file without annotations, as COCO's test-dev has.
        masks: Keep the polygons, which are most of a large file; if not, 0 stands for each.

    Raises:
        UserError: It does not exist, is no UTF-8 or no JSON, or lacks one of COCO's three lists of
            objects.
    """
    path = Path(path)
    if not path.is_file():
        what = 'is a folder' if path.is_dir() else 'does not exist'
        raise UserError(f'annotation file {path} {what}; fix data_root or ann_file')
    try:
        content = None if masks else _parse_lightly(path)
        content = content or json.loads(_decode(path.read_bytes()))
    except OSError as error:
        raise UserError(f'annotation file {path} cannot be read: {error.strerror}') from None
    except (ValueError, RecursionError) as error:
        raise UserError(f'annotation file {path} is no valid JSON: {_explain(error)}') from None
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
            what = f', but a {type(entries).__name__}' if key in content else ''
            raise UserError(f'annotation file {path} has no list {key!r}{what}; give a COCO file')
        if not set(map(type, entries)) <= {dict}:
            index = next(i for i, entry in enumerate(entries) if not isinstance(entry, dict))
            raise UserError(
                f'annotation file {path}: {key}[{index}] is {entries[index]!r}, not an object; '
                'give a COCO file'
            )
    if any('segments_info' in entry for entry in content['annotations'][:1]):
        raise UserError(
            f'annotation file {path} has panoptic segments (segments_info), and no boxes: give the '
            'instances file, or a CocoPanopticDataset'
        )
    return content


def check_categories(content: dict[str, Any], classes: Sequence[str] | None) -> Iterator[Finding]:
    """Compare the categories of a file with the classes of a config, where it names them.

    MMDetection numbers the classes by the order of the file's categories, whatever the config says.
    """
    names = [category['name'] for category in content['categories']]
    chosen = used_categories(content, classes, 'name')
    twice = [name for name, count in Counter(chosen).items() if count > 1]
    if twice:
        places = [i for i, name in enumerate(names) if name == twice[0]]
        shown = ', '.join(f'categories[{i}], id {content["categories"][i]["id"]!r}' for i in places)
        yield Finding(
            f'the categories have the name {twice[0]!r} twice ({shown}), so that labels reach '
            f'{len(chosen) - 1} with {len(set(chosen))} classes: give them one category'
        )
    if classes is None:
        return
    missing = [name for name in classes if name not in names]
    if missing:
        near = {_plain(name): name for name in names}
        hint = ', '.join(
            f'{name!r} is {near[_plain(name)]!r} there' for name in missing if _plain(name) in near
        )
        yield Finding(
            f'classes {listed(missing)} are not among the categories {listed(names)} of the file'
            f'{f" ({hint})" if hint else ""}: set metainfo=dict(classes=...) to the names in the '
            'file, in its order'
        )
    elif not twice and chosen != list(classes):
        fault = 'repeat a name' if len(set(classes)) < len(classes) else 'are in another order'
        yield Finding(
            f'classes {listed(classes)} {fault}, and MMDetection numbers them in the order of the '
            f'file: set metainfo=dict(classes={tuple(chosen)!r})'
        )
    left_out = {c['id']: c['name'] for c in content['categories'] if c['name'] not in classes}
    counts = Counter(
        left_out[a['category_id']] for a in content['annotations'] if a['category_id'] in left_out
    )
    if counts and not missing:
        yield Finding(
            f'categories {listed(counts)} are not among the classes: left out, with '
            f'{sum(counts.values())} of {len(content["annotations"])} annotations',
            fatal=False,
        )


def used_categories(
    content: dict[str, Any], classes: Sequence[str] | None, key: str = 'id'
) -> list[Any]:
    """Ids, or another key, of the categories that MMDetection numbers, in the order of labels."""
    return [c[key] for c in content['categories'] if classes is None or c['name'] in classes]


def listed(names: Iterable[Any], limit: int = 10) -> str:
    """Write names so that blanks around them and text for numbers are seen."""
    names = list(names)
    return f'[{", ".join(map(repr, names[:limit]))}{", ..." if len(names) > limit else ""}]'


def examples(
    content: dict[str, Any],
    found: Sequence[int],
    key: str | None = None,
    list_name: str = 'annotations',
) -> str:
    """Name the first of some entries by place and id, with the value of a key."""
    shown = []
    for index in found[:EXAMPLES]:
        entry = content[list_name][index]
        name = '' if key == 'id' else f', id {entry.get("id")!r}'
        value = '' if key is None else f': {_short(entry.get(key))}'
        shown.append(f'{list_name}[{index}]{name}{value}')
    return f'({"; ".join(shown)}{"; ..." if len(found) > EXAMPLES else ""})'


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
        message = f'byte {error.start} ({raw[error.start]:#x}) is no UTF-8; save it as UTF-8 text'
        raise ValueError(message) from None


def _explain(error: Exception) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    if error.doc.lstrip().startswith('<'):
        return 'it is HTML or XML'
    if error.pos < len(error.doc.rstrip()) and not error.msg.startswith('Unterminated string'):
        return str(error)
    return f'it ends in the middle, at line {error.lineno} column {error.colno}: was it cut off?'


def _parse_lightly(path: Path) -> Any:
    """Parse without the polygons, in half of the time; None where that fails.

    Faults are told by their places in the whole file.
    """
    raw = path.read_bytes()
    light = POLYGONS.sub(b'"segmentation":0', raw)
    # Whether what was left out had as many opening as closing brackets.
    surplus = [text.count(b'[') - text.count(b']') for text in (raw, light)]
    del raw
    with contextlib.suppress(ValueError):
        if surplus[0] == surplus[1]:
            return json.loads(_decode(light))
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _plain(name: str) -> str:
    return str(name).strip().strip('\ufeff').casefold()
