"""Parts of Light-Head R-CNN against slow references that anyone can check by eye."""

import itertools
import math

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor

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


def bilinear(plane: Tensor, y: float, x: float) -> Tensor:
    """A sample of one channel: 0 beyond a pixel from the border, the border's within it."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return plane.sum() * 0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = plane[top, left] * (1 - dx) + plane[top, right] * dx
    lower = plane[bottom, left] * (1 - dx) + plane[bottom, right] * dx
    return upper * (1 - dy) + lower * dy


def pool_slowly(x: Tensor, rois: Tensor, layer: PSRoIAlign) -> Tensor:
    """Position-sensitive RoI align, one sample after another."""
    height, width = layer.output_size
    channels = x.shape[1] // (height * width)
    cells = []
    for roi, c, i, j in itertools.product(rois.tolist(), *map(range, (channels, height, width))):
        x1, y1, x2, y2 = (value * layer.spatial_scale for value in roi[1:])
        plane = x[int(roi[0]), (c * height + i) * width + j]
        if layer.aligned:
            x1, y1, x2, y2 = x1 - 0.5, y1 - 0.5, x2 - 0.5, y2 - 0.5
            roi_width, roi_height = x2 - x1, y2 - y1
        else:
            roi_width, roi_height = max(x2 - x1, 1), max(y2 - y1, 1)
        bin_height, bin_width = roi_height / height, roi_width / width
        rows = layer.sampling_ratio or math.ceil(bin_height)
        columns = layer.sampling_ratio or math.ceil(bin_width)
        samples = [
            bilinear(
                plane,
                y1 + (i + (row + 0.5) / rows) * bin_height,
                x1 + (j + (column + 0.5) / columns) * bin_width,
            )
            for row, column in itertools.product(range(rows), range(columns))
        ]
        whole = torch.stack(samples) if samples else x.new_zeros(1)
        cells.append(whole.max() if layer.pool_mode == 'max' else whole.mean())
    return torch.stack(cells).view(len(rois), channels, height, width)


@pytest.mark.parametrize('size', [(3, 2), 3], ids=str)
@pytest.mark.parametrize('ratio', [2, 0], ids=['2x2', 'adaptive'])
@pytest.mark.parametrize('aligned', [False, True], ids=['legacy', 'aligned'])
@pytest.mark.parametrize('mode', ['max', 'avg'])
def test_ps_roi_align_is_the_slow_one(mode, aligned, ratio, size):
    layer = PSRoIAlign(size, 0.25, ratio, mode, aligned)
    bins = layer.output_size[0] * layer.output_size[1]
    x = torch.randn(2, 2 * bins, 10, 12, dtype=torch.float64, requires_grad=True)
    # mmcv refuses RoIs that are turned round where they are not made one pixel wide.
    rois = torch.tensor(ROIS if aligned else (*ROIS, TURNED), dtype=torch.float64)
    if ratio == 0 and aligned:
        rois = rois[:3]  # an empty one has no samples
    found, expected = layer(x, rois), pool_slowly(x, rois, layer)
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)
    weights = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, expected))
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-9) and theirs.abs().max() > 0.1


@pytest.mark.parametrize('mode', ['max', 'avg'])
def test_ps_roi_align_passes_gradcheck(mode):
    layer = PSRoIAlign(2, 0.25, 2, mode)
    x = torch.randn(2, 4, 6, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x, torch.tensor(ROIS[:3], dtype=torch.float64)))


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
    cfg = dict(
        type='PSRoIExtractor',
        roi_layer=dict(type='PSRoIAlign'),
        out_channels=10,
        featmap_strides=[16],
    )
    with pytest.raises(ValueError, match=words):
        MODELS.build({**cfg, **changes})


def convolve_slowly(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, axis: int) -> np.ndarray:
    """Convolve (C, H, W) along one axis, beyond whose ends is 0, tap by tap."""
    size = weight.shape[-1]
    out = np.zeros((len(bias), *x.shape[1:])) + bias[:, None, None]
    for place in range(x.shape[axis]):
        for tap in range(size):
            source = place + tap - size // 2
            if 0 <= source < x.shape[axis]:
                column = np.take(x, source, axis)  # (C, other side)
                target = out[:, place] if axis == 1 else out[:, :, place]
                target += weight[:, :, tap] @ column
    return out


def test_the_large_separable_convolution_is_the_slow_one():
    neck = MODELS.build(
        dict(
            type='LargeSeparableConv',
            in_channels=[3, 4],
            mid_channels=2,
            out_channels=6,
            kernel_size=5,
        )
    ).double()
    for parameter in neck.parameters():
        torch.nn.init.normal_(parameter)
    c4, c5 = torch.randn(1, 3, 7, 6).double(), torch.randn(1, 4, 7, 6).double()
    c5.requires_grad_()
    thin, passed = neck((c4, c5))
    assert passed is c4
    total = np.zeros((6, 7, 6))
    for branch, axes in zip(neck.branches, ((1, 2), (2, 1)), strict=True):
        y = c5[0].detach().numpy()
        for conv, axis in zip(branch, axes, strict=True):
            assert conv.kernel_size == ((5, 1) if axis == 1 else (1, 5))
            weight = conv.weight.detach().numpy().reshape(conv.out_channels, conv.in_channels, 5)
            y = convolve_slowly(y, weight, conv.bias.detach().numpy(), axis)
        total += y
    assert np.allclose(thin[0].detach().numpy(), total.clip(min=0), atol=1e-10)
    assert 0.2 < (thin > 0).double().mean() < 0.8
    assert torch.autograd.gradcheck(lambda x: neck((c4, x))[0], (c5,))


def test_the_rpn_reads_c4_alone():
    settings = dict(
        in_channels=8,
        feat_channels=8,
        anchor_generator=dict(type='AnchorGenerator', scales=[2], ratios=[1.0], strides=[16]),
    )
    ours = MODELS.build(dict(type='LastMapRPNHead', **settings))
    theirs = MODELS.build(dict(type='RPNHead', **settings))
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
    from mmengine.config import Config

    config = f'configs/light_head_rcnn/light-head-rcnn_mobilenetv2-x{width}_8xb2-20e_coco.py'
    backbone = Config.fromfile(REPO / config).model.backbone
    backbone.init_cfg.checkpoint = str(path)
    network = MODELS.build(backbone)
    network.init_weights()
    own = network.state_dict()
    assert own and all(torch.equal(value, classifier.state_dict()[k]) for k, value in own.items())
