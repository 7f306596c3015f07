"""The data sets of a config are checked against their files, their images and each other."""

import functools
import json
import re
import shutil
from pathlib import Path

import cv2
import mmdet
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config

from mmshuffle.checks.dataset import check_datasets
from mmshuffle.checks.dataset_config import class_names, is_coco
from tests.conftest import facts
from tests.tiny import write_coco, write_config

PARTS = ('train', 'val', 'test')


@pytest.fixture
def data(tmp_path) -> Path:
    """Training and validation images in folders whose names have a blank and an accent."""
    for part, number in (('train', 6), ('val', 3)):
        root = write_coco(tmp_path / 'my dätä', number, f'the images/{part}', f'{part}.json')
    return root


@pytest.fixture
def cfg(tmp_path, data) -> Config:
    cfg = Config.fromfile(write_config(tmp_path, data))
    for part in PARTS:
        file = 'train' if part == 'train' else 'val'
        cfg[f'{part}_dataloader'].dataset.update(
            ann_file=f'{file}.json', data_prefix=dict(img=f'the images/{file}')
        )
        if part != 'train':
            cfg[f'{part}_evaluator'].ann_file = str(data / 'val.json')
    return cfg


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def told(cfg: Config, *parts: str) -> list[bool]:
    """Whether each problem that has all parts in it is fatal."""
    problems = check_datasets(cfg)
    assert all('\n' not in str(p) and 'not checked' not in str(p) for p in problems), problems
    return [p.fatal for p in problems if all(part in str(p) for part in parts)]


def set_metainfo(cfg: Config, metainfo) -> None:
    for part in PARTS:
        cfg[f'{part}_dataloader'].dataset.metainfo = metainfo


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('box\ndisc\n', None),
        ('box\r\ndisc\r\n', None),
        ('box\n\ndisc\n', "['']"),
        ('box\ndisc\n\n', "['']"),
        ('box \ndisc\n', "'box ' is 'box' there"),
        ('disc\nbox\n', 'another order'),
        ('\ufeffbox\ndisc\n', "'\\ufeffbox' is 'box' there"),
        ('box,disc\n', "['box,disc']"),
        ('', 'is empty'),
    ],
)
def test_class_files_are_read_as_mmengine_reads_them(cfg, tmp_path, text, problem):
    path = tmp_path / 'classes.txt'
    path.write_bytes(text.encode())
    set_metainfo(cfg, dict(classes=str(path)))
    wrapped = dict(cfg.val_dataloader.dataset, lazy_init=True, pipeline=[])
    read = DATASETS.build(wrapped).metainfo['classes']
    assert (class_names(wrapped) or ()) == tuple(read)
    if problem is None:
        assert check_datasets(cfg) == []
    else:
        assert told(cfg, 'classes', problem) == [True, True]


@pytest.mark.parametrize(
    ('metainfo', 'parts'),
    [
        (dict(classes='box'), ['classes is the string', "classes=('box',)"]),
        (dict(classes='no/such/file.txt'), ['classes is the string', 'text file']),
        (dict(classes=()), ['classes is empty']),
        (dict(classes=None), ['classes is None: give a tuple']),
        (dict(classes=2), ['classes is 2: give a tuple']),
        (dict(classes=[1, 2]), ['classes is [1, 2]: give a tuple']),
        (dict(classes=[['box', 'disc']]), ["[['box', 'disc']]: give a tuple"]),
        (dict(classes={'box': 0}), ['give a tuple']),
        (['box', 'disc'], ["metainfo: ['box', 'disc']: give dict(classes=(...))"]),
        (dict(CLASSES=('box', 'disc')), ['small letters']),
        (dict(classes=('disc', 'box')), ['another order', "classes=('box', 'disc')"]),
        (dict(classes=('box', 'disc ')), ["'disc ' is 'disc' there"]),
        (dict(classes=('box', 'box', 'disc')), ['repeat a name', "classes=('box', 'disc')"]),
        (dict(classes=('box', '', 'disc')), ["['']"]),
        (dict(classes=('box', 'disc', 'cow')), ["['cow']", "['box', 'disc']"]),
        (dict(), ["'person'", "['box', 'disc']"]),
    ],
)
def test_classes_that_the_file_does_not_have(cfg, metainfo, parts):
    set_metainfo(cfg, metainfo)
    assert told(cfg, *parts) == [True, True]
    assert not told(cfg, 'no annotations of the classes')


