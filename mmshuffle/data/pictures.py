"""The image files of a data set: whether they are there, decode, and fit their annotations."""

import contextlib
import hashlib
import io
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import mmcv
import numpy as np
from PIL import Image, UnidentifiedImageError

from .annotations import EXAMPLES, Finding, listed

SAMPLE = 32
ORIENTATION = 0x0112  # EXIF 2.32, table 4
SWAPS_SIDES = (5, 6, 7, 8)  # of its values
# Of 256; a photograph has nearly all of them.
FEW_LEVELS = 32
TIFF = (b'II*\0', b'MM\0*')
# In pixels; some tools round the size of an image that they scale.
SIZE_TOLERANCE = 1


@dataclass(frozen=True)
class Loading:
    """How a pipeline reads images."""

    color_type: str = 'color'  # ``color_type`` of mmcv's LoadImageFromFile
    backend: str | None = 'cv2'  # its ``imdecode_backend``
    tolerated: int = 0  # number of unreadable images that a run passes over


@dataclass(frozen=True)
class Fault:
    """What is wrong with one image."""

    kind: str
    path: str
    detail: str


# What each kind of fault means, what to do, and whether a run must not start.
KINDS = {
    'unreadable': ('cannot be read', 'fix or remove them', True),
    'cut off': ('are cut off, and load with a grey part', 'fetch them again', False),
    'exif': (
        'are turned by their EXIF orientation when they are loaded, and the annotations have the '
        'size of the unturned pixels, so that no box fits',
        'write the images anew without EXIF orientation (mogrify -strip), or annotate them turned',
        True,
    ),
    'exif unknown': (
        'are turned by their EXIF orientation when they are loaded, which their size does not show',
        'if they were annotated unturned, remove the EXIF orientation',
        False,
    ),
    'swapped': (
        'have width and height the other way round than the annotations',
        'swap them in the file',
        True,
    ),
    'size': (
        'have another size than the annotations say',
        'annotate the images that are here, or scale boxes and sizes with them',
        True,
    ),
    'few levels': (
        'have 16 bits a pixel, of which 8 are kept, and few grey levels are left',
        'scale them to 8 bits by their own range first',
        False,
    ),
}


def find_missing(folder: str | Path, names: Iterable[str]) -> list[str]:
    """Find names of which a folder has no file, by a listing of each folder instead of a stat each.

    Only what symbolic links lead to is looked up.
    """
    listings: dict[str, set[str]] = {}
    missing = []
    for name in names:
        head, tail = os.path.split(name)
        if head not in listings:
            listings[head] = set()
            path = os.path.join(folder, head) or '.'
            with contextlib.suppress(OSError, ValueError), os.scandir(path) as entries:
                listings[head] = {
                    entry.name
                    for entry in entries
                    if not entry.is_dir() and (not entry.is_symlink() or entry.is_file())
                }
        if tail not in listings[head]:
            missing.append(name)
    return missing


def explain_missing(
    folder: str | Path, root: str | Path, missing: Sequence[str], total: int
) -> str:
    """Say which images are missing and, where that can be told, why."""
    shown = listed(missing, EXAMPLES)[1:-1]
    name = missing[0]
    hint = 'fix data_prefix, or remove them from the file'
    if not Path(folder).is_dir():
        hint = 'that folder does not exist: fix data_prefix'
    elif '\\' in name and not find_missing(folder, [name.replace('\\', '/')]):
        hint = 'write the paths with / instead of \\'
    elif '\\' in name:
        hint = 'write the paths with / instead of \\, relative to data_prefix'
    elif os.path.isabs(name):
        hint = 'absolute paths are of another machine: write them relative to data_prefix'
    elif not find_missing(root, [name]):
        hint = 'the names have the folder in them, leave it out of data_prefix'
        hint = f'they are below {root}: {hint}'
    elif '/' in name and not find_missing(folder, [name.rpartition('/')[2]]):
        hint = 'they are there without the folders in their names: remove these, or fix data_prefix'
    elif alike := _alike(folder, name):
        hint = f'there is {alike!r}: write the names as they are on the disk'
    return f'{len(missing)} of {total} images are missing in {folder} ({shown}): {hint}'


def sample(count: int) -> list[int]:
    """Indices of a fixed sample: the first, the last and evenly spaced ones between."""
    return sorted(set(np.linspace(0, count - 1, min(count, SAMPLE)).round().astype(int).tolist()))


