"""Each fault of an annotation file is one line; boxes are counted as MMDetection counts them."""

import copy
import json
import random

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations
from pycocotools.mask import encode

from mmshuffle.data.annotations import Use, check_categories, read_annotations
from mmshuffle.data.boxes import check_boxes
from mmshuffle.data.entries import check_entries
from tests.conftest import refused

POLYGON = [[1, 1, 9, 1, 9, 9]]


def coco(images: int = 3, boxes: int = 3) -> dict:
    """A sound file with ``boxes`` boxes an image."""
    return dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=100, height=60) for i in range(images)],
        annotations=[
            dict(
                id=i * boxes + k + 1,
                image_id=i,
                category_id=k % 2 + 1,
                bbox=[40 + k, 20, 20, 10.5],
                area=210,
                iscrowd=0,
                segmentation=POLYGON,
            )
            for i in range(images)
            for k in range(boxes)
        ],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
    )


def findings(content: dict, use: Use) -> list:
    found = list(check_entries(content, use))
    if any(f.fatal for f in found):
        return found
    return [*found, *check_categories(content, use.classes), *check_boxes(content, use)[0]]


def without(key):
    return lambda entry: entry.pop(key)


def give(**values):
    return lambda entry: entry.update(values)


EVALUATED = Use(evaluated=True)
MASKS = Use(masks=True)
TOO_LARGE = 10**400
FAULTS = {
    'images': [
        (without('id'), 'have no id', 'images[1]'),
        (give(id=None), 'null for id', 'images[1]'),
        (give(id=True), 'true or false for id'),
        (give(id=0), 'image id 0', 'images[0], images[1]'),
        (without('file_name'), 'have no file_name', 'id 1'),
        (give(file_name=7), 'a number for file_name', '7'),
        (give(file_name=''), 'an empty text for file_name'),
        (give(width='100'), "text for width (images[1], id 1: '100')"),
        (without('height'), 'have no height', 'images[1], id 1'),
        (give(width=0), 'a number of 0 or less for width'),
        (give(width=float('nan')), 'NaN or Infinity for width'),
    ],
    'annotations': [
        (without('area'), 'have no area', 'annotations[1], id 2'),
        (give(area=float('inf')), 'NaN or Infinity for area'),
        (give(area=TOO_LARGE), 'Infinity for area'),
        (give(iscrowd='0'), 'text for iscrowd', "'0'", 'quotes'),
        (give(id=1), 'annotation id 1', 'annotations[0], annotations[1]'),
        (without('image_id'), 'have no image_id'),
        (give(image_id=99), 'unknown image_id', 'id 2: 99'),
        (give(image_id='1'), "id 2: '1'", 'the images have 1', 'text'),
        (give(category_id=9), 'unknown category_id', 'id 2: 9'),
        (without('bbox'), 'have no bbox'),
        (give(bbox=[1, 2, 3]), 'no four numbers for bbox', '[1, 2, 3]'),
        (give(bbox=['1', 2, 3, 4]), "['1', 2, 3, 4]"),
        (give(bbox=[1, 2, float('nan'), 4]), 'nan', 'four numbers'),
        (give(bbox=[1, 2, TOO_LARGE, 4]), 'four numbers'),
        (give(bbox={'x': 1}), 'a list or object for bbox'),
        (give(bbox=[50, 5, -3, 4]), 'a negative bbox', '[50, 5, -3, 4]'),
    ],
    'categories': [
        (without('name'), 'have no name', 'categories[1], id 2'),
        (give(name=3), 'a number for name', ': 3'),
        (give(id=1), 'category id 1', 'categories[0], categories[1]'),
        (give(name='cat'), "the name 'cat' twice", 'id 1', 'id 2'),
    ],
}


@pytest.mark.parametrize(
    ('where', 'fault'), [(w, f) for w, faults in FAULTS.items() for f in faults]
)
def test_a_fault_is_named_with_its_entry(where, fault):
    check_fault(where, fault[0], fault[1:], True, Use())