def other_ids(content: dict) -> None:
    for category in content['categories']:
        category['id'] += 40
    for annotation in content['annotations']:
        annotation['category_id'] += 40


@pytest.mark.parametrize(
    ('change', 'parts'),
    [
        (lambda c: c['categories'].reverse(), ['train.json', 'val.json', 'have another order']),
        (lambda c: c['categories'].pop(), ['annotations', 'unknown category_id']),
        (lambda c: c['categories'][0].update(name='Box'), ["'box' is 'Box' there"]),
        # What becomes no label may differ.
        (other_ids, []),
        (lambda c: c['categories'].insert(0, dict(id=9, name='shapes', supercategory='none')), []),
        (lambda c: c['categories'].append(dict(id=0, name='shapes')), []),
        (lambda c: c.update(info=dict(year=2024), licenses=[]), []),
    ],
)
def test_train_and_validation_files_have_the_same_labels(cfg, data, change, parts):
    edit(data / 'val.json', change)
    assert told(cfg, *parts) == [True] * bool(parts)
    assert not told(cfg, 'train_dataloader.dataset.metainfo')
    # An order that both files have, and the config follows.
    edit(data / 'train.json', change)
    names = [c['name'] for c in json.loads((data / 'val.json').read_text())['categories']]
    set_metainfo(cfg, dict(classes=names))
    assert told(cfg) == ([True] * 2 if 'unknown category_id' in parts else [])


@pytest.mark.parametrize(
    'wrapper',
    [
        dict(type='RepeatDataset', times=2),
        dict(type='ClassBalancedDataset', oversample_thr=0.1),
        dict(type='MultiImageMixDataset', pipeline=[dict(type='Mosaic')]),
    ],
)
def test_wrapped_datasets_are_checked(cfg, data, wrapper):
    inside = dict(type='ConcatDataset', datasets=[cfg.train_dataloader.dataset])
    cfg.train_dataloader.dataset = dict(wrapper, dataset=inside)
    assert check_datasets(cfg) == []
    edit(data / 'train.json', lambda c: c['annotations'][0].pop('area'))
    assert told(cfg, 'train_dataloader.dataset.dataset.datasets[0]', 'have no area') == [True]


def test_parts_of_a_concatenation_have_the_same_labels(cfg, data):
    edit(data / 'val.json', lambda c: c['categories'].reverse())
    other = {**cfg.train_dataloader.dataset, **cfg.val_dataloader.dataset, 'test_mode': False}
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[cfg.train_dataloader.dataset, other]
    )
    found = [p for p in check_datasets(cfg, ['train_dataloader']) if 'another order than' in str(p)]
    assert [p.where for p in found] == ['train_dataloader.dataset.datasets[1]']


@pytest.mark.parametrize(
    ('change', 'parts', 'fatal'),
    [
        (lambda i: (i / 'val/1.jpg').unlink(), ['1 of 3 images are missing', "'1.jpg'"], True),
        (lambda i: (i / 'train/1.jpg').unlink(), ['1 of 6 images are missing'], False),
        (
            lambda i: [(i / f'train/{k}.jpg').unlink() for k in (1, 2)],
            ['2 of 6 images are missing', "'1.jpg', '2.jpg'"],
            True,
        ),
        (lambda i: (i / 'val/1.jpg').rename(i / 'val/1.JPG'), ["there is '1.JPG'"], True),
        (lambda i: (i / 'val/1.jpg').rename(i / 'val/1.png'), ["there is '1.png'"], True),
        (lambda i: (i / 'val').rename(i / 'valid'), ['that folder does not exist'], True),
        (lambda i: (i / 'val/1.jpg').write_bytes(b''), ['cannot be read', 'it is empty'], True),
        (lambda i: (i / 'val/1.jpg').write_bytes(b'no image'), ['it does not decode'], True),
        (lambda i: (i / 'train/1.jpg').write_bytes(b'no image'), ['it does not decode'], False),
    ],
)
def test_images_are_there_and_decode(cfg, data, change, parts, fatal):
    change(data / 'the images')
    assert told(cfg, *parts) == [fatal]


