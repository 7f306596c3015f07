"""Faster implementations of pycocotools' evaluation, which give its figures."""

import contextlib
import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from mmdet.evaluation.metrics import coco_metric

from mmshuffle.errors import UserError

BACKENDS = ('pycocotools', 'faster-coco-eval', 'hotcoco')


@contextlib.contextmanager
def coco_backend(name: str) -> Iterator[None]:
    """Evaluate COCO metrics with another of :data:`BACKENDS` inside the block."""
    if name == 'pycocotools':
        yield
        return
    try:
        package = importlib.import_module(name.replace('-', '_'))
    except ImportError:
        raise UserError(f'--eval-backend {name} needs it: pip install {name}') from None
    usual = coco_metric.COCOeval
    faster = name == 'faster-coco-eval'
    coco_metric.COCOeval = package.COCOeval_faster if faster else partial(_hotcoco, package)
    try:
        yield
    finally:
        coco_metric.COCOeval = usual


def _hotcoco(package: Any, truth: Any, found: Any, kind: str) -> Any:
    """An evaluation of hotcoco, which takes its own annotations only."""
    own, results = package.COCO(truth.dataset), found.dataset['annotations']
    if kind == 'segm':
        # It would take the area of the box, which pycocotools adds, for that of the mask.
        results = [{k: v for k, v in result.items() if k != 'bbox'} for result in results]
    return package.COCOeval(own, own.load_res(results), kind)