@pytest.mark.parametrize(
    ('where', 'spoil', 'part', 'trained', 'evaluated'),
    [
        ('images', give(id=1.0), 'a decimal number for id (images[1]: 1.0)', False, False),
        ('annotations', without('iscrowd'), 'have no iscrowd', False, True),
        ('annotations', give(iscrowd=None), 'null for iscrowd', False, True),
        ('annotations', give(id='2'), "text for id (annotations[1]: '2')", False, True),
        ('annotations', give(id=0), 'annotations have the id 0 (annotations[1]', None, False),
        ('annotations', give(id=0.0), 'annotations have the id 0 (annotations[1]', None, False),
    ],
)
def test_some_faults_matter_where_pycocotools_evaluates(where, spoil, part, trained, evaluated):
    check_fault(where, spoil, [part], evaluated, EVALUATED)
    check_fault(where, spoil, [part], trained, Use())


def check_fault(where, spoil, parts, fatal, use):
    content = coco()
    spoil(content[where][1])
    found = findings(content, use)
    fitting = [f for f in found if all(part in f.message for part in parts)]
    assert [f.fatal for f in fitting] == ([] if fatal is None else [fatal]), found
    assert not any('\n' in f.message for f in found)


def test_many_faults_of_a_kind_are_one_line_with_three_examples():
    content = coco(boxes=6)
    for annotation in content['annotations'][3:10]:
        annotation['area'] = '210'
    (found,) = check_entries(content, Use())
    assert '7 of 18 annotations' in found.message and found.message.count("'210'") == 3
    assert 'annotations[5]' in found.message and '; ...' in found.message


@pytest.mark.parametrize(
    ('raw', 'part'),
    [
        (b'\xef\xbb\xbf{}', 'byte order mark (BOM)'),
        ('{}'.encode('utf-16'), 'UTF-16'),
        ('{}'.encode('utf-16-le'), 'UTF-16'),
        ('{}'.encode('utf-16-be'), 'UTF-16'),
        ('{}'.encode('utf-32'), 'UTF-16'),
        ('{"a": "é"}'.encode('latin-1'), 'byte 7 (0xe9) is no UTF-8'),
        (json.dumps(coco()).encode()[:-40], 'ends in the middle'),
        (b'{"images": [{"file_name": "a', 'ends in the middle'),
        (b'{"images": [],}', 'line 1 column 15'),
        (b'<html></html>', 'HTML'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'Git LFS'),
        (b'\x1f\x8b\x08\x00', 'gzip'),
        (b'', 'it is empty'),
        (b'  \n', 'it is empty'),
        (b'[' * 100000, 'no valid JSON'),
        (b'[]', 'holds a list, not an object'),
        (b'null', 'holds a NoneType'),
        (b'{"images": [], "categories": []}', "no list 'annotations'"),
        (b'{"images": {}, "annotations": [], "categories": []}', "no list 'images', but a dict"),
        (b'{"images": [], "annotations": [{"segments_info": []}], "categories": []}', 'panoptic'),
        (b'{"images": [3], "annotations": [], "categories": []}', 'images[0] is 3, not an object'),
    ],
)
def test_what_is_no_coco_file_is_refused_in_one_line(tmp_path, raw, part):
    path = tmp_path / 'train.json'
    path.write_bytes(raw)
    with refused() as raised:
        read_annotations(path)
    assert part in str(raised.value) and 'train.json' in str(raised.value)


def test_segmentations_are_left_out_where_they_are_not_needed(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(coco()))
    assert read_annotations(path) == coco()
    light = read_annotations(path, masks=False)
    assert all(a['segmentation'] == 0 and len(a) == 7 for a in light['annotations'])
    del light['annotations']
    path.write_text(json.dumps(light))
    assert read_annotations(path, test_mode=True)['annotations'] == []


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('[[1, 1', '[[[1, 1'),
        ('9, 9]]', '9, 9]'),
        ('9, 9]]', '9, 9]]]'),
        ('"segmentation": [[', '"segmentation" [['),
    ],
)
def test_what_is_left_out_is_still_json(tmp_path, old, new):
    text = '\n' + json.dumps(coco())
    whole, without = [tmp_path / name for name in ('a.json', 'b.json')]
    whole.write_text(text.replace('0.jpg', '\\"segmentation\\": [[1]]'))
    content = read_annotations(whole, masks=False)
    assert content['images'] == read_annotations(whole)['images']
    without.write_text(text.replace(old, new, 1))
    for masks in (True, False):
        with refused('line 2 column'):
            read_annotations(without, masks=masks)