def rename(content: dict, change) -> None:
    for image in content['images']:
        image['file_name'] = change(image['file_name'])


@pytest.mark.parametrize(
    ('change', 'part'),
    [
        (lambda name: f'val\\{name}', 'with / instead of \\'),
        (lambda name: f'C:\\data\\{name}', 'with / instead of \\'),
        (lambda name: f'/home/me/{name}', 'absolute paths are of another machine'),
        (lambda name: f'the images/val/{name}', 'leave it out of data_prefix'),
        (lambda name: f'photos/{name}', 'without the folders in their names'),
        (lambda name: f' {name}', "there is '0.jpg'"),
        (lambda name: f'x{name}', 'fix data_prefix'),
    ],
)
def test_names_of_images_that_are_elsewhere_are_explained(cfg, data, change, part):
    edit(data / 'val.json', lambda content: rename(content, change))
    assert told(cfg, '3 of 3 images are missing', part) == [True]


def test_absolute_paths_of_this_machine_and_subfolders_are_found(cfg, data):
    edit(data / 'val.json', lambda c: rename(c, lambda n: f'{data}/the images/val/{n}'))
    edit(data / 'train.json', lambda c: rename(c, lambda n: f'train/{n}'))
    cfg.train_dataloader.dataset.data_prefix = dict(img='the images')
    assert check_datasets(cfg) == []


def test_images_that_mmdetection_leaves_out_need_not_be_there(cfg, data):
    edit(data / 'train.json', lambda c: c.update(annotations=c['annotations'][4:]))
    for name in ('0.jpg', '1.jpg'):
        (data / 'the images/train' / name).unlink()
    cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=True, min_size=32)
    assert check_datasets(cfg) == []


LOAD, BOXES, PACK = (
    dict(type=name) for name in ('LoadImageFromFile', 'LoadAnnotations', 'PackDetInputs')
)
SCALE = dict(type='Resize', scale=(96, 64))


def around(type: str, **settings):
    return lambda old: dict(type=type, dataset=old, **settings)


WITHOUT_ID, MIX = dict(type='PackDetInputs', meta_keys=('img_path',)), [dict(type='Mix')]
DATASET = 'train_dataloader.dataset'
# A setting, of the training data where nothing else begins it, what it becomes, and what is said.
SETTINGS = [
    ('data_prefix', dict(img_path='x'), 'dict(img=...)'),
    ('data_prefix', 'x', 'dict(img=...)'),
    ('classes', ('box', 'disc'), 'metainfo=dict(classes=...)'),
    ('img_prefix', 'x', 'data_prefix=dict(img=...)'),
    ('ann_file', ['a.json', 'b.json'], 'ConcatDataset'),
    ('ann_file', '', 'it is missing'),
    ('ann_file', '.', 'is a folder'),
    ('ann_file', 'none.json', 'none.json does not exist'),
    ('data_root', 'nowhere', 'folder nowhere does not exist'),
    ('type', 'CocoDataSet', "'CocoDataSet' is no known data set"),
    ('type', None, 'None is no known data set'),
    ('indices', 0, '0: give a number of images'),
    ('indices', '3', "'3': give a number of images"),
    ('indices', [0, 9], '9 is behind the last of 6 images'),
    ('proposal_file', 'no.pkl', 'no.pkl does not exist'),
    ('filter_cfg', [32], '[32]: give a dict'),
    ('filter_cfg.min_size', dict(min_size='32'), 'give a number'),
    ('pipeline', [], 'it is empty'),
    ('pipeline', LOAD, 'give a list of transforms'),
    ('pipeline[0]', [[LOAD]], 'cannot be built'),
    ('pipeline[1]', [LOAD, dict(type='Rezise')], 'Rezise is not in'),
    ('pipeline[1]', [LOAD, dict(type='Resize')], 'Resize cannot be'),
    ('pipeline', [SCALE, BOXES, PACK], "it fails on '0.jpg'"),
    ('pipeline', [LOAD, BOXES], 'end it with PackDetInputs'),
    ('pipeline', [LOAD, PACK], 'no bboxes and no labels', 'with_bbox=True, with_label=True'),
    ('pipeline', [LOAD, dict(BOXES, with_label=False), PACK], 'gives no labels'),
    ('train_dataloader', lambda old: [old], 'give one dict', 'ConcatDataset'),
    ('val_dataloader', lambda old: 'data/coco', 'it is a str: give one dict'),
    (DATASET, lambda old: [old], 'it is a list: give a dict'),
    (DATASET, lambda old: None, 'it is missing: give a dict'),
    (DATASET, lambda old: dict(type='ConcatDataset', datasets=[]), 'datasets: it is empty'),
    (DATASET, around('RepeatDatset', times=2), "type: 'RepeatDatset' is no known data set"),
    (DATASET, around('RepeatDataset'), "missing a required argument: 'times'"),
    (DATASET, around('MultiImageMixDataset', pipeline=MIX), 'pipeline[0]: Mix cannot be built'),
    ('train_dataloader.sampler', lambda old: None, 'None is no known sampler'),
    ('val_dataloader.sampler', lambda old: dict(type='Sampler'), "'Sampler' is no known"),
    ('train_dataloader.persistent_workers', lambda old: True, 'num_workers=0'),
    ('val_evaluator', lambda old: [], 'it is empty', 'val_cfg to None'),
    ('val_evaluator', lambda old: dict(old, type='Coco'), "'Coco' is no known metric"),
    ('val_evaluator', lambda old: dict(old, metric='box'), 'but got box'),
    ('val_evaluator', lambda old: [dict(old, ann_file=None)], 'ann_file: None: give the path'),
    ('val_dataloader.dataset.pipeline', lambda old: [*old[:-1], WITHOUT_ID], 'needs img_id'),
]


