"""Another input than that of the pretrained weights is warned of, before it costs accuracy."""

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmshuffle.checks import check_config, check_model
from mmshuffle.checks.weights import check_input
from mmshuffle.weights.zoo import find_entry
from tests.conftest import REPO
from tests.references import drawn_state, torchvision_v2

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
TENSORFLOW = dict(mean=[127.5] * 3, std=[127.5] * 3)
ROUNDED = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4])
SHUFFLENET = 'mmshuffle://torchvision/shufflenetv2-x0.5'
MOBILENET = 'mmshuffle://timm/mobilenetv1-x1.0'
DETECTOR = REPO / 'configs/faster_rcnn/faster-rcnn_shufflenetv2-x1.0_fpn_1x_coco.py'
pytestmark = pytest.mark.usefixtures('hub')
# Those that name weights whose family is known without the file.
CONFIGS = sorted(p for p in (REPO / 'configs').rglob('*.py') if 'mmshuffle://' in p.read_text())


def found(checkpoint: str, preprocessor: dict | None, **init_cfg) -> list:
    model = dict(backbone=dict(type='X'), data_preprocessor=preprocessor)
    model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=checkpoint, **init_cfg)
    return list(check_input(model))


@pytest.mark.parametrize(
    ('checkpoint', 'preprocessor', 'sound'),
    [
        (SHUFFLENET, dict(bgr_to_rgb=True, **IMAGENET), True),
        (SHUFFLENET, dict(bgr_to_rgb=True, **ROUNDED), True),
        (SHUFFLENET, dict(bgr_to_rgb=True, **TENSORFLOW), False),
        # The same numbers for channels in the other order.
        (SHUFFLENET, dict(bgr_to_rgb=False, **IMAGENET), False),
        # Either swaps them.
        (SHUFFLENET, dict(rgb_to_bgr=True, **IMAGENET), True),
        # Caffe's: the mean nearly agrees, the scale does not.
        (SHUFFLENET, dict(bgr_to_rgb=True, mean=IMAGENET['mean'], std=[1.0] * 3), False),
        (SHUFFLENET, dict(bgr_to_rgb=True), False),
        (MOBILENET, dict(bgr_to_rgb=True, **TENSORFLOW), True),
        (MOBILENET, dict(bgr_to_rgb=True, mean=[127.5], std=[127.5]), True),
        (MOBILENET, dict(bgr_to_rgb=True, **IMAGENET), False),
        (MOBILENET, TENSORFLOW, False),
        (find_entry(SHUFFLENET).url, dict(bgr_to_rgb=True, **TENSORFLOW), False),
        ('torchvision://shufflenetv2_x0.5', dict(bgr_to_rgb=True, **TENSORFLOW), False),
        # Not to be told without a download.
        ('torchvision://resnet50', dict(bgr_to_rgb=True, **TENSORFLOW), True),
        ('open-mmlab://detectron2/resnet50_caffe', TENSORFLOW, True),
        ('https://example.com/shufflenetv2_x0.5.pth', TENSORFLOW, True),
        ('absent.pth', TENSORFLOW, True),
    ],
)
def test_zoo_names_and_addresses(checkpoint, preprocessor, sound):
    problems = found(checkpoint, preprocessor)
    assert bool(problems) is not sound
    assert all(p.where == 'model.data_preprocessor' and not p.fatal for p in problems)


def test_the_warning_says_what_to_set():
    (problem,) = found(MOBILENET, dict(bgr_to_rgb=False, **IMAGENET))
    assert problem.message == (
        'feeds BGR, mean (123.675, 116.28, 103.53), std (58.395, 57.12, 57.375), but '
        'mmshuffle://timm/mobilenetv1-x1.0 was trained on RGB, mean 127.5, std 127.5: unless that '
        'is meant, set mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], bgr_to_rgb=True'
    )
    told = problem.message.partition(', set ')[2]
    assert found(MOBILENET, eval(f'dict({told})')) == []


def test_a_file_on_this_machine_is_looked_into(tmp_path):
    state = drawn_state(torchvision_v2, 0.5)
    torch.save(state, tmp_path / 'a.pth')
    torch.save({f'net.{key}': value for key, value in state.items()}, tmp_path / 'b.pth')
    shapes = {'0/weights': (3, 3, 3, 32), '1_depthwise/depthwise_weights': (3, 3, 32, 1)}
    slim = {f'MobilenetV1/Conv2d_{n}': np.zeros(s, np.float32) for n, s in shapes.items()}
    np.savez(tmp_path / 'c.npz', **slim)
    a, b, c, d = (str(tmp_path / name) for name in ('a.pth', 'b.pth', 'c.npz', 'd.pth'))
    assert not found(a, dict(bgr_to_rgb=True, **IMAGENET)) and found(a, TENSORFLOW)
    assert found(a, TENSORFLOW, allow_missing=['stages.4.'])
    assert found(b, TENSORFLOW, prefix='net') == found(b, TENSORFLOW) != []
    assert not found(c, dict(bgr_to_rgb=True, **TENSORFLOW)) and found(c, IMAGENET)
    (tmp_path / 'd.pth').write_text('no weights')  # which the loader says
    assert not found(d, TENSORFLOW)


def test_a_cached_download_is_looked_into(hub):
    url = 'https://example.com/net-0a1b2c3d.pth'
    assert not found(url, TENSORFLOW)
    hub.mkdir(parents=True)
    torch.save(drawn_state(torchvision_v2, 0.5), hub / 'net-0a1b2c3d.pth')
    assert found(url, TENSORFLOW)


def test_a_name_that_the_zoo_lacks_is_an_error():
    (problem,) = found('mmshuffle://torchvision/shufflenetv2-x3.0', IMAGENET)
    assert problem.fatal and problem.where == 'model.backbone.init_cfg.checkpoint'
    assert 'meant mmshuffle://torchvision/shufflenetv2-x' in problem.message


def test_only_what_is_loaded_counts():
    wrong = dict(bgr_to_rgb=True, **TENSORFLOW)
    init_cfg = [dict(type='Kaiming'), dict(type='Pretrained', checkpoint=SHUFFLENET)]
    backbone = dict(type='X', init_cfg=init_cfg)
    assert list(check_input(dict(backbone=backbone, data_preprocessor=wrong)))
    assert not list(check_input(dict(backbone=backbone)))
    for parts in ({}, dict(backbone=dict(type='X')), dict(backbone=dict(init_cfg=init_cfg[:1]))):
        assert not list(check_input(dict(parts, data_preprocessor=wrong)))


def test_the_check_of_a_detector_includes_it():
    cfg = Config.fromfile(DETECTOR)
    assert list(check_model(cfg.model)) == []
    cfg.model.data_preprocessor.bgr_to_rgb = False
    (problem,) = check_model(cfg.model)
    assert problem.where == 'model.data_preprocessor'
    # The whole detector is then filled from another file, with another input perhaps.
    cfg.load_from = 'https://example.com/detector.pth'
    assert not [p for p in check_config(cfg) if p.where == 'model.data_preprocessor']


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_feed_what_their_weights_expect(path):
    model = Config.fromfile(path).model
    assert list(check_input(model)) == []
    model.data_preprocessor.mean = [0.0, 0.0, 0.0]
    assert len(list(check_input(model))) == 1