def test_fewer_classes_than_categories_are_a_warning_with_numbers():
    (found,) = check_categories(coco(), ('cat',))
    assert not found.fatal and "['dog']" in found.message and '3 of 9 annotations' in found.message
    content = coco()
    content['categories'].insert(0, dict(id=0, name='animals'))
    assert not list(check_categories(content, ('cat', 'dog')))
    content['categories'].append(dict(id=7, name='animals'))
    assert not list(check_categories(content, ('cat', 'dog')))


def every(**values):
    return lambda content: [a.update(copy.deepcopy(values)) for a in content['annotations']]


def share(number: int, **values):
    return lambda content: [a.update(values) for a in content['annotations'][:number]]


def run_lengths(*counts, size=(60, 100)):
    return share(1, segmentation=dict(size=list(size), counts=list(counts)))


RUNS = encode(np.ones((60, 100), np.uint8, order='F'))['counts'].decode()


def written(write):
    """Boxes that fit the images, in another format."""

    def spoil(content: dict) -> None:
        rng = random.Random(0)
        for a in content['annotations']:
            x, y = rng.randrange(60), rng.randrange(40)
            a['bbox'] = write(x, y, rng.randrange(x + 10, 101), rng.randrange(y + 8, 61))

    return spoil


@pytest.mark.parametrize(
    ('spoil', 'parts', 'fatal', 'use'),
    [
        (every(area=0), ['all 30 boxes', '30 with an area of 0', 'id 1: 0'], True, Use()),
        (every(iscrowd=1), ['all 30 boxes', 'of a crowd (iscrowd)'], True, Use()),
        (every(ignore=1), ['marked with ignore'], True, Use()),
        (every(bbox=[200, 5, 10, 10]), ['outside the image', '[200, 5, 10, 10]'], True, Use()),
        (every(bbox=[-20, 5, 20, 10]), ['outside the image'], True, Use()),
        (every(bbox=[5, 5, 10, 0]), ['narrower or lower than 1 pixel'], True, Use()),
        (every(bbox=[0.5, 0.4, 0.3, 0.3]), ['between 0 and 1'], True, Use()),
        (every(bbox=[0, 0, 1, 1]), ['between 0 and 1'], True, Use()),
        (written(lambda *c: list(c)), ['[x1, y1, x2, y2]', 'x2 - x1'], True, Use()),
        (written(lambda x, y, r, b: [y, x, b, r]), ['[y1, x1, y2, x2]'], False, Use()),
        (written(lambda x, y, r, b: [y, x, b - y, r - x]), ['[y, x, height'], False, Use()),
        (
            written(lambda x, y, r, b: [(x + r) / 2, (y + b) / 2, r - x, b - y]),
            ['[centre x, centre y', 'x - width / 2'],
            False,
            Use(),
        ),
        (every(bbox=[95, 5, 20, 10]), ['more than half outside'], False, Use()),
        (lambda c: None, ['none of 10 images', 'below 61'], True, Use(min_size=61)),
        (lambda c: c['annotations'].clear(), ['no annotations of the classes'], True, Use()),
        (lambda c: c.update(images=[], annotations=[]), ['lists no images'], True, Use()),
        (share(2, area=0), ['2 of 30 boxes (7%)', 'id 1: 0', 'id 2: 0'], False, Use()),
        (share(3, iscrowd=1), ['3 of 30 boxes (10%)'], False, Use()),
        (every(segmentation=[]), ['no segmentation', 'id 1: []'], True, MASKS),
        (share(1, segmentation={}), ['1 of 30', 'no segmentation'], True, MASKS),
        (share(1, segmentation=[1, 2, 3, 4, 5, 6]), ['no list of lists'], True, MASKS),
        (share(1, segmentation=[['1', 2, 3, 4, 5, 6]]), ['other than numbers'], True, MASKS),
        (share(1, segmentation='RLE'), ['no list or object'], True, MASKS),
        (share(1, segmentation=[[1, 2, 3, 4]]), ['fewer than 6 numbers'], False, MASKS),
        (share(1, segmentation=[[1, 2, 3, 4, 5, 6, 7]]), ['an odd count'], False, MASKS),
        (every(segmentation=[[1, 2]]), ['all 30 boxes', 'a usable mask'], True, MASKS),
        (run_lengths(6000, size=[100, 60]), ['another size than the image'], True, MASKS),
        (run_lengths(10, 20), ['do not add up'], True, MASKS),
        (run_lengths(6100, -100), ['other than whole numbers'], True, MASKS),
        (share(1, segmentation=dict(size=[60, 100])), ['without counts'], True, MASKS),
        (share(1, segmentation=dict(size=[60, 100], counts='abc')), ['add up'], True, MASKS),
        (share(1, segmentation=[[float('nan')] * 6]), ['other than numbers'], True, MASKS),
    ],
)
def test_what_is_lost_is_counted_and_explained(spoil, parts, fatal, use):
    content = coco(images=10)
    spoil(content)
    found = findings(content, use)
    fitting = [f for f in found if all(part in f.message for part in parts)]
    assert [f.fatal for f in fitting] == [fatal], found
    # Without masks, segmentations do not matter.
    assert use != MASKS or findings(content, Use()) == []


