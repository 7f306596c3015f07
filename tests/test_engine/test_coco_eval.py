"""Other implementations of COCO's evaluation have pycocotools' figures."""

import json
import sys

import numpy as np
import pytest
from mmdet.evaluation import CocoMetric
from pycocotools import mask as coding

from mmshuffle.engine.coco_eval import BACKENDS, coco_backend
from tests.conftest import refused

SIZE, CLASSES = (240, 320), ('cat', 'dog', 'cow')


def encode(box: np.ndarray) -> dict:
    """The ellipse in a box, as a compressed mask."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    centre, half = box[:2] + box[2:] / 2, np.maximum(box[2:] / 2, 1)
    inside = ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 <= 1
    code = coding.encode(np.asfortranarray(inside.astype(np.uint8)))
    return {**code, 'counts': code['counts'].decode()}


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    """Annotations with crowds and all sizes, and detections near and far from them."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp('coco') / 'a.json'
    images = [dict(id=i, file_name=f'{i}.jpg', height=SIZE[0], width=SIZE[1]) for i in range(12)]
    annotations, results = [], []
    for image in images[:-1]:  # the last one has none
        boxes = np.concatenate((rng.uniform(0, 180, (9, 2)), rng.uniform(6, 140, (9, 2))), 1)
        for k, box in enumerate(boxes):
            mask = encode(box)
            annotations.append(
                dict(id=len(annotations) + 1, image_id=image['id'], category_id=int(k % 3) + 7)
                | dict(bbox=box.tolist(), area=float(coding.area(mask)), iscrowd=int(k == 4))
                | dict(segmentation=mask)
            )
    for image in images:
        own = [a for a in annotations if a['image_id'] == image['id']] or annotations[:3]
        boxes = np.repeat([a['bbox'] for a in own], 3, 0) * rng.normal(1, 0.1, (3 * len(own), 4))
        labels = np.repeat([a['category_id'] - 7 for a in own], 3)
        labels[::7] = 1
        corners = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1)
        scores = rng.random(len(boxes)).round(2)  # some are equal
        found = dict(img_id=image['id'], bboxes=corners, scores=scores, labels=labels)
        found |= dict(masks=[encode(box) for box in boxes], mask_scores=scores)
        results.append(({}, found))
    categories = [dict(id=i + 7, name=name) for i, name in enumerate(CLASSES)]
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return path, results


def figures(case, backend: str) -> dict[str, float]:
    path, results = case
    items = [*('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')]
    items += ['AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000']
    metric = CocoMetric(str(path), ['bbox', 'segm'], classwise=True, metric_items=items)
    metric.dataset_meta = dict(classes=CLASSES)
    with coco_backend(backend):
        return metric.compute_metrics(results)


@pytest.mark.parametrize('backend', BACKENDS[1:])
def test_all_figures_are_those_of_pycocotools(case, backend):
    pytest.importorskip(backend.replace('-', '_'), reason=f'needs {backend}: pip install {backend}')
    expected = figures(case, 'pycocotools')
    assert len(expected) > 24 and len(set(expected.values())) > 12
    assert figures(case, backend) == expected
    assert figures(case, 'pycocotools') == expected


@pytest.mark.parametrize('backend', BACKENDS[1:])
def test_a_backend_that_is_not_installed_is_told(monkeypatch, backend):
    monkeypatch.setitem(sys.modules, backend.replace('-', '_'), None)
    with refused(f'pip install {backend}'), coco_backend(backend):
        pass
