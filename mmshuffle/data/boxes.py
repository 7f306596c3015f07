"""What MMDetection keeps of an annotation file's boxes and masks, counted without loading it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from .annotations import Finding, Use, examples, used_names
from .entries import is_finite

# A share of boxes that are lost is worth a line from here on; COCO's own files lose 2 %.
WORTH_A_LINE = 0.05
PIXEL = 1.0
RUNS = 'run lengths that do not add up to the image'
TOO_SHORT = 'only polygons of fewer than 6 numbers or an odd count, which MMDetection leaves out,'


@dataclass(frozen=True)
class Kept:
    """What is left of a file.

    Attributes:
        boxes: Number of boxes that are trained on, or count in an evaluation.
        total: Number of annotations of the classes.
        lost: Indices of the other annotations of the classes, by reason.
        images: Whether each image is used, of shape (images,).
    """

    boxes: int
    total: int
    lost: dict[str, np.ndarray]
    images: np.ndarray


def count_kept(content: dict[str, Any], use: Use) -> Kept:
    """Apply the rules of ``mmdet.datasets.CocoDataset`` (3.3) and, with masks, of LoadAnnotations.

    A box of a crowd is kept by MMDetection, but only to be ignored: it counts as lost.

    Args:
        content: A COCO annotation file without fatal findings of ``check_entries``.
        use: What the run does with it.
    """
    images, annotations = content['images'], content['annotations']
    names = set(used_names(content, use.classes))
    labels = {c['id'] for c in content['categories'] if c['name'] in names}
    wanted = _column(annotations, lambda a: a['category_id'] in labels, bool)
    sizes = _image_sizes(images)
    owner = _owners(content)
    x, y, w, h = _boxes(annotations).T
    width, height = sizes[owner].T
    inside_w = np.maximum(0, np.minimum(x + w, width) - np.maximum(x, 0))
    inside_h = np.maximum(0, np.minimum(y + h, height) - np.maximum(y, 0))
    area = _column(annotations, lambda a: a['area'], np.float64)
    with_owner = wanted & (owner >= 0)
    used = np.ones(len(images), bool)
    if use.filter_empty:
        used[:] = False
        used[owner[with_owner]] = True
    used &= sizes.min(axis=1, initial=np.inf) >= use.min_size
    reasons = {
        'marked with ignore': _column(annotations, lambda a: bool(a.get('ignore')), bool),
        'narrower or lower than 1 pixel': (w < 1) | (h < 1),
        'with an area of 0 or less': area <= 0,
        'outside the image': inside_w * inside_h == 0,
        'of a crowd (iscrowd)': _column(annotations, lambda a: bool(a.get('iscrowd')), bool),
        f'in images with a side below {use.min_size} (min_size)': ~used[owner],
    }
    if use.masks:
        reasons['without a usable mask'] = ~_column(
            annotations, lambda a: _mask_is_used(a.get('segmentation'), use.poly2mask), bool
        )
    left, lost = with_owner.copy(), {}
    for reason, holds in reasons.items():
        if (left & holds).any():
            lost[reason] = np.flatnonzero(left & holds)
            left &= ~holds
    return Kept(int(left.sum()), int(with_owner.sum()), lost, used)


def check_boxes(content: dict[str, Any], use: Use) -> tuple[list[Finding], Kept]:
    """Find boxes in another format, masks that fail, and how much is left to train on.

    Args:
        content: A COCO annotation file without fatal findings of ``check_entries``.
        use: What the run does with it.
    """
    kept = count_kept(content, use)
    findings = _check_format(content) if use.labelled else []
    if use.labelled and use.masks:
        findings += _check_masks(content, use)
    if not content['images']:
        findings.append(Finding('the file lists no images'))
    elif not kept.images.any():
        findings.append(
            Finding(
                f'none of {len(kept.images)} images is left: filter_cfg leaves out those without '
                f'annotations of the classes and those with a side below {use.min_size} (min_size)'
            )
        )
    elif use.classes and not used_names(content, use.classes):
        pass  # check_categories says so
    elif use.labelled and not any(finding.fatal for finding in findings):
        findings += _check_kept(content, kept)
    return findings, kept


def _check_kept(content: dict[str, Any], kept: Kept) -> list[Finding]:
    if not kept.total:
        return [
            Finding('the file has no annotations of the classes: nothing can be learnt from it')
        ]
    lost = kept.total - kept.boxes
    if lost < WORTH_A_LINE * kept.total:
        return []
    told = []
    for reason, found in kept.lost.items():
        key = 'area' if 'area' in reason else 'segmentation' if 'mask' in reason else 'bbox'
        told.append(f'{len(found)} {reason} {examples(content, found, key)}')
    head = (
        f'MMDetection leaves out {lost} of {kept.total} boxes ({lost / kept.total:.0%})'
        if kept.boxes
        else f'MMDetection leaves out all {kept.total} boxes, nothing is left to learn from'
    )
    return [Finding(f'{head}: {", ".join(told)}: fix or remove them', fatal=not kept.boxes)]


def _check_format(content: dict[str, Any]) -> list[Finding]:
    annotations = content['annotations']
    if not annotations:
        return []
    boxes, findings = _boxes(annotations), []
    x, y, w, h = boxes.T
    negative = np.flatnonzero((w < 0) | (h < 0))
    if len(negative):
        findings.append(
            Finding(
                f'{len(negative)} of {len(boxes)} annotations have a negative bbox '
                f'{examples(content, negative, "bbox")}: give [x, y, width, height] with width and '
                'height above 0'
            )
        )
    owner = _owners(content)
    width, height = _image_sizes(content['images'])[owner].T
    known = owner >= 0
    if boxes.max() <= 1:
        return [
            *findings,
            Finding(
                f'all {len(boxes)} boxes are between 0 and 1 {examples(content, [0], "bbox")}: '
                "give pixels, x and width times the image's width, y and height times its height"
            ),
        ]
    # Of boxes that are [x, y, width, height], hardly any set has all of them below and right of
    # their own size and still many that reach out of the image.
    out = known & ((x + w > width + PIXEL) | (y + h > height + PIXEL))
    corners = known & (w > x) & (h > y) & (w <= width + PIXEL) & (h <= height + PIXEL)
    if corners.sum() >= 0.99 * len(boxes) and out.sum() >= 0.2 * len(boxes):
        return [
            *findings,
            Finding(
                f'the boxes are [x1, y1, x2, y2] {examples(content, np.flatnonzero(out), "bbox")}: '
                f'as [x, y, width, height], {out.sum()} of {len(boxes)} reach out of their image; '
                'give [x1, y1, x2 - x1, y2 - y1]'
            ),
        ]
    inside = np.clip(np.minimum(x + w, width) - np.maximum(x, 0), 0, None) * np.clip(
        np.minimum(y + h, height) - np.maximum(y, 0), 0, None
    )
    far = np.flatnonzero(known & (inside > 0) & (inside < 0.5 * w * h))
    if len(far) >= WORTH_A_LINE * len(boxes):
        findings.append(
            Finding(
                f'{len(far)} of {len(boxes)} boxes are more than half outside their image '
                f'{examples(content, far, "bbox")}: give [x, y, width, height] in pixels of the '
                'image as it is on disk',
                fatal=False,
            )
        )
    return findings


def _check_masks(content: dict[str, Any], use: Use) -> list[Finding]:
    """Find segmentations on which MMDetection or pycocotools fails."""
    names = set(used_names(content, use.classes))
    labels = {c['id'] for c in content['categories'] if c['name'] in names}
    sizes = {image['id']: [image['height'], image['width']] for image in content['images']}
    faults: dict[str, list[int]] = {}
    for index, annotation in enumerate(content['annotations']):
        if annotation['category_id'] not in labels or annotation.get('ignore'):
            continue
        fault = _mask_fault(annotation.get('segmentation'), sizes[annotation['image_id']])
        if fault:
            faults.setdefault(fault, []).append(index)
    return [
        Finding(
            f'{len(found)} of {len(content["annotations"])} annotations have {fault} '
            f'{examples(content, found, "segmentation")}: give polygons [[x1, y1, x2, y2, x3, y3, '
            '...], ...] or run lengths {"size": [height, width], "counts": ...}, or train without '
            'masks',
            fatal=fault != TOO_SHORT,
        )
        for fault, found in faults.items()
    ]


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


def _owners(content: dict[str, Any]) -> np.ndarray:
    """Index of the image of each annotation, -1 without one."""
    index = {image['id']: i for i, image in enumerate(content['images'])}
    return _column(content['annotations'], lambda a: index.get(a['image_id'], -1), np.int64)


def _image_sizes(images: list[dict[str, Any]]) -> np.ndarray:
    """Width and height of each image, of shape (images, 2)."""
    return np.array([(i['width'], i['height']) for i in images], np.float64).reshape(-1, 2)


def _boxes(annotations: list[dict[str, Any]]) -> np.ndarray:
    flat = (value for annotation in annotations for value in annotation['bbox'])
    return np.fromiter(flat, np.float64, 4 * len(annotations)).reshape(-1, 4)


def _column(
    entries: list[dict[str, Any]], value: Callable[[dict[str, Any]], Any], dtype: Any
) -> np.ndarray:
    return np.fromiter(map(value, entries), dtype, len(entries))
