#!/usr/bin/env python3
"""Time the implementations of COCO's evaluation against each other, and compare their figures.

Detections are the boxes of an annotation file, moved, scaled and partly renamed at random.
"""

import contextlib
import io
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from mmdet.evaluation.metrics import coco_metric
from pycocotools.coco import COCO

from mmshuffle.analysis.paired import read_truth
from mmshuffle.engine import cli
from mmshuffle.engine.coco_eval import BACKENDS, coco_backend
from mmshuffle.errors import UserError
from mmshuffle.reporting import markdown_table

EXAMPLE = """example:
  python tools/benchmarks/coco_eval.py data/coco/annotations/instances_val2017.json
"""


def main(argv: list[str] | None = None) -> None:
    """Let the implementations take turns, then print the table."""
    parser = cli.make_parser(__doc__, EXAMPLE)
    parser.add_argument('ann_file', help='COCO annotation file')
    parser.add_argument('--per-box', type=int, default=3, help='detections (default %(default)s)')
    parser.add_argument('--rounds', type=int, default=5, help='default %(default)s')
    args = parser.parse_args(argv)
    truth = read_truth(args.ann_file)
    results = draw_results(truth, args.per_box)
    seconds: dict[str, list[float]] = {name: [] for name in BACKENDS}
    figures = {}
    for _ in range(args.rounds):
        for name in BACKENDS:
            with coco_backend(name):
                spent, figures[name] = evaluate(coco_metric.COCOeval, truth, results)
            seconds[name].append(spent)
    for name in BACKENDS:
        if not np.array_equal(figures[name], figures[BACKENDS[0]]):
            raise UserError(f'{name} has other figures: {figures[name]}, {figures[BACKENDS[0]]}')
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    usual = medians[BACKENDS[0]]
    rows = [[n, version(n), f'{s:.2f}', f'{usual / s:.1f}'] for n, s in medians.items()]
    print(f'{len(truth.imgs)} images, {len(truth.anns)} boxes, {len(results)} detections')
    print(markdown_table(['implementation', 'version', 's', 'speed-up'], rows))
    print('All twelve figures are equal.')


def draw_results(truth: COCO, per_box: int) -> list[dict[str, Any]]:
    """Detections near the boxes of an annotation file."""
    random, labels = np.random.default_rng(0), truth.getCatIds()
    results = []
    for entry in truth.anns.values():
        x, y, w, h = entry['bbox']
        for _ in range(per_box):
            dx, dy, dw, dh = random.normal(0, 0.12, 4)
            other = random.random() < 0.2
            box = [x + dx * w, y + dy * h, max(w * (1 + dw), 1), max(h * (1 + dh), 1)]
            label = int(random.choice(labels)) if other else entry['category_id']
            results.append(
                dict(image_id=entry['image_id'], category_id=label, bbox=box)
                | dict(score=float(random.random()))
            )
    return results


def evaluate(
    kind: Callable[..., Any], truth: COCO, results: list[dict[str, Any]]
) -> tuple[float, np.ndarray]:
    """Seconds from loaded files to figures, and the figures."""
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes([dict(result) for result in results])
        start = time.perf_counter()
        evaluation = kind(truth, found, 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return time.perf_counter() - start, np.array(evaluation.stats)


if __name__ == '__main__':
    cli.run(main)
