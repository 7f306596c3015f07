"""Detectors that people build on these backbones: right ones pass, wrong ones are told the fix.

Each is a config of MMDetection with its backbone replaced. What the check advises is applied until
it finds nothing more; then the detector must take a training step.
"""

import ast
import re
from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmshuffle.checks import check_model
from mmshuffle.data.finetune import walk
from tests.conftest import REPO
from tests.tiny import draw_samples

pytestmark = pytest.mark.usefixtures('observed_once')
MMDET_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'

# ShuffleNetV2 0.5x has 24, 48, 96 and 192 channels at strides 4, 8, 16 and 32.
NECK, HEAD = 'neck.in_channels', 'bbox_head.in_channels'
STRIDES = 'bbox_head.anchor_generator.strides'
WIDTHS = [24, 48, 96, 192]
SSD_WIDTHS = (96, 192, 64, 32, 32, 16)
ALL = (0, 1, 2, 3)
PAFPN = dict(type='PAFPN', in_channels=WIDTHS[1:], out_channels=64, num_outs=4)
CASCADE_RPN = 'cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco'
# Config of MMDetection, outputs of the backbone, other settings of the model.
RIGHT: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    'retinanet': ('retinanet/retinanet_r50_fpn_1x_coco', ALL, {NECK: WIDTHS}),
    'atss-dyhead': (
        'dyhead/atss_r50_fpn_dyhead_1x_coco',
        ALL,
        {'neck.0.in_channels': WIDTHS, 'neck.1.num_blocks': 1},
    ),
    'gfl-pafpn': (
        'gfl/gfl_r50_fpn_1x_coco',
        (1, 2, 3),
        {'neck': PAFPN, HEAD: 64, STRIDES: [8, 16, 32, 64]},
    ),
    'fcos': ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco', ALL, {NECK: WIDTHS}),
    'yolox': ('yolox/yolox_tiny_8xb8-300e_coco', (1, 2, 3), {NECK: WIDTHS[1:]}),
    'rtmdet': ('rtmdet/rtmdet_tiny_8xb32-300e_coco', (1, 2, 3), {NECK: WIDTHS[1:]}),
    'yolov3': ('yolo/yolov3_d53_8xb8-320-273e_coco', (1, 2, 3), {NECK: [192, 96, 48]}),
    'ssdlite': (
        'ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco',
        (2, 3),
        {NECK: (96, 192), 'neck.out_channels': SSD_WIDTHS, HEAD: SSD_WIDTHS},
    ),
    'centernet': ('centernet/centernet_r18_8xb16-crop512-140e_coco', (3,), {NECK: 192}),
    'mask-rcnn': ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', ALL, {NECK: WIDTHS}),
    'cascade': ('cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco', ALL, {NECK: WIDTHS}),
    'cascade-rpn': (f'cascade_rpn/{CASCADE_RPN}', ALL, {NECK: WIDTHS}),
    'light-head': (
        f'{REPO}/configs/light_head_rcnn/light-head-rcnn_shufflenetv2-x0.5_8xb2-20e_coco',
        (2, 3),
        {'backbone.output_stride': 16},
    ),
    'deformable-detr': (
        'deformable_detr/deformable-detr_r50_16xb2-50e_coco',
        (1, 2, 3),
        {NECK: WIDTHS[1:], 'encoder.num_layers': 1, 'decoder.num_layers': 1},
    ),
}
FOUR = {'backbone.out_indices': ALL}
# A detector, the setting that is to blame, and the mistake: its value, or several settings.
WRONG: list[tuple[str, str, Any]] = [
    ('retinanet', NECK, [24, 116, 232, 464]),
    ('retinanet', STRIDES, {'neck.start_level': 0}),
    ('retinanet', STRIDES, {'neck.num_outs': 4}),
    ('retinanet', HEAD, {'neck.out_channels': 64}),
    ('retinanet', NECK, {'backbone.out_indices': (1, 2, 3)}),
    ('atss-dyhead', 'neck[0].in_channels', [256, 512, 1024, 2048]),
    ('atss-dyhead', 'neck[1].in_channels', 128),
    ('gfl-pafpn', NECK, [256, 512, 1024]),
    ('gfl-pafpn', STRIDES, {'neck.num_outs': 3}),
    ('fcos', 'bbox_head.strides', {'neck.start_level': 0}),
    ('fcos', 'bbox_head.regress_ranges', {'neck.num_outs': 4}),
    ('yolox', NECK, [96, 192, 384]),
    ('yolox', NECK, FOUR),
    ('yolox', 'bbox_head.strides', {**FOUR, NECK: WIDTHS}),
    ('yolox', HEAD, 128),
    ('rtmdet', NECK, [96, 192, 384]),
    ('rtmdet', STRIDES, {**FOUR, NECK: WIDTHS}),
    ('rtmdet', HEAD, 256),
    ('yolov3', NECK, [48, 96, 192]),
    ('yolov3', 'bbox_head.anchor_generator', {STRIDES: [8, 16, 32]}),
    ('ssdlite', NECK, {NECK: (96, 1280), 'neck.out_channels': (96, 1280, 64, 32, 32, 16)}),
    ('ssdlite', HEAD, (96, 1280, 512, 256, 256, 128)),
    ('ssdlite', HEAD, SSD_WIDTHS[:5]),
    ('ssdlite', STRIDES, [8, 16, 32, 64, 107, 160]),
    ('centernet', NECK, 512),
    ('centernet', HEAD, 256),
    ('mask-rcnn', 'rpn_head.in_channels', 8),
    ('mask-rcnn', 'rpn_head.anchor_generator.strides', {'neck.num_outs': 4}),
    ('mask-rcnn', 'roi_head.bbox_head.in_channels', 8),
    ('mask-rcnn', 'roi_head.bbox_roi_extractor.out_channels', 8),
    ('mask-rcnn', 'roi_head.bbox_roi_extractor.featmap_strides', [8, 16, 32]),
    ('mask-rcnn', 'roi_head.mask_head.in_channels', 128),
    ('mask-rcnn', 'roi_head.bbox_head.roi_feat_size', 14),
    ('mask-rcnn', 'roi_head.mask_roi_extractor.featmap_strides', [8, 16, 32, 64]),
    ('cascade', 'roi_head.bbox_head[1].in_channels', 128),
    ('cascade-rpn', 'rpn_head.stages[0].in_channels', 128),
    ('cascade-rpn', 'rpn_head.stages[1].in_channels', 128),
    ('cascade-rpn', 'rpn_head.stages[0].anchor_generator.strides', [8, 16, 32, 64, 128]),
    ('light-head', NECK, [96, 1024]),
    ('light-head', 'rpn_head.in_channels', 192),
    ('light-head', 'rpn_head.anchor_generator.strides', [16, 16]),
    ('light-head', 'roi_head.bbox_roi_extractor.out_channels', 490),
    ('light-head', 'roi_head.bbox_roi_extractor.featmap_strides', [32]),
    ('light-head', 'roi_head.bbox_head.in_channels', 490),
    ('deformable-detr', NECK, [512, 1024, 2048]),
    ('deformable-detr', 'neck.num_outs', 3),
    ('deformable-detr', 'neck.out_channels', 128),
]


