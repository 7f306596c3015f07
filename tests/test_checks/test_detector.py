"""Each mismatch that ends in AP 0 is one clear line."""

from pathlib import Path

import mmdet
import pytest
from mmengine.config import Config

from mmshuffle.checks import check_config
from tests.conftest import REPO
from tests.tiny import write_coco, write_config

VOC = Path(mmdet.__file__).parent / '.mim/configs/pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py'
C4 = REPO / 'configs/faster_rcnn/faster-rcnn_shufflenetv1-x1.0-g3_c4-600_1x_coco.py'


@pytest.fixture
def tiny(tmp_path) -> Config:
    return Config.fromfile(write_config(tmp_path, write_coco(tmp_path / 'data')))


def messages(cfg: Config) -> list[str]:
    return [str(problem) for problem in check_config(cfg)]


def test_a_sound_config_has_no_problems(tiny):
    assert messages(tiny) == []


NUMBER = 'model.roi_head.bbox_head.num_classes'
LOSS = 'model.roi_head.bbox_head.loss_cls'
OUTPUTS, INIT = 'model.backbone.out_indices', 'model.backbone.init_cfg'
FUSION, TEACHER = 'model.panoptic_fusion_head', 'model.teacher_bbox_head'
# The blamed setting, its wrong value or several settings, and what is said; what has no feature
# maps in it: those are in test_detectors.py.
MISMATCHES = [
    (NUMBER, 80, '80', '2 classes'),
    (f'{LOSS}.num_classes', {LOSS: dict(type='SeesawLoss', num_classes=80)}, '80', '2 classes'),
    (f'{FUSION}.num_things_classes', {FUSION: dict(num_things_classes=80)}, '80', '2 classes'),
    (f'{TEACHER}.num_classes', {TEACHER: dict(num_classes=80)}, '80', '2 classes'),
    ('model.backbone', {OUTPUTS: (0, 7)}, 'out_indices=(0, 7)', 'from 0 to 4'),
    (f'{INIT}.checkpoint', {INIT: [dict(type='Pretrained', checkpoint='no.pth')]}, 'not exist'),
    ('load_from', 'no.pth', 'no.pth'),
    ('model.backbone', {'model.backbone.norm_eval': True}, 'AP 0'),
]


@pytest.mark.parametrize('row', MISMATCHES, ids=str)
def test_mismatches_are_named_with_the_right_value(tiny, row):
    setting, mistake, *parts = row
    tiny.merge_from_dict(mistake if isinstance(mistake, dict) else {setting: mistake})
    found = [m for m in messages(tiny) if m.startswith(setting)]
    assert found, messages(tiny)
    assert all(part in found[0] for part in parts), found
    assert '\n' not in found[0]


def test_a_shared_head_of_another_width_is_named():
    cfg = Config.fromfile(C4)
    cfg.model.roi_head.shared_head.backbone.widen_factor = 2.0
    found = [m for m in messages(cfg) if m.startswith('model.roi_head.shared_head:')]
    assert len(found) == 1 and 'takes 960 channels, but gets 480' in found[0]


def test_what_the_check_does_not_understand_is_only_a_warning(tiny):
    tiny.train_dataloader.dataset.metainfo = 3
    (problem,) = [p for p in check_config(tiny) if 'not checked' in p.message]
    assert not problem.fatal
    tiny._cfg_dict.pop('model')
    assert [p.where for p in check_config(tiny) if p.fatal] == ['model']


def test_a_detector_of_another_data_set_has_its_number_of_classes():
    cfg = Config.fromfile(VOC)
    assert not any(p.where == NUMBER for p in check_config(cfg))
    cfg.merge_from_dict({NUMBER: 80})
    assert any(p.where == NUMBER and p.fatal for p in check_config(cfg))
