"""The last stage as a shared RoI head."""

import pytest
import torch
from mmdet.registry import MODELS

from mmshuffle.errors import UserError
from tests.variants import KINDS, build

every_kind = pytest.mark.parametrize('name', KINDS)


@every_kind
def test_trunk_and_head_together_are_the_backbone(name, tmp_path):
    from tests.variants import VARIANTS

    whole = build(name).eval()
    whole.init_weights()
    path = tmp_path / 'backbone.pth'
    torch.save({**whole.state_dict(), 'fc.weight': torch.ones(1)}, path)
    pretrained = dict(type='Pretrained', checkpoint=str(path))
    trunk = build(name, out_indices=(2,), init_cfg=pretrained).eval()
    head = MODELS.build(
        dict(type='BackboneStageHead', backbone=VARIANTS[name], init_cfg=pretrained)
    ).eval()
    trunk.init_weights()
    head.init_weights()
    assert head.in_channels == trunk.out_channels[0]
    assert head.out_channels == whole.out_channels[3]
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(head(trunk(x)[0]), whole(x)[3])
    names = {n.split('.')[0] for n in head.state_dict()}
    assert names == {'stage'}


def test_norm_eval_of_the_backbone_holds():
    backbone = dict(type='ShuffleNetV1', widen_factor=0.25, norm_eval=True)
    head = MODELS.build(dict(type='BackboneStageHead', backbone=backbone)).train()
    before = {k: v.clone() for k, v in head.named_buffers()}
    head(torch.rand(2, head.in_channels, 14, 14))
    assert all(torch.equal(before[k], v) for k, v in head.named_buffers())


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(build('mobilenetv1-x0.25').state_dict(), path)
    head = MODELS.build(
        dict(
            type='BackboneStageHead',
            backbone=dict(type='ShuffleNetV1'),
            init_cfg=dict(type='Pretrained', checkpoint=str(path)),
        )
    )
    with pytest.raises(UserError, match='ShuffleNetV1'):
        head.init_weights()


def test_foreign_backbones_are_refused():
    with pytest.raises(ValueError, match='backbone of mmshuffle'):
        MODELS.build(dict(type='BackboneStageHead', backbone=dict(type='MobileNetV2'), stage=3))
