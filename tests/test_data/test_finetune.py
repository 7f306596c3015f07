"""Finding a COCO folder by its layout, naming what is wrong with it, and fitting a config to it."""

import copy
import json
from pathlib import Path

import pytest
from mmengine.config import Config

from mmshuffle.data.finetune import apply_dataset, apply_epochs, find_dataset
from tests.conftest import refused
from tests.tiny import write_config

CONTENT = {
    'images': [{'id': 1, 'file_name': 'a.jpg', 'width': 8, 'height': 8}],
    'annotations': [
        {'id': 1, 'image_id': 1, 'category_id': 5, 'bbox': [0, 0, 4, 4], 'area': 16, 'iscrowd': 0},
        {'id': 2, 'image_id': 1, 'category_id': 3, 'bbox': [2, 2, 4, 4], 'area': 16, 'iscrowd': 0},
    ],
    'categories': [{'id': 0, 'name': 'all'}, {'id': 3, 'name': 'cat'}, {'id': 5, 'name': 'dog'}],
}

LAYOUTS = {
    'drawn set': ('annotations/{}.json', '{}'),
    'coco': ('annotations/instances_{}2017.json', '{}2017'),
    'coco without year': ('annotations/instances_{}.json', '{}'),
    'coco below images': ('annotations/instances_{}2017.json', 'images/{}2017'),
    'one image folder': ('annotations/{}.json', 'images'),
    'voc converted': ('instances_{}.json', 'JPEGImages'),
    'roboflow': ('{}/_annotations.coco.json', '{}'),
    'roboflow as it is': ('{}/_annotations.coco.json', '{}', 'valid'),
    'all in one folder': ('instances_{}.json', '.'),
}


