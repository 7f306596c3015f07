"""The last stage as a shared RoI head."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmshuffle.checks import check_model
from tests.conftest import REPO
from tests.variants import KINDS, VARIANTS, build

every_kind = pytest.mark.parametrize('name', KINDS)


def pretrained(checkpoint: object) -> dict:
    return dict(type='Pretrained', checkpoint=str(checkpoint))


def stage_head(backbone: dict, **kwargs) -> nn.Module:
    return MODELS.build(dict(type='BackboneStageHead', backbone=backbone, **kwargs))


@every_kind
def test_trunk_and_head_together_are_the_backbone(name, tmp_path):
    whole = build(name).eval()
    whole.init_weights()
    path = tmp_path / 'backbone.pth'
    torch.save({**whole.state_dict(), 'fc.weight': torch.ones(1)}, path)
    trunk = build(name, out_indices=(2,), init_cfg=pretrained(path)).eval()
    head = stage_head(VARIANTS[name], init_cfg=pretrained(path)).eval()
    trunk.init_weights(), head.init_weights()
    assert head.in_channels == trunk.out_channels[0]
    assert head.out_channels == whole.out_channels[3]
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(head(trunk(x)[0]), whole(x)[3])
    assert all(name.startswith('stage.') for name in head.state_dict())


def test_norm_eval_of_the_backbone_holds():
    backbone = dict(type='ShuffleNetV1', widen_factor=0.25, norm_eval=True)
    head = stage_head(backbone).train()
    before = {k: v.clone() for k, v in head.named_buffers()}
    head(torch.rand(2, head.in_channels, 14, 14))
    assert all(torch.equal(before[k], v) for k, v in head.named_buffers())


@pytest.mark.parametrize('place', ['head', 'backbone', 'both'])
def test_the_weights_of_the_backbone_are_those_of_its_stage(place, tmp_path):
    whole = build('shufflenetv1-50-g3')
    whole.init_weights()
    path = tmp_path / 'backbone.pth'
    torch.save(whole.state_dict(), path)
    init_cfg = pretrained(path)
    backbone = dict(VARIANTS['shufflenetv1-50-g3'], norm_eval=True)
    if place != 'head':
        backbone['init_cfg'] = init_cfg
    head = stage_head(backbone, init_cfg=None if place == 'backbone' else init_cfg)
    head.init_weights()
    expected = whole.stages[3].state_dict()
    assert all(torch.equal(expected[key], value) for key, value in head.stage.state_dict().items())


@pytest.mark.parametrize(
    ('backbone', 'arguments', 'told'),
    [
        (dict(type='MobileNetV2'), {}, 'backbone of mmshuffle'),
        (dict(init_cfg=pretrained('a.pth')), dict(init_cfg=pretrained('b.pth')), 'one of them'),
        *(({}, dict(stage=stage), 'an integer from 1') for stage in (0, -1, 1.0, '3', None)),
        ({}, dict(stage=4), 'out_indices=.*from 0 to 3'),
    ],
)
def test_what_cannot_be_a_head_is_refused(backbone, arguments, told):
    with pytest.raises(ValueError, match=told):
        stage_head({'type': 'ShuffleNetV1', **backbone}, **arguments)


def test_frozen_statistics_without_weights_are_warned_of():
    cfg = Config.fromfile(
        REPO / 'configs/faster_rcnn/faster-rcnn_shufflenetv1-x1.0-g3_c4-600_1x_coco.py'
    )
    cfg.model.roi_head.shared_head.init_cfg = None
    places = [p.where for p in check_model(cfg.model) if 'AP 0' in p.message]
    assert places == ['model.roi_head.shared_head']