@pytest.mark.parametrize('row', SETTINGS, ids=lambda row: f'{row[0]}: {row[-1]}')
def test_settings_that_mmdetection_fails_on(cfg, row):
    where, value, *parts = row
    where = where if where.startswith(('train_', 'val_')) else f'{DATASET}.{where}'
    *path, last = re.sub(r'\[.*|\.min_size', '', where).split('.')
    node = functools.reduce(getattr, path, cfg)
    old = node.pop(last, None)
    node[last] = value(old) if callable(value) else value
    assert told(cfg, where, *parts) == [True]


def test_settings_without_an_effect_are_warned_of(cfg):
    dataset = cfg.train_dataloader.dataset
    dataset.update(
        filter_cfg=dict(minsize=3), metainfo=dict(classes=('box', 'disc'), palette=[(1, 2, 3)])
    )
    assert told(cfg, 'train_dataloader.dataset.filter_cfg', "'minsize' does nothing") == [False]
    assert told(cfg, 'train_dataloader.dataset.metainfo', '1 colours for 2 classes') == [False]
    dataset.update(type='VOCDataset', data_root='VOC')
    assert told(cfg, 'train_dataloader.dataset.data_root', 'folder VOC does not') == [True]


def test_the_evaluators_file_is_that_of_its_images(cfg, data, tmp_path):
    cfg.val_evaluator.ann_file = str(data / 'none.json')
    assert told(cfg, 'val_evaluator.ann_file', 'does not exist') == [True]
    shutil.copy(data / 'val.json', tmp_path / 'copy.json')
    cfg.val_evaluator = [dict(type='CocoMetric', ann_file=str(data / 'train.json'))]
    edit(data / 'train.json', lambda c: rename(c, lambda name: f'9{name}'))
    said = ('3 image ids', 'stand for other images', "1: '90.jpg', and '0.jpg' there")
    assert told(cfg, 'val_evaluator.ann_file', *said) == [True]
    cfg.val_evaluator[0].ann_file = str(tmp_path / 'copy.json')
    edit(data / 'train.json', lambda c: rename(c, lambda name: name[1:]))
    assert check_datasets(cfg) == []
    edit(tmp_path / 'copy.json', lambda c: c['categories'].reverse())
    assert told(cfg, 'val_evaluator.ann_file', 'order differ') == [True]
    edit(tmp_path / 'copy.json', lambda c: c['images'].pop())
    assert told(cfg, 'val_evaluator', 'unknown image_id') == [True]
    edit(tmp_path / 'copy.json', lambda c: c.update(annotations=[]))
    assert told(cfg, 'val_evaluator.ann_file', 'lacks images') == [True]


