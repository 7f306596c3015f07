"""Backbones, classifiers and detectors are counted part by part."""

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

from mmshuffle.analysis import Cost
from mmshuffle.analysis.model_cost import count_model
from mmshuffle.engine import shipped
from tests.conftest import refused
from tests.tiny import count_multiply_adds, on_meta
from tests.variants import KINDS, KINDS_WITHOUT_C5, VARIANTS, build

BOX_HEAD = 12544 * 1024 + 1024 * 1024 + 1024 * 81  # without the box regression


def mmdetections(name: str) -> dict:
    return get_config(f'mmdet::{name}_1x_coco.py').model


def cells(height: int, width: int, strides: tuple[int, ...]) -> int:
    return sum(-(-height // s) * -(-width // s) for s in strides)


@pytest.mark.parametrize('name', KINDS + KINDS_WITHOUT_C5)
def test_the_stages_of_a_backbone_add_up(name):
    """To what PyTorch's own counter finds."""
    cost, net = count_model(on_meta(VARIANTS[name]), (96, 64)), build(name)
    sizes = [sum(p.numel() for p in stage.parameters()) for stage in net.stages]
    expected = {f'stage {i}': size for i, size in enumerate(sizes) if size}
    assert {name: part.parameters for name, part in cost.parts.items()} == expected
    assert cost.total.multiply_adds == count_multiply_adds(net, (1, 3, 96, 64))


def test_a_backbone_of_mmdetection_has_its_layers_as_parts():
    cost = count_model(on_meta(dict(type='ResNet', depth=18)), (64, 64))
    assert {'conv1', 'layer1', 'layer2', 'layer3', 'layer4'} <= set(cost.parts)
    assert cost.parts['conv1'] == Cost(32 * 32 * 64 * 147, 64 * 147, 64 * 1024, 3 * 4096 + 74944)


def test_an_fpn_detector_is_counted_as_by_hand():
    cfg = Config.fromfile(shipped.find('faster-rcnn_shufflenetv2-x1.0_fpn_1x_coco'))
    cost = count_model(on_meta(cfg.model), (320, 416), proposals=7)
    assert list(cost.parts)[-3:] == ['neck', 'RPN', 'RoI head']
    levels = cells(320, 416, (4, 8, 16, 32))
    lateral = sum(
        cells(320, 416, (stride,)) * channels * 256
        for stride, channels in zip((4, 8, 16, 32), (24, 116, 232, 464), strict=True)
    )
    assert cost.parts['neck'].multiply_adds == lateral + levels * 256 * 256 * 9
    rpn = cells(320, 416, (4, 8, 16, 32, 64)) * (256 * 256 * 9 + 256 * 3 * 5)
    assert cost.parts['RPN'].multiply_adds == rpn
    assert cost.parts['RoI head'].multiply_adds == 7 * (BOX_HEAD + 1024 * 320)


def test_a_one_stage_detector_is_counted_as_by_hand():
    cost = count_model(on_meta(mmdetections('retinanet/retinanet_r18_fpn')), (256, 320))
    towers = 2 * 4 * 256 * 256 * 9 + 256 * 9 * (9 * 80 + 9 * 4)
    assert cost.parts['head'].multiply_adds == cells(256, 320, (8, 16, 32, 64, 128)) * towers


def test_every_head_of_a_cascade_counts():
    cost = count_model(on_meta(mmdetections('cascade_rcnn/cascade-rcnn_r50_fpn')), (64, 64), 10)
    assert cost.parts['RoI head'].multiply_adds == 3 * 10 * (BOX_HEAD + 1024 * 4)


def test_what_does_not_run_is_named_and_has_its_parameters_counted():
    cfg = mmdetections('mask_rcnn/mask-rcnn_r50_fpn')
    cost = count_model(on_meta(cfg), (64, 64), 10)
    assert cost.idle and all(name.startswith('roi_head.mask_head.') for name in cost.idle)
    assert cost.parts['RoI head'].multiply_adds == 10 * (BOX_HEAD + 1024 * 320)
    built = on_meta(cfg)
    assert cost.total.parameters == sum(p.numel() for p in built.parameters())


def test_what_takes_no_images_is_said_in_one_line():
    with refused('cannot be counted at 5x7'):
        count_model(on_meta(dict(type='Linear', in_features=3, out_features=2)), (5, 7))
