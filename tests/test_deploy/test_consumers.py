"""What reads a backbone's outputs reads them in the order in which they come."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.necks import FPN, PAFPN
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import Tensor, nn

from mmshuffle.backbones import ShuffleNetV2
from mmshuffle.deploy import shuffle_free
from mmshuffle.deploy.shuffle_free import has_shuffle
from tests.conftest import REPO
from tests.test_deploy.plain import assert_same, channel_operations, randomise, worst
from tests.test_deploy.random_networks import aligns, examples, shufflenet_v1s, shufflenet_v2s

HEADS = (
    dict(type='LinearHead', bias=False),
    dict(type='ConvHead'),
    dict(type='HiddenLayersHead', pool_size=2, hidden_channels=(7,)),
    dict(type='HiddenLayersHead', pool_size=2, hidden_channels=()),
)


@examples(25)
@given(data=st.data(), align=aligns, interleave=st.booleans(), head=st.sampled_from(HEADS))
def test_a_classifier_gives_the_same_scores(data, align, interleave, head):
    family, stages = data.draw(st.sampled_from(((shufflenet_v2s, 5), (shufflenet_v1s, 4))))
    last = data.draw(st.integers(0, stages - 1))
    drawn = data.draw(family(out_indices=(last,)))
    (channels,) = drawn.network.out_channels
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='ShuffleNetV1', widen_factor=0.25, out_indices=(0,)),
            head=dict(in_channels=channels, num_classes=5, **head),
        )
    )
    model.backbone = drawn.network
    randomise(model.head)
    assert_same(model, lambda model: shuffle_free(model, align, interleave))
    # Nothing is left to be put in order behind the backbone.
    assert nothing_puts_in_order(shuffle_free(model, align, interleave).backbone)


@pytest.mark.parametrize(
    ('family', 'kind', 'start', 'extra'),
    [
        (shufflenet_v1s, FPN, 0, False),
        (shufflenet_v2s, FPN, 0, 'on_output'),
        (shufflenet_v2s, FPN, 1, 'on_input'),
        (shufflenet_v2s, PAFPN, 1, 'on_input'),
    ],
)
@examples(5)
@given(data=st.data(), align=aligns, interleave=st.booleans())
def test_an_fpn_gives_the_same_maps(family, kind, start, extra, data, align, interleave):
    backbone = data.draw(family(out_indices=(0, 1, 2, 3), strides=(32,))).network
    neck = kind(
        list(backbone.out_channels),
        4,
        num_outs=6 - start,
        start_level=start,
        add_extra_convs=extra,
        norm_cfg=data.draw(st.sampled_from((None, dict(type='BN')))),
    )
    randomise(neck)
    pair = nn.Sequential(backbone, neck)
    assert_same(pair, lambda pair: shuffle_free(pair, align, interleave))
    assert nothing_puts_in_order(shuffle_free(pair, align, interleave)[0])


def nothing_puts_in_order(backbone: nn.Module) -> bool:
    return all(isinstance(part, nn.Identity) for part in backbone.restores)


class OddNeck(FPN):
    """A neck that reads the backbone's outputs in a way of its own."""

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x * torch.arange(x.shape[1]).reshape(-1, 1, 1) for x in inputs)


class Twice(nn.Sequential):
    """A backbone and its neck, the first of which is read directly, too."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = self[0](x)
        return (*self[1](outputs), outputs[1])


class Scaled(ShuffleNetV2):
    """A backbone with a forward pass of its own."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return super().forward(x / 255)


@pytest.mark.parametrize(
    ('backbone', 'combine'),
    [
        (ShuffleNetV2, lambda net: nn.Sequential(net, OddNeck(list(net.out_channels), 4, 4))),
        (ShuffleNetV2, lambda net: Twice(net, FPN(list(net.out_channels), 4, 4))),
        (Scaled, lambda net: net),
    ],
    ids=['odd neck', 'read twice', 'odd backbone'],
)
def test_unknown_readers_get_the_plain_order_and_unknown_networks_stay(backbone, combine):
    model = combine(randomise(backbone(0.5, 'torchvision')))
    assert_same(model, shuffle_free, lambda model: shuffle_free(model, align=16))


C4 = REPO / 'configs/_base_/models/faster-rcnn_c4.py'


@pytest.fixture(params=['ShuffleNetV2', 'ShuffleNetV1'])
def c4(request):
    backbone = dict(type=request.param, widen_factor=0.5)
    backbone |= dict(layout='torchvision') if request.param == 'ShuffleNetV2' else {}
    taps = MODELS.build({**backbone, 'out_indices': (2, 3)})
    trunk, last = taps.out_channels
    cfg = Config.fromfile(C4).model
    cfg.backbone = dict(out_indices=(2,), **backbone)
    cfg.rpn_head.update(in_channels=trunk, feat_channels=8)
    cfg.roi_head.shared_head = dict(type='BackboneStageHead', backbone=backbone)
    cfg.roi_head.bbox_roi_extractor.out_channels = trunk
    cfg.roi_head.bbox_head.update(in_channels=last, num_classes=3)
    return randomise(MODELS.build(cfg)).double().eval()


@torch.no_grad()
def heads(detector: nn.Module) -> list[Tensor]:
    """RPN outputs, the box head's on fixed RoIs, and what it gets there."""
    images = torch.randn(2, 3, 96, 96, dtype=torch.double, generator=torch.manual_seed(0))
    features = detector.extract_feat(images)
    rois = torch.tensor([[0, 3, 5, 70, 60], [1, 20, 8, 50, 90]]).to(images)
    boxes = detector.roi_head._bbox_forward(features, rois)
    (scores,), (deltas,) = detector.rpn_head(features)
    return [scores, deltas, boxes['cls_score'], boxes['bbox_pred'], boxes['bbox_feats']]


def test_a_c4_detector_absorbs_the_order(c4):
    expected = heads(c4)[:4]
    for rewritten in (shuffle_free(c4), shuffle_free(c4, 16), shuffle_free(c4, 8, True)):
        assert worst(expected, heads(rewritten)[:4]) < 1e-12
        assert not has_shuffle(rewritten)
    if isinstance(c4.backbone, ShuffleNetV2):
        rewritten = shuffle_free(c4)
        assert nothing_puts_in_order(rewritten.backbone)
        shape = (1, c4.roi_head.shared_head.in_channels, 8, 8)
        found = channel_operations(rewritten.roi_head.shared_head, shape)
        assert 'index_select' not in found and found['split'] > 0


class OddHead(BBoxHead):
    """A head that reads what is pooled in a way of its own."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return super().forward(x * torch.arange(x.shape[1]).reshape(-1, 1, 1))


@pytest.mark.parametrize('odd', ['box head', 'mask head'])
def test_a_c4_detector_with_another_head_gets_the_plain_order(c4, odd):
    if odd == 'box head':
        c4.roi_head.bbox_head.__class__ = OddHead
    else:
        c4.roi_head.mask_head = nn.Identity()
    assert worst(heads(c4), heads(shuffle_free(c4))) < 1e-12