@pytest.mark.parametrize(
    ('spoil', 'use'),
    [
        *((lambda c: None, use) for use in (Use(), EVALUATED, MASKS)),
        *((every(iscrowd=False, bbox=[40.0, 20.0, 20.0, 10.5]), use) for use in (EVALUATED, MASKS)),
        (share(1, area=0), Use()),
        (share(1, iscrowd=1), Use()),
        (share(1, bbox=[5, 5, 0, 3]), Use()),
        (every(bbox=[-1, -1, 102, 62]), Use()),
        (every(bbox=[0, 0, 100, 60]), Use()),
        (written(lambda x, y, r, b: [x, y, r - x, b - y]), Use()),
        (written(lambda x, y, r, b: [x, y, r - x + 5, b - y + 5]), Use()),
        (every(bbox=[1, 1, 30, 30]), Use()),
        (run_lengths(5000, 1000), MASKS),
        (share(1, segmentation=dict(size=[60, 100], counts=RUNS)), MASKS),
        (every(area=0), Use(labelled=False)),
        (lambda c: c['annotations'].clear(), Use(labelled=False)),
    ],
)
def test_what_mmdetection_does_well_with_is_sound(spoil, use):
    content = coco(images=10)
    spoil(content)
    assert findings(content, use) == []


@pytest.mark.parametrize('seed', range(40))
def test_boxes_and_images_are_counted_as_mmdetection_keeps_them(tmp_path, seed):
    rng = random.Random(seed)
    values = (-5, -1, 0, 0.4, 0.999, 1, 1.5, 20, 63.5, 99, 100, 101)
    content = coco(images=12, boxes=rng.randrange(4))
    for image in content['images']:
        image.update(width=rng.choice((8, 31, 32, 100)), height=rng.choice((8, 32, 60)))
    for a in content['annotations']:
        a['bbox'] = [rng.choice(values) for _ in range(4)]
        a['area'] = rng.choice((0, -1, 0.5, 100))
        a['iscrowd'] = rng.choice((0, 0, 1, False, True))
        a['category_id'] = rng.choice((1, 2, 3))
        a['ignore'] = rng.choice((0, 0, 0, 1))
        broken = ([[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[1, 2], *POLYGON], dict(counts='', size=1))
        a['segmentation'] = rng.choice((POLYGON, *broken))
    content['categories'].append(dict(id=3, name='cow'))
    rng.shuffle(content['annotations'])
    use = Use(
        classes=rng.choice((('cat', 'dog', 'cow'), ('cow',), ('cat', 'cow'))),
        masks=rng.choice((True, False)),
        poly2mask=rng.choice((True, False)),
        min_size=rng.choice((0, 32)),
        filter_empty=rng.choice((True, False)),
    )
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(content))
    dataset = CocoDataset(
        ann_file=str(path),
        metainfo=dict(classes=use.classes),
        data_prefix=dict(img=''),
        filter_cfg=dict(filter_empty_gt=use.filter_empty, min_size=use.min_size),
        serialize_data=False,
    )
    load = LoadAnnotations(with_mask=use.masks, poly2mask=use.poly2mask)
    boxes = 0
    for entry in dataset.data_list:
        if use.masks:
            load._process_masks(entry)
        boxes += sum(not instance['ignore_flag'] for instance in entry['instances'])
    _, kept = check_boxes(content, use)
    assert kept.boxes == boxes
    used = [i['id'] for i, used in zip(content['images'], kept.images, strict=True) if used]
    assert used == [entry['img_id'] for entry in dataset.data_list]
    lost = sum(map(len, kept.lost.values()))
    assert kept.boxes + lost == kept.total