def put(cfg: Config, key: str, value: Any) -> None:
    """Set ``model.`` + key, where ``[1]`` or ``.1`` is an entry of a list."""
    *path, last = re.sub(r'\[(\d+)\]', r'.\1', key).split('.')
    node = cfg.model
    for name in path:
        node = node[int(name)] if name.isdecimal() else node[name]
    node[last] = value


def detector(name: str, changes: dict[str, Any]) -> Config:
    path, outputs, settings = RIGHT[name]
    cfg = Config.fromfile(MMDET_CONFIGS / f'{path}.py')
    cfg.model.backbone = dict(type='ShuffleNetV2', widen_factor=0.5, out_indices=outputs)
    for key, value in {**settings, **changes}.items():
        put(cfg, key, value)
    return cfg


def errors(cfg: Config) -> list:
    return [problem for problem in check_model(cfg.model) if problem.fatal]


def apply_advice(cfg: Config, problem: Any) -> None:
    key = problem.where.removeprefix('model.')
    advice = re.search(r': set (it to )?(.+?)(, or .*|, with .*)?$', problem.message)
    if advice[1]:
        put(cfg, key, ast.literal_eval(advice[2]))
        return
    call = ast.parse(f'dict({advice[2]})', mode='eval').body
    for keyword in call.keywords:
        put(cfg, f'{key.rpartition(".")[0]}.{keyword.arg}', ast.literal_eval(keyword.value))


def take_a_step(cfg: Config, side: int = 64) -> None:
    cfg.model.data_preprocessor.batch_augments = None
    for where, part in walk(cfg.model.get('train_cfg')):
        if where.endswith('sampler') and 'num' in part:
            part['num'] = 16
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    images = [torch.randint(0, 255, (3, side, side), dtype=torch.uint8) for _ in range(2)]
    masks = model.data_preprocessor.pad_mask
    batch = dict(inputs=images, data_samples=draw_samples((side, side), 3, masks))
    data = model.data_preprocessor(batch, training=True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad is not None for p in model.backbone.parameters())


@pytest.mark.parametrize('name', RIGHT)
def test_right_ones_pass_and_train(name):
    cfg = detector(name, {})
    assert [str(problem) for problem in errors(cfg)] == []
    take_a_step(cfg)


@pytest.mark.parametrize(('name', 'blamed', 'mistake'), WRONG)
def test_mistakes_are_found_and_the_advice_makes_them_train(name, blamed, mistake):
    cfg = detector(name, mistake if isinstance(mistake, dict) else {blamed: mistake})
    found = errors(cfg)
    assert any(problem.where.startswith(f'model.{blamed}') for problem in found), found
    for _ in range(3):
        for problem in found:
            assert '\n' not in problem.message
            apply_advice(cfg, problem)
        found = errors(cfg)
    assert [str(problem) for problem in found] == []
    if cfg.model.to_dict() != detector(name, {}).model.to_dict():  # which is trained above
        take_a_step(cfg)
