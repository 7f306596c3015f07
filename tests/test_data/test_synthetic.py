"""The drawn set: same bytes for the same seed, boxes that fit what is seen, whole or absent."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmshuffle.data import drawing, synthetic
from mmshuffle.data.annotations import Use, read_annotations
from mmshuffle.data.drawing import CLASSES, MIN_PIXELS, MIN_VISIBLE
from mmshuffle.data.entries import check_entries
from mmshuffle.data.synthetic import describe_objects, draw_dataset, draw_objects, scenes
from tests.conftest import refused

SIZE = (320, 240)


@pytest.fixture(scope='module')
def drawn():
    """Forty scenes, enough for everything that chance decides to occur."""
    return list(scenes('train', 40, seed=0, size=SIZE))


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def draw(root: Path, **settings) -> None:
    draw_dataset(root, **{'train': 3, 'val': 2, 'progress': False, **settings})


def test_same_seed_same_bytes_other_seed_other_images_and_a_larger_set_begins_with_them(tmp_path):
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        draw(tmp_path / name, seed=seed)
    a, b, c = (contents(tmp_path / name) for name in 'abc')
    assert a == b
    assert a.keys() == c.keys()
    images = [name for name in a if name.endswith('.jpg')]
    assert all(a[name] != c[name] for name in images)
    # Those to train on and those to validate on all differ.
    assert len({a[name] for name in images}) == len(images) == 5
    draw(tmp_path / 'large', seed=0, train=4)
    large = contents(tmp_path / 'large')
    assert all(large[name] == a[name] for name in images)


def test_annotations_are_coco_and_agree_with_the_images(tmp_path):
    draw(tmp_path / 'set', size=(200, 120))
    for split, count in (('train', 3), ('val', 2)):
        content = read_annotations(tmp_path / 'set' / 'annotations' / f'{split}.json')
        assert not list(check_entries(content, Use(evaluated=True)))
        assert [image['id'] for image in content['images']] == list(range(1, count + 1))
        assert [c['name'] for c in content['categories']] == list(CLASSES)
        for image in content['images']:
            decoded = cv2.imread(str(tmp_path / 'set' / split / image['file_name']))
            assert decoded.shape == (120, 200, 3) == (image['height'], image['width'], 3)
        assert not any(annotation['iscrowd'] for annotation in content['annotations'])


def test_boxes_enclose_exactly_what_is_seen_and_no_object_is_hidden_beyond_recognition(drawn):
    for scene in drawn:
        assert np.sum(scene.masks(), axis=0).max() <= 1  # a pixel is of one object
        for mask, opacity in zip(scene.masks(), scene.opacities):
            assert mask.sum() >= MIN_VISIBLE * np.count_nonzero(opacity >= 0.5)
        for entry, mask in zip(describe_objects(scene), scene.masks(), strict=True):
            x, y, width, height = entry['bbox']
            assert x >= 0 and y >= 0 and width > 0 and height > 0
            assert x + width <= SIZE[0] and y + height <= SIZE[1]
            inside = mask[y : y + height, x : x + width]
            assert inside.sum() == mask.sum() == entry['area'] >= MIN_PIXELS
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.any()


def test_the_border_of_a_mask_is_an_edge_in_the_picture(drawn):
    for scene in drawn[:10]:
        mask = scene.masks()[-1]
        ring = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~mask
        grey = cv2.cvtColor(scene.image, cv2.COLOR_BGR2GRAY).astype(float)
        edge = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3)))
        gradient = np.hypot(cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1))
        assert gradient[edge > 0].mean() > 1.5 * gradient[ring & (edge == 0)].mean()


def test_sizes_classes_occlusion_and_truncation_occur(drawn):
    objects = [entry for scene in drawn for entry in describe_objects(scene)]
    areas = np.array([entry['area'] for entry in objects])
    assert {entry['category_id'] for entry in objects} == set(range(1, len(CLASSES) + 1))
    assert (areas < 32**2).mean() > 0.2
    assert (areas > 32**2).mean() > 0.2
    assert (areas > 96**2).any()
    boxes = np.array([entry['bbox'] for entry in objects])
    at_border = (boxes[:, :2] == 0) | (boxes[:, :2] + boxes[:, 2:] == SIZE)
    assert 0.05 < at_border.any(axis=1).mean() < 0.5
    covered = [
        mask.sum() < 0.9 * np.count_nonzero(opacity >= 0.5)
        for scene in drawn
        for mask, opacity in zip(scene.masks(), scene.opacities)
    ]
    assert 0.05 < np.mean(covered) < 0.5


def test_an_existing_set_is_reused_and_a_damaged_or_different_one_replaced(tmp_path):
    root = tmp_path / 'set'
    draw(root)
    before, stamp = contents(root), root.stat().st_ino
    draw(root)
    assert root.stat().st_ino == stamp
    (root / 'train' / '000002.jpg').unlink()
    draw(root)
    assert contents(root) == before
    draw(root, train=1)
    assert len(list((root / 'train').iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ['set']


def test_an_interrupted_drawing_leaves_nothing_and_the_old_set_whole(tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        yield next(scenes('train', 1, 0, SIZE))
        raise KeyboardInterrupt

    draw(tmp_path / 'set')
    before = contents(tmp_path)
    monkeypatch.setattr(synthetic, 'scenes', interrupted)
    for name in ('set', 'new'):
        with pytest.raises(KeyboardInterrupt):
            draw(tmp_path / name, seed=1)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ['set']


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / 'thesis.txt').write_text('all of it')
    with refused('something other than a drawn set'):
        draw(tmp_path)
    assert contents(tmp_path) == {'thesis.txt': b'all of it'}


@pytest.mark.parametrize(
    ('draw_set', 'settings'),
    [
        *((draw_dataset, wrong) for wrong in (dict(train=0), dict(size=(10, 240)), dict(seed=-1))),
        *((draw_objects, wrong) for wrong in (dict(train=4), dict(side=8), dict(seed=-1))),
    ],
)
def test_arguments_out_of_range(tmp_path, draw_set, settings):
    given = dict(train=5, val=5) if draw_set is draw_dataset else dict(train=5, val=5, side=48)
    with refused('cannot draw'):
        draw_set(tmp_path / 'set', **{**given, **settings})
    assert not list(tmp_path.iterdir())


def test_objects_are_drawn_whole_in_equal_numbers_and_fill_their_images(tmp_path):
    def draw(name: str, **settings) -> dict[str, bytes]:
        draw_objects(tmp_path / name, **{'train': 12, 'val': 5, 'side': 48, **settings})
        return contents(tmp_path / name)

    drawn = draw('a')
    counts = [len(list((tmp_path / 'a' / 'train' / name).glob('*.jpg'))) for name in CLASSES]
    assert sorted(counts) == [2, 2, 2, 3, 3] and sum(name[:3] == 'val' for name in drawn) == 5
    images = [data for name, data in drawn.items() if name.endswith('.jpg')]
    assert len(set(images)) == 17
    for data in images:
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (48, 48, 3)
    assert draw('b') == drawn and draw('c', seed=2) != drawn
    stamp = (tmp_path / 'a').stat().st_ino
    draw('a')  # it is there
    assert (tmp_path / 'a').stat().st_ino == stamp
    assert len(draw('a', train=5)) == 5 + 5 + 1  # another set takes its place


@pytest.mark.parametrize('corner', [(330, 5), (5, 250), (-110, 5), (5, -110), (320, 240)])
def test_an_object_beside_the_picture_is_not_placed(monkeypatch, corner):
    scene = next(scenes('train', 1, 0, SIZE))
    before = scene.image.copy()
    monkeypatch.setattr(drawing, '_corner', lambda *_: corner)
    colours, alpha = np.zeros((100, 100, 3), np.float32), np.ones((100, 100), np.float32)
    assert not drawing._place(np.random.default_rng(0), scene, 0, colours, alpha)
    assert np.array_equal(scene.image, before)


def test_zoom_makes_objects_larger(drawn):
    zoomed = list(scenes('train', 12, 0, SIZE, zoom=1.6))
    areas = [np.mean([e['area'] for s in d for e in describe_objects(s)]) for d in (drawn, zoomed)]
    assert areas[1] > 1.5 * areas[0]
