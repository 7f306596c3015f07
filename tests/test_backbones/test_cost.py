"""Multiply-adds and parameters that are printed elsewhere than in the papers' tables.

Their rows are counted, by another counter, in ``tests/test_analysis/test_tables.py``.
"""

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from tests.tiny import count_multiply_adds
from tests.variants import VARIANTS

CLASSES = 1000


def count(cfg: dict, classifier: bool = True) -> tuple[float, float]:
    """Multiply-adds and parameters in millions, at 224x224, with the ImageNet classifier."""
    with torch.device('meta'):
        net = MODELS.build(cfg)
    weights = net.out_channels[-1] * CLASSES
    parameters = sum(p.numel() for p in net.parameters()) + weights + CLASSES
    macs = count_multiply_adds(net, (1, 3, 224, 224))
    return (macs + (weights if classifier else 0)) / 1e6, parameters / 1e6


@pytest.mark.parametrize(
    ('name', 'exact', 'parameters'),
    [
        # What the authors' releases print, whose ShuffleNets have no bias in the classifier.
        ('shufflenetv1-x0.5-g3', 37.6, 0.7),
        ('shufflenetv1-x1.5-g3', 292.4, 3.4),
        ('shufflenetv1-x2.0-g3', 524.0, 5.4),
        ('shufflenetv1-x0.5-g8', 40.5, 1.0),
        ('shufflenetv1-x1.5-g8', 290.2, 4.3),
        ('shufflenetv1-x2.0-g8', 521.9, 6.5),
        ('shufflenetv2-x0.5-megvii', 40.5, 1.4),
        ('shufflenetv2-x1.0-megvii', 145.8, 2.3),
        ('shufflenetv2-x1.5-megvii', 299.0, 3.5),
        ('shufflenetv2-x2.0-megvii', 590.8, 7.4),
        # What torchvision's weights hold.
        ('shufflenetv2-x0.5-torchvision', 40.5, 1.366792),
        ('shufflenetv2-x1.0-torchvision', 144.9, 2.278604),
        ('shufflenetv2-x1.5-torchvision', 295.8, 3.503624),
        ('shufflenetv2-x2.0-torchvision', 583.3, 7.393996),
        # Choices that the papers leave open, as their docstrings give them.
        ('shufflenetv1-x2.0-g3-se', 526.6, None),
        ('shufflenetv1-shallow-x0.5-g3', 39.8, None),
        ('shufflenetv1-50-g3', 2297.1, None),
        ('shufflenetv2star-x0.5', 42.9, None),
        ('shufflenetv2star-x1.0', 150.7, None),
        ('shufflenetv2star-x1.5', 306.0, None),
        ('shufflenetv2star-x2.0', 600.3, None),
        ('shufflenetv2-x2.0-se', 596.8, None),
        ('shufflenetv2-50', 2314.7, None),
        ('shufflenetv2-164-se-residual', 12604.3, None),
        ('xceptionlike-x0.5', 39.5, None),
        ('xceptionlike-x1.0', 144.8, None),
        ('xceptionlike-x1.5', 304.6, None),
        ('xceptionlike-x2.0', 525.4, None),
    ],
)
def test_cost_is_the_documented_one(name, exact, parameters):
    cfg = VARIANTS[name]
    found = count({**cfg, 'out_indices': (4 if cfg['type'] == 'ShuffleNetV2' else 3,)})
    assert found[0] == pytest.approx(exact, abs=0.06)
    margin = 1e-9 if 'torchvision' in name else 0.06
    assert parameters is None or found[1] == pytest.approx(parameters, abs=margin)


@pytest.mark.parametrize(
    ('groups', 'channels', 'macs'),
    [
        (1, (144, 288, 576), 143),
        (2, (200, 400, 800), 140),
        (3, (240, 480, 960), 137),
        (4, (272, 544, 1088), 133),
        (8, (384, 768, 1536), 137),
    ],
)
def test_shufflenet_v1_table_1(groups, channels, macs):
    """The printed totals come out by rounding only without the classifier."""
    cfg = dict(type='ShuffleNetV1', groups=groups)
    assert MODELS.build(cfg).out_channels[1:] == channels
    without = count(cfg, classifier=False)[0]
    assert without == pytest.approx(macs, abs=0.51)


SQUEEZE = dict(type='SqueezeNet', padding='published', out_indices=(2,))
ALEX = dict(type='AlexNet', padding='published')


@pytest.mark.parametrize(
    ('net', 'size', 'macs', 'parameters'),
    [
        # The ShuffleNet paper (Table 6) prints 833.
        (SQUEEZE, 227, 832.7, 1248424),
        # torchvision prints 0.82 and 0.35 G.
        (SQUEEZE, 224, 818.9, 1248424),
        (dict(SQUEEZE, version='1.1'), 224, 349.2, 1235496),
        (dict(SQUEEZE, bypass='simple'), 227, 832.7, 1248424),
        # 341,248 more. Table 3 prints 7.7 MB, which would be some 2.02 M parameters where its 4.8
        # MB are 1.25 M.
        (dict(SQUEEZE, bypass='complex'), 227, 1184.0, 1589672),
        # The ShuffleNet (Table 6) and MobileNet papers (Table 9) print 720 and 60: at 224 the first
        # convolution, which is not padded, has 54x54 outputs. Caffe trains at 227, for 55x55.
        (dict(ALEX, version='caffe'), 224, 720.6, 60965224),
        (dict(ALEX, version='caffe'), 227, 724.4, 60965224),
        # torchvision prints 0.71 G and this number of parameters.
        (dict(ALEX, version='torchvision'), 224, 714.2, 61100840),
    ],
)
def test_networks_with_a_classifier_of_their_own(net, size, macs, parameters):
    backbone = MODELS.build(net)
    kind = 'ConvHead' if net['type'] == 'SqueezeNet' else 'HiddenLayersHead'
    channels = backbone.out_channels[-1]
    head = MODELS.build(dict(type=kind, in_channels=channels, num_classes=CLASSES))
    model = nn.Sequential(backbone, head)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert count_multiply_adds(model, (1, 3, size, size)) / 1e6 == pytest.approx(macs, abs=0.06)


def test_squeezenets_1700_million_are_operations_of_the_release():
    """MobileNet's Table 9 prints 1700, twice the ShuffleNet paper's 833.

    The Caffe release pads its last, 1x1, convolution by 1 for no gain. With a multiplication and an
    addition counted as two, that is the 1.72 G operations that its page on version 1.1 stated.
    """
    last = nn.Conv2d(512, CLASSES, 1, padding=1)
    macs = count_multiply_adds(MODELS.build(SQUEEZE), (1, 3, 227, 227)) + count_multiply_adds(
        last, (1, 512, 13, 13)
    )
    assert 2 * macs / 1e6 == pytest.approx(1722.7, abs=0.05)
