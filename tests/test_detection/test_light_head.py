"""Parts of Light-Head R-CNN against plain ways to compute the same."""

import pytest
import torch
from mmcv.ops import roi_align
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import Tensor
from torch.nn import functional as F

from mmshuffle.detection.ps_roi_align import PSRoIAlign
from tests.conftest import REPO

# Image, x1, y1, x2, y2 on images of 48 x 40 pixels, with a map of stride 4: within, over every
# border, narrower than a pixel of the map, empty, turned round, outside.
ROIS = (
    (1, 5.2, 6.1, 33.7, 28.9),
    (0, -9.5, -7.3, 61.0, 52.2),
    (1, 20.1, 3.3, 21.2, 37.8),
    (0, 12.4, 17.9, 12.4, 17.9),
    (1, 70.0, 9.0, 90.0, 30.0),
)
TURNED = (0, 30.3, 22.2, 11.1, 8.8)


def pool_everything(x: Tensor, rois: Tensor, layer: PSRoIAlign) -> Tensor:
    """Position-sensitive RoI align as the diagonal of mmcv's RoIAlign of every bin and channel."""
    size = layer.output_size
    settings = (layer.spatial_scale, layer.sampling_ratio, layer.pool_mode, layer.aligned)
    pooled = roi_align(x, rois, size, *settings).unflatten(1, (-1, *size))
    return torch.einsum('rcijij->rcij', pooled)


@pytest.mark.parametrize('size', [(3, 2), 3], ids=str)
@pytest.mark.parametrize('ratio', [2, 0], ids=['2x2', 'adaptive'])
@pytest.mark.parametrize('aligned', [False, True], ids=['legacy', 'aligned'])
@pytest.mark.parametrize('mode', ['max', 'avg'])
def test_ps_roi_align_is_the_diagonal_of_all_bins(mode, aligned, ratio, size):
    layer = PSRoIAlign(size, 0.25, ratio, mode, aligned)
    bins = layer.output_size[0] * layer.output_size[1]
    x = torch.randn(2, 2 * bins, 10, 12, dtype=torch.float64, requires_grad=True)
    # mmcv refuses RoIs that are turned round where they are not made one pixel wide.
    rois = torch.tensor(ROIS if aligned else (*ROIS, TURNED), dtype=torch.float64)
    if ratio == 0 and aligned:
        rois = rois[:3]  # an empty one has no samples
    found, expected = layer(x, rois), pool_everything(x, rois, layer)
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)
    weights = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, expected))
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-9) and theirs.abs().max() > 0.1


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_places_in_a_large_batch(dtype):
    """256 images of 49 bins are more than half precision can count, and 1200 pixels more too."""
    x = torch.randn(256, 49, 4, 75).to(dtype)
    rois = torch.tensor([(255, 1151.3, 3.1, 1180.9, 60.3), (254, 3.7, 2.2, 1190.1, 50.9)])
    layer = PSRoIAlign(7, 1 / 16)
    found, expected = layer(x, rois), layer(x.float(), rois)
    assert found.dtype == dtype and torch.equal(found, expected.to(dtype))


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_the_memory_layout_does_not_matter_and_no_roi_is_allowed(layout):
    x = torch.randn(1, 8, 6, 7)
    rois = torch.tensor(ROIS[1:2])
    layer = PSRoIAlign(2, 0.25)
    assert torch.equal(layer(x.contiguous(memory_format=layout), rois), layer(x, rois))
    assert layer(x, rois[:0]).shape == (0, 2, 2, 2)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(featmap_strides=[16, 32]), 'give one'),
        (dict(roi_layer=dict(type='RoIAlign', output_size=7)), "type is 'PSRoIAlign'"),
        (dict(roi_layer=dict(type='PSRoIAlign', pool_mode='mean')), "'max' or 'avg'"),
    ],
)
def test_what_the_extractor_cannot_do_is_refused(changes, words):
    cfg = dict(roi_layer=dict(type='PSRoIAlign'), out_channels=10, featmap_strides=[16])
    with pytest.raises(ValueError, match=words):
        MODELS.build({'type': 'PSRoIExtractor', **cfg, **changes})


def test_the_large_separable_convolution_adds_both_orders_of_its_sides():
    sizes = dict(in_channels=[3, 4], mid_channels=2, out_channels=6, kernel_size=5)
    neck = MODELS.build(dict(type='LargeSeparableConv', **sizes)).double()
    for parameter in neck.parameters():
        torch.nn.init.normal_(parameter)
    c4, c5 = torch.randn(1, 3, 7, 6).double(), torch.randn(1, 4, 7, 6).double()
    thin, passed = neck((c4, c5))
    assert passed is c4
    total = torch.zeros(1, 6, 7, 6).double()
    for (first, second), kernels in zip(neck.branches, (((5, 1), (1, 5)), ((1, 5), (5, 1)))):
        assert (first.kernel_size, second.kernel_size) == kernels
        y = F.conv2d(c5, first.weight, first.bias, padding=[side // 2 for side in kernels[0]])
        total += F.conv2d(y, second.weight, second.bias, padding=[side // 2 for side in kernels[1]])
    assert torch.allclose(thin, total.clamp(min=0), rtol=0, atol=1e-10)
    assert 0.2 < (thin > 0).double().mean() < 0.8


def test_the_rpn_reads_c4_alone():
    anchors = dict(type='AnchorGenerator', scales=[2], ratios=[1.0], strides=[16])
    ours, theirs = (
        MODELS.build(dict(type=kind, in_channels=8, feat_channels=8, anchor_generator=anchors))
        for kind in ('LastMapRPNHead', 'RPNHead')
    )
    theirs.load_state_dict(ours.state_dict())
    thin, c4 = torch.randn(1, 490, 3, 4), torch.randn(1, 8, 3, 4)
    for found, expected in zip(ours((thin, c4)), theirs((c4,)), strict=True):
        assert len(found) == 1 and torch.equal(found[0], expected[0])


@pytest.mark.parametrize('width', ['0.15', '1.4'])
def test_a_dilated_mobilenet_v2_starts_from_a_classifier_of_this_project(width, tmp_path):
    classifier = MODELS.build(dict(type='MobileNetV2', widen_factor=float(width), out_indices=(7,)))
    path = tmp_path / 'epoch_240.pth'
    state = {f'backbone.{name}': value for name, value in classifier.state_dict().items()}
    torch.save(dict(state_dict={**state, 'head.fc.weight': torch.ones(2, 2)}, meta={}), path)
    config = f'configs/light_head_rcnn/light-head-rcnn_mobilenetv2-x{width}_8xb2-20e_coco.py'
    backbone = Config.fromfile(REPO / config).model.backbone
    backbone.init_cfg.checkpoint = str(path)
    network = MODELS.build(backbone)
    network.init_weights()
    own = network.state_dict()
    assert own and all(torch.equal(value, classifier.state_dict()[k]) for k, value in own.items())
