"""What MMDetection keeps of an annotation file's boxes and masks, counted without loading it."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from .annotations import Finding, Use, examples, used_categories
from .entries import is_finite

# A share of boxes that are lost is worth a line from here on; COCO's own files lose 2 %.
WORTH_A_LINE = 0.05
PIXEL = 1.0
RUNS = 'run lengths that do not add up to the image'
TOO_SHORT = 'only polygons of fewer than 6 numbers or an odd count, which MMDetection leaves out,'


@dataclass(frozen=True)
class Kept:
    """What is left of a file."""

    boxes: int  # number of boxes that are trained on, or count in an evaluation
    total: int  # number of annotations of the classes
    lost: dict[str, np.ndarray]  # indices of the other annotations of the classes, by reason
    images: np.ndarray  # whether each image is used, of shape (images,)


class _Columns:
    """The annotations of a file as arrays, in their order.

    Attributes:
        boxes: Of shape (annotations, 4).
        owner: Index of the image of each.
        sizes: Width and height of the images, of shape (images, 2).
        image: Width and height of the image of each, of shape (2, annotations).
        inside: Pixels of each box that are inside its image.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        images, self._annotations = content['images'], content['annotations']
        count = len(self._annotations)
        flat = itertools.chain.from_iterable(map(itemgetter('bbox'), self._annotations))
        self.boxes = np.fromiter(flat, np.float64, 4 * count).reshape(-1, 4)
        index = {image['id']: i for i, image in enumerate(images)}
        ids = map(itemgetter('image_id'), self._annotations)
        self.owner = np.fromiter(map(index.__getitem__, ids), np.int64, count)
        self.sizes = np.array([(i['width'], i['height']) for i in images], float).reshape(-1, 2)
        size = self.sizes[self.owner]
        self.image = size.T
        start, extent = np.hsplit(self.boxes, 2)
        inside = np.minimum(start + extent, size) - np.maximum(start, 0)
        self.inside = inside.clip(0).prod(axis=1)

    def where(self, holds: Callable[[dict[str, Any]], Any]) -> np.ndarray:
        """Whether something holds for each, of shape (annotations,)."""
        return np.fromiter(map(holds, self._annotations), bool, len(self._annotations))


def _count_kept(content: dict[str, Any], use: Use, columns: _Columns) -> Kept:
    """Apply the rules of ``mmdet.datasets.CocoDataset`` (3.3) and, with masks, of LoadAnnotations.

    A box of a crowd is kept by MMDetection, but only to be ignored: it counts as lost.
    """
    labels = set(used_categories(content, use.classes))
    wanted = columns.where(lambda a: a['category_id'] in labels)
    width, height = columns.boxes[:, 2:].T
    used = columns.sizes.min(axis=1, initial=np.inf) >= use.min_size
    if use.filter_empty:
        used &= np.bincount(columns.owner[wanted], minlength=len(used)) > 0
    reasons = {
        'marked with ignore': columns.where(lambda a: a.get('ignore')),
        'narrower or lower than 1 pixel': (width < 1) | (height < 1),
        'with an area of 0 or less': columns.where(lambda a: a['area'] <= 0),
        'outside the image': columns.inside == 0,
        'of a crowd (iscrowd)': columns.where(lambda a: a.get('iscrowd')),
        f'in images with a side below {use.min_size} (min_size)': ~used[columns.owner],
    }
    if use.masks:
        reasons['without a usable mask'] = ~columns.where(
            lambda a: _mask_is_used(a.get('segmentation'), use.poly2mask)
        )
    left, lost = wanted.copy(), {}
    for reason, holds in reasons.items():
        if (left & holds).any():
            lost[reason] = np.flatnonzero(left & holds)
            left &= ~holds
    return Kept(int(left.sum()), int(wanted.sum()), lost, used)


def check_boxes(content: dict[str, Any], use: Use) -> tuple[list[Finding], Kept]:
    """Find boxes in another format, masks that fail, and how much is left to train on.

    The file has no fatal findings of ``check_entries``.
    """
    columns = _Columns(content)
    kept = _count_kept(content, use, columns)
    labelled = use.labelled and content['annotations']
    findings = list(_check_format(content, columns)) if labelled else []
    if use.labelled and use.masks:
        findings += _check_masks(content, use)
    if not content['images']:
        findings.append(Finding('the file lists no images'))
    elif not kept.images.any():
        message = 'filter_cfg leaves out those without annotations of the classes and those with'
        message = f'{message} a side below {use.min_size} (min_size)'
        findings.append(Finding(f'none of {len(kept.images)} images is left: {message}'))
    elif use.classes and not used_categories(content, use.classes):
        pass  # check_categories says so
    elif use.labelled and not any(finding.fatal for finding in findings):
        findings += _check_kept(content, kept)
    return findings, kept


def _check_kept(content: dict[str, Any], kept: Kept) -> Iterator[Finding]:
    if not kept.total:
        yield Finding('the file has no annotations of the classes: nothing can be learnt from it')
    lost = kept.total - kept.boxes
    if not kept.total or lost < WORTH_A_LINE * kept.total:
        return
    told = []
    for reason, found in kept.lost.items():
        key = 'area' if 'area' in reason else 'segmentation' if 'mask' in reason else 'bbox'
        told.append(f'{len(found)} {reason} {examples(content, found, key)}')
    head = f'all {kept.total} boxes, nothing is left to learn from'
    if kept.boxes:
        head = f'{lost} of {kept.total} boxes ({lost / kept.total:.0%})'
    message = f'MMDetection leaves out {head}: {", ".join(told)}: fix or remove them'
    yield Finding(message, fatal=not kept.boxes)