def write(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def make(root: Path, ann: str, images: str, val: str = 'val') -> None:
    for split in ('train', val):
        write(root / ann.format(split), CONTENT)
        write(root / images.format(split) / 'a.jpg', 'an image')


@pytest.fixture
def root(tmp_path):
    make(tmp_path, 'annotations/{}.json', '{}')
    return tmp_path


def changed(**settings) -> dict:
    return {**copy.deepcopy(CONTENT), **settings}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_layouts(tmp_path, layout):
    ann, images, *val = LAYOUTS[layout]
    make(tmp_path, ann, images, *val)
    found = find_dataset(tmp_path)
    for part in ('train', 'val'):
        name = val[0] if val and part == 'val' else part
        assert getattr(found, part).ann == tmp_path / ann.format(name)
        assert getattr(found, part).images == tmp_path / images.format(name)
    assert (found.train.count, found.val.count) == (1, 1)


def test_options_override_and_may_be_relative_to_the_folder(root):
    write(root / 'other' / 'mine.json', CONTENT)
    write(root / 'pictures' / 'a.jpg', 'an image')
    found = find_dataset(root, train_ann='other/mine.json', train_images=root / 'pictures')
    assert found.train.ann == root / 'other' / 'mine.json'
    assert found.train.images == root / 'pictures'
    assert found.val.images == root / 'val'


def test_one_folder_by_two_names_is_not_ambiguous(root):
    (root / 'images').mkdir()
    (root / 'images' / 'train').symlink_to(root / 'train')
    assert find_dataset(root).train.images == root / 'train'


def with_ann(name: str, content):
    return lambda root: write(root / name, content)


def with_val(**settings):
    return with_ann('annotations/val.json', changed(**settings))


NO_CROWD = [{k: v for k, v in a.items() if k != 'iscrowd'} for a in CONTENT['annotations']]
TRAIN = 'annotations/train.json'


@pytest.mark.parametrize(
    ('spoil', 'options', 'message'),
    [
        (lambda r: (r / 'annotations/val.json').unlink(), {}, 'no annotation file.*--val-ann'),
        (with_ann('instances_train.json', CONTENT), {}, 'several annotation files.*--train-ann'),
        (lambda r: (r / 'val/a.jpg').unlink(), {}, r'val images \(a.jpg, ...\).*--val-images'),
        (with_ann('images/a.jpg', ''), {}, 'could be those in.*--train-images'),
        (lambda r: None, {'train_ann': 'none.json'}, '--train-ann: neither'),
        (lambda r: None, {'val_images': 'annotations'}, '--val-images: 1 of 1 images are missing'),
        (lambda r: None, {'val_ann': TRAIN}, 'training and validation'),
        (with_ann(TRAIN, '{'), {}, 'no valid JSON'),
        (with_ann(TRAIN, changed(annotations=[])), {}, 'no images or no annotations'),
        (with_val(categories=[{'id': 3}, {'id': 5}]), {}, '2 of 2 categories have no name'),
        (with_val(annotations=NO_CROWD), {}, '2 of 2 annotations have no iscrowd'),
    ],
)
def test_what_is_wrong_is_said_in_one_line(root, spoil, options, message):
    spoil(root)
    with refused(message):
        find_dataset(root, **options)
    with refused('does not exist'):
        find_dataset(root / 'nowhere')


@pytest.fixture
def cfg(tmp_path) -> Config:
    return Config.fromfile(write_config(tmp_path, tmp_path, epochs=12))


def test_apply_dataset_sets_loaders_and_evaluators(cfg, root):
    data = find_dataset(root)
    cfg.test_evaluator = [cfg.test_evaluator]
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', dataset=cfg.train_dataloader.dataset)
    apply_dataset(cfg, data)
    train = cfg.train_dataloader.dataset.dataset
    assert 'ann_file' not in cfg.train_dataloader.dataset
    assert (train.ann_file, train.data_root) == (str(data.train.ann.resolve()), '')
    assert train.data_prefix == dict(img=str(data.train.images.resolve()))
    for inner in (cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
        assert inner.ann_file == str(data.val.ann.resolve())
        assert inner.metainfo == dict(classes=('cat', 'dog'))
    for metric in (cfg.val_evaluator, cfg.test_evaluator[0]):
        assert metric.ann_file == str(data.val.ann.resolve())
        assert metric.classwise


def test_apply_dataset_reaches_every_head_of_a_cascade_and_a_one_stage_detector(cfg, root):
    heads = dict(num_classes=80, loss_cls=dict(type='SeesawLoss', num_classes=80))
    cfg.model.roi_head.update(bbox_head=[heads, dict(num_classes=80)], mask_head=heads)
    cfg.model.update(bbox_head=heads, backbone=dict(num_classes=9))
    apply_dataset(cfg, find_dataset(root))
    heads = [*cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head, cfg.model.bbox_head]
    heads += [head.loss_cls for head in heads if 'loss_cls' in head]
    assert [head.num_classes for head in heads] == [2] * 7
    assert cfg.model.backbone.num_classes == 9 and 'num_classes' not in cfg.model.rpn_head


def test_apply_epochs_stretches_the_schedule(cfg):
    cfg.param_scheduler = [
        dict(type='LinearLR', by_epoch=False, begin=0, end=500),
        dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11]),
    ]
    apply_epochs(cfg, 24, batch_size=8, train_count=100)
    warm_up, steps = cfg.param_scheduler
    assert cfg.train_cfg.max_epochs == 24
    assert cfg.train_dataloader.batch_size == 8
    assert (warm_up.end, steps.end, steps.milestones) == (24 * 13 // 5, 24, [16, 22])


def test_apply_epochs_fits_a_schedule_of_iterations_to_the_data(cfg):
    cfg.param_scheduler = [
        dict(type='LinearLR', by_epoch=False, begin=0, end=100),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=9000, T_max=8900),
    ]
    apply_epochs(cfg, None, None, train_count=401)
    warm_up, cosine = cfg.param_scheduler
    assert cfg.train_cfg.max_epochs == 12
    assert (warm_up.end, cosine.begin, cosine.end, cosine.T_max) == (100, 100, 2412, 2312)
