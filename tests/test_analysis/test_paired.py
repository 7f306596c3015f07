"""A bootstrap of AP over images and seeds, against COCO's evaluation of data that is drawn out."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmshuffle.analysis.paired import Boxes, differences
from tests.conftest import refused

IMAGES, CATEGORIES = 12, (3, 7)


def load(content: dict) -> COCO:
    truth = COCO()
    truth.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


@pytest.fixture(scope='module')
def truth() -> COCO:
    """Images of two categories and of a third that no network knows; some have no object."""
    random = np.random.default_rng(0)
    objects = []
    for image in range(1, IMAGES):
        for _ in range(random.integers(0, 5)):
            box = [*random.integers(0, 60, 2).tolist(), *random.integers(10, 40, 2).tolist()]
            category = int(random.choice((*CATEGORIES, 9)))
            crowd = int(random.random() < 0.1)
            objects.append(dict(image_id=image, bbox=box, category_id=category, iscrowd=crowd))
    for number, entry in enumerate(objects, 1):
        entry.update(id=number, area=entry['bbox'][2] * entry['bbox'][3])
    images = [dict(id=number, width=100, height=100) for number in range(IMAGES)]
    categories = [dict(id=number, name=str(number)) for number in (*CATEGORIES, 9)]
    return load(dict(images=images, annotations=objects, categories=categories))


def find(truth: COCO, folder: Path, seed: int, noise: float) -> Path:
    """Results of a network that is the further off the larger ``noise`` is."""
    random = np.random.default_rng(seed)
    found = []
    for entry in truth.dataset['annotations']:
        if entry['category_id'] in CATEGORIES and random.random() < 0.9:
            box = (np.array(entry['bbox']) + random.normal(0, noise, 4)).clip(1).tolist()
            found.append({**entry, 'bbox': box, 'score': float(random.random())})
    for _ in range(10):  # false alarms, among them on images without an object
        box = [*random.integers(0, 60, 2).tolist(), 20, 20]
        place = dict(image_id=int(random.integers(IMAGES)), category_id=CATEGORIES[0])
        found.append(dict(**place, bbox=box, score=float(random.random())))
    keys = ('image_id', 'category_id', 'bbox', 'score')
    path = folder / f'{noise}-{seed}.json'
    path.write_text(json.dumps([{key: entry[key] for key in keys} for entry in found]))
    return path


def evaluate_drawn_out(truth: COCO, path: Path, chosen: list[int]) -> list[float]:
    """AP and AP50 of a data set that has every chosen image under an id of its own."""
    found, content = json.loads(path.read_text()), dict(truth.dataset)
    copies = [(number, image) for number, image in enumerate(chosen)]

    def drawn(entries: list[dict]) -> list[dict]:
        taken = [
            {**entry, 'image_id': number}
            for number, image in copies
            for entry in entries
            if entry['image_id'] == image
        ]
        return [{**entry, 'id': place} for place, entry in enumerate(taken, 1)]

    content['images'] = [dict(id=number, width=100, height=100) for number, _ in copies]
    content['annotations'] = drawn(content['annotations'])
    own = load(content)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(own, own.loadRes(drawn(found)), 'bbox')
        evaluation.params.catIds = list(CATEGORIES)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [max(figure, 0) for figure in evaluation.stats[:2]]


@pytest.mark.parametrize('seed', range(3))
def test_chosen_images_are_evaluated_as_a_data_set_of_them(truth, tmp_path, seed):
    chosen = np.random.default_rng(seed).integers(IMAGES, size=IMAGES)
    chosen = np.arange(IMAGES) if seed == 0 else chosen
    files = [find(truth, tmp_path, number, noise=3) for number in (seed, seed + 1)]
    expected = [evaluate_drawn_out(truth, file, chosen.tolist()) for file in files]
    assert np.allclose(Boxes(truth, CATEGORIES, files).figures(chosen), expected, atol=1e-12)


def test_the_interval_holds_the_difference_and_tells_clear_ones_from_none(truth, tmp_path):
    sharp, other, blurred = (
        Boxes(truth, CATEGORIES, [find(truth, tmp_path, seed, noise) for seed in seeds])
        for seeds, noise in (((0, 1), 1), ((2, 3), 1), ((4, 5), 6))
    )
    clear, alike = (differences(first, sharp, draws=100) for first in (blurred, other))
    everything = np.arange(IMAGES)
    means = [boxes.figures(everything).mean(0) for boxes in (blurred, sharp)]
    assert [interval.mean for interval in clear] == pytest.approx(means[1] - means[0])
    assert all(0 < low < mean < high for mean, low, high in clear)
    assert all(low < 0 < high for _, low, high in alike)
    # The same images are drawn for both: one network against itself differs by its seeds alone.
    one = Boxes(truth, CATEGORIES, [find(truth, tmp_path, 0, 1)])
    assert differences(one, one, draws=20) == [(0, 0, 0), (0, 0, 0)]
    assert clear == differences(blurred, sharp, draws=100)


ELSEWHERE = '[{"image_id": 99, "category_id": 3, "bbox": [1, 1, 5, 5], "score": 1}]'


@pytest.mark.parametrize(
    'content', [None, '', '[{"image_id": 1, "bb', '{}', '[7]', '[]', ELSEWHERE]
)
def test_a_file_without_boxes_of_the_images_is_one_line(truth, tmp_path, content):
    if content is not None:
        (tmp_path / 'boxes.json').write_text(content)
    sound = content in ('[]', ELSEWHERE)
    said = 'has no boxes on images of the test set' if sound else '(cannot be read|has no boxes)'
    with refused(rf'boxes\.json {said}'):
        Boxes(truth, CATEGORIES, [tmp_path / 'boxes.json'])