# Other ways to write a box: how to get the usual one, and the corners x1, y1, x2, y2 that it means.
READINGS: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    (
        '[centre x, centre y, width, height]',
        'give [x - width / 2, y - height / 2, width, height]',
        lambda x, y, w, h: (x - w / 2, y - h / 2, x + w / 2, y + h / 2),
    ),
    (
        '[y, x, height, width]',
        'give [x, y, width, height], or swap width and height of the images if these are wrong',
        lambda y, x, h, w: (x, y, x + w, y + h),
    ),
    ('[y1, x1, y2, x2]', 'give [x1, y1, x2 - x1, y2 - y1]', lambda y, x, b, r: (x, y, r, b)),
)


def _check_format(content: dict[str, Any], columns: _Columns) -> Iterator[Finding]:
    boxes, (width, height) = columns.boxes, columns.image
    x, y, w, h = boxes.T
    negative = np.flatnonzero((w < 0) | (h < 0))
    if len(negative):
        yield Finding(
            f'{len(negative)} of {len(boxes)} annotations have a negative bbox '
            f'{examples(content, negative, "bbox")}: give [x, y, width, height] with width and '
            'height above 0'
        )
    if boxes.max() <= 1:
        yield Finding(
            f'all {len(boxes)} boxes are between 0 and 1 {examples(content, [0], "bbox")}: give '
            "pixels, x and width times the image's width, y and height times its height, x and y "
            'of the upper left corner'
        )
        return
    # Of boxes that are [x, y, width, height], hardly any set has all of them below and right of
    # their own size and still many that reach out of the image.
    out = (x + w > width + PIXEL) | (y + h > height + PIXEL)
    corners = (w > x) & (h > y) & (w <= width + PIXEL) & (h <= height + PIXEL)
    shown = examples(content, np.flatnonzero(out), 'bbox')
    reach = f'as [x, y, width, height], {out.sum()} of {len(boxes)} reach out of their image'
    if corners.sum() >= 0.99 * len(boxes) and out.sum() >= 0.2 * len(boxes):
        yield Finding(
            f'the boxes are [x1, y1, x2, y2] {shown}: {reach}; give [x1, y1, x2 - x1, y2 - y1]'
        )
        return
    for reading, fix, read in READINGS if out.sum() >= max(3, 0.02 * len(boxes)) else ():
        left, top, right, bottom = read(x, y, w, h)
        fits = (left >= -PIXEL) & (top >= -PIXEL) & (left < right) & (top < bottom)
        fits &= (right <= width + PIXEL) & (bottom <= height + PIXEL)
        # Few enough misfits that it explains what is seen.
        if 20 * np.count_nonzero(~fits) <= out.sum():
            yield Finding(
                f'the boxes seem to be {reading} {shown}: {reach}, and so they would fit: if they '
                f'are, {fix}',
                fatal=False,
            )
            return
    far = np.flatnonzero((columns.inside > 0) & (columns.inside < 0.5 * w * h))
    if len(far) >= WORTH_A_LINE * len(boxes):
        yield Finding(
            f'{len(far)} of {len(boxes)} boxes are more than half outside their image '
            f'{examples(content, far, "bbox")}: give [x, y, width, height] in pixels of the '
            'image as it is on disk',
            fatal=False,
        )


def _check_masks(content: dict[str, Any], use: Use) -> Iterator[Finding]:
    """Find segmentations on which MMDetection or pycocotools fails."""
    labels = set(used_categories(content, use.classes))
    sizes = {image['id']: [image['height'], image['width']] for image in content['images']}
    faults: dict[str, list[int]] = {}
    for index, annotation in enumerate(content['annotations']):
        if annotation['category_id'] not in labels or annotation.get('ignore'):
            continue
        fault = _mask_fault(annotation.get('segmentation'), sizes[annotation['image_id']])
        if fault:
            faults.setdefault(fault, []).append(index)
    for fault, found in faults.items():
        yield Finding(
            f'{len(found)} of {len(content["annotations"])} annotations have {fault} '
            f'{examples(content, found, "segmentation")}: give polygons [[x1, y1, x2, y2, x3, y3, '
            '...], ...] or run lengths {"size": [height, width], "counts": ...}, or train without '
            'masks',
            fatal=fault != TOO_SHORT,
        )


def _mask_fault(mask: Any, size: list[float]) -> str | None:
    if not mask:
        return 'no segmentation, and masks are trained or evaluated'
    if isinstance(mask, list):
        if not all(type(part) is list for part in mask):
            return 'a segmentation that is no list of lists'
        values = [value for part in mask for value in part]
        if not set(map(type, values)) <= {int, float} or not is_finite([*values, 0.0]):
            return 'a segmentation with something other than numbers'
        return None if _mask_is_used(mask, poly2mask=True) else TOO_SHORT
    if not isinstance(mask, dict):
        return 'a segmentation that is no list or object'
    counts = mask.get('counts')
    if not isinstance(counts, (str, list)) or mask.get('size') != size:
        return 'run lengths without counts, or with another size than the image'
    if isinstance(counts, list):
        if not set(map(type, counts)) <= {int} or min(counts, default=0) < 0:
            return 'run lengths with something other than whole numbers'
        return None if sum(counts) == size[0] * size[1] else RUNS
    try:
        coco_mask.decode(dict(size=list(map(int, size)), counts=counts))
    except ValueError:
        return RUNS
    return None


def _mask_is_used(mask: Any, poly2mask: bool) -> bool:
    if isinstance(mask, list):
        return any(isinstance(p, list) and len(p) % 2 == 0 and len(p) >= 6 for p in mask)
    return poly2mask and bool(mask)