def test_crowds_and_masks_are_checked_where_they_are_trained_or_evaluated(cfg, data):
    for name in ('train.json', 'val.json'):
        edit(data / name, lambda c: [a.pop('iscrowd') for a in c['annotations']])
    assert told(cfg, 'train.json', 'iscrowd') == [False]
    assert told(cfg, 'val.json', 'iscrowd') == [True]
    for name in ('train.json', 'val.json'):
        edit(data / name, lambda c: [a.update(iscrowd=0) for a in c['annotations']])
    cfg.train_dataloader.dataset.pipeline[1].with_mask = True
    cfg.val_dataloader.dataset.pipeline[2].with_mask = True
    assert told(cfg, 'train.json', 'no segmentation') == [True]
    assert told(cfg, 'val.json', 'no segmentation') == []
    cfg.val_evaluator.metric = ['bbox', 'segm']
    assert told(cfg, 'val.json', 'no segmentation') == [True]


def test_images_in_both_parts_are_a_warning(cfg, data):
    edit(data / 'val.json', lambda c: rename(c, lambda name: f'../train/{name}'))
    assert told(cfg, '3 images of', 'also in', 'train.json', 'train/0.jpg') == [False]
    cfg.val_dataloader.dataset.ann_file = cfg.test_dataloader.dataset.ann_file = 'train.json'
    for part in PARTS:
        cfg[f'{part}_dataloader'].dataset.data_prefix.img = 'the images/train'
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = str(data / 'train.json')
    assert check_datasets(cfg) == []  # one file for both is meant


def test_unlabelled_images_and_test_sets_need_no_boxes(cfg, data):
    for name in ('train.json', 'val.json'):
        edit(data / name, lambda c: c.update(annotations=[]))
    assert told(cfg, 'no annotations of the classes') == [True, True]
    cfg.train_dataloader.dataset.pipeline[1].type = 'LoadEmptyAnnotations'
    assert told(cfg, 'no annotations of the classes') == [True]
    cfg.val_dataloader = cfg.val_evaluator = None
    assert check_datasets(cfg) == []


class Shapes(CocoDataset):
    """A user's set in COCO's format."""

    METAINFO = dict(classes=('disc', 'box'))


class OtherFormat(CocoDataset):
    """A user's set that only shares a base class."""

    def load_data_list(self) -> list:
        return []


def test_subclasses_that_read_files_alike_are_checked(cfg):
    for part in PARTS:
        dataset = cfg[f'{part}_dataloader'].dataset
        dataset.type = Shapes
        del dataset['metainfo']
    assert told(cfg, 'another order', "('box', 'disc')") == [True, True]
    cfg.train_dataloader.dataset.type = OtherFormat
    assert told(cfg, 'train_dataloader') == []
    others = ('LVISV1Dataset', 'Objects365V1Dataset', 'CocoPanopticDataset', 'VOCDataset')
    assert not any(is_coco(dict(type=name)) for name in (*others, 'NoSuchDataset', 'iSAIDDataset'))


def test_a_sample_of_the_images_is_opened(cfg, data):
    cv2.imwrite(str(data / 'the images/val/1.jpg'), np.zeros((96, 64, 3), np.uint8))
    assert told(cfg, '1 of 3 images', 'the other way round', '64x96 loaded, 96x64') == [True]
    for part in ('val', 'test'):
        cfg[f'{part}_dataloader'].dataset.pipeline[0].backend_args = dict(backend='local')
    assert check_datasets(cfg) == []


SEMI = 'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'


@pytest.mark.parametrize('name', ['faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', SEMI])
def test_stock_configs_are_sound_on_coco(monkeypatch, tmp_path, name):
    root = facts('data/coco_mini')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/coco').symlink_to(root)
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(Path(mmdet.__file__).parent / '.mim' / 'configs' / name)
    problems = [p for p in check_datasets(cfg) if 'does not exist' not in str(p)]
    assert [str(p) for p in problems] == []