def inspect_image(
    path: str | Path, size: tuple[float, float] | None = None, loading: Loading = Loading()
) -> tuple[str | None, list[Fault]]:
    """Read an image as a pipeline does and compare it with what its annotations say.

    Returns:
        A hash of the file, None where it cannot be read, and what is wrong.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return None, [Fault('unreadable', str(path), error.strerror or str(error))]
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return digest, _inspect(content, str(path), size, loading)


def _inspect(
    content: bytes, path: str, size: tuple[float, float] | None, loading: Loading
) -> list[Fault]:
    if not content:
        return [Fault('unreadable', path, 'it is empty')]
    try:
        pixels = mmcv.imfrombytes(content, flag=loading.color_type, backend=loading.backend)
    except (cv2.error, OSError, ValueError, UnidentifiedImageError) as error:
        return [Fault('unreadable', path, str(error).splitlines()[0])]
    orientation, cut_off = _look_into(content)
    if pixels is None:
        why = f': {cut_off}' if cut_off else ''
        return [Fault('unreadable', path, f'it does not decode{why}')]
    faults = []
    if cut_off:
        faults.append(Fault('cut off', path, cut_off))
    if size is not None:
        turned = orientation != 1 and _is_turned(content, pixels, loading)
        faults += _compare_size(path, size, pixels, orientation if turned else 1)
    faults += _check_levels(content, path, pixels, loading)
    return faults


def summarise(
    faults: Iterable[Fault], opened: int, loading: Loading, of_sample: bool = True
) -> list[Finding]:
    """Put faults of the same kind into one line."""
    by_kind: dict[str, list[Fault]] = {}
    for fault in faults:
        by_kind.setdefault(fault.kind, []).append(fault)
    findings = []
    for kind, found in by_kind.items():
        what, fix, fatal = KINDS[kind]
        if kind == 'unreadable':
            fatal = len(found) > min(loading.tolerated, opened - 1)
        shown = '; '.join(f'{fault.path}: {fault.detail}' for fault in found[:EXAMPLES])
        more = '; ...' if len(found) > EXAMPLES else ''
        whole = f'{opened} images that were opened' if of_sample else f'{opened} images'
        findings.append(Finding(f'{len(found)} of {whole} {what} ({shown}{more}): {fix}', fatal))
    return findings


def _look_into(content: bytes) -> tuple[int, str | None]:
    """EXIF orientation, and where the data ends too early."""
    orientation = None
    try:
        with Image.open(io.BytesIO(content)) as image:
            orientation = image.getexif().get(ORIENTATION, 1)
            image.draft(None, (image.width // 8 or 1, image.height // 8 or 1))
            image.load()
            return orientation, None
    except Exception as error:  # Pillow knows fewer formats than cv2, which is no fault of an image
        damaged = orientation is not None and isinstance(error, (OSError, SyntaxError, EOFError))
        return orientation or 1, str(error) if damaged or 'truncated' in str(error) else None


def _is_turned(content: bytes, pixels: np.ndarray, loading: Loading) -> bool:
    """Whether the pixels were turned; which formats are depends on OpenCV's version."""
    if loading.color_type not in ('color', 'grayscale'):
        return False
    if loading.backend not in ('cv2', None):
        return loading.backend == 'pillow'
    flag = f'{loading.color_type}_ignore_orientation'
    return not np.array_equal(mmcv.imfrombytes(content, flag=flag, backend='cv2'), pixels)


def _compare_size(
    path: str, size: tuple[float, float], pixels: np.ndarray, orientation: int
) -> list[Fault]:
    loaded = (pixels.shape[1], pixels.shape[0])
    detail = f'{_by(loaded)} loaded, {_by(size)} in the annotations'
    if orientation != 1:
        detail += f', orientation {orientation}'
    if _close(loaded, size):
        # Upside down or mirrored, or square: the size is the same either way.
        unknown = orientation in (2, 3, 4) or (orientation != 1 and loaded[0] == loaded[1])
        return [Fault('exif unknown', path, detail)] if unknown else []
    if _close(loaded, size[::-1]):
        return [Fault('exif' if orientation in SWAPS_SIDES else 'swapped', path, detail)]
    return [Fault('size', path, detail)]


def _check_levels(content: bytes, path: str, pixels: np.ndarray, loading: Loading) -> list[Fault]:
    # Only PNG and TIFF files come with 16 bits; a second decoding of all others would be waste.
    deep = content[24:25] == b'\x10' if content.startswith(b'\x89PNG') else content[:4] in TIFF
    if not deep or pixels.dtype != np.uint8 or loading.backend not in ('cv2', None):
        return []
    stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16:
        return []
    before, after = len(np.unique(stored)), len(np.unique(pixels))
    if after >= FEW_LEVELS or before <= 2 * after:
        return []
    return [Fault('few levels', path, f'{after} of {before} levels')]


def _alike(folder: str | Path, name: str) -> str | None:
    """A file whose name differs in case, the form of accents, blanks or its suffix only."""
    head, _, tail = name.rpartition('/')
    with contextlib.suppress(OSError):
        there = os.listdir(os.path.join(folder, head))
        for plain in (_plain, lambda n: _plain(os.path.splitext(n)[0])):
            for other in there:
                if plain(other) == plain(tail):
                    return other
    return None


def _plain(name: str) -> str:
    return unicodedata.normalize('NFC', name).strip().casefold()


def _close(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return all(abs(x - y) <= SIZE_TOLERANCE for x, y in zip(a, b, strict=True))


def _by(size: tuple[float, float]) -> str:
    return f'{size[0]:g}x{size[1]:g}'
