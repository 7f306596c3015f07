"""Multiply-adds and parameters are the papers'."""

import pytest
from mmdet.registry import MODELS
from torch import nn

from mmshuffle.analysis import count_multiply_adds

CLASSES = 1000


def count(cfg: dict, classifier: bool = True, bias: bool = True) -> tuple[float, float]:
    """Multiply-adds and parameters in millions, at 224x224, with the ImageNet classifier."""
    net = MODELS.build(cfg)
    weights = net.out_channels[-1] * CLASSES
    parameters = sum(p.numel() for p in net.parameters()) + weights + (CLASSES if bias else 0)
    macs = count_multiply_adds(net, (1, 3, 224, 224))
    return (macs + (weights if classifier else 0)) / 1e6, parameters / 1e6


@pytest.mark.parametrize(
    ('width', 'macs', 'exact', 'parameters'),
    [(0.5, 41, 40.5, 1.4), (1.0, 146, 145.8, 2.3), (1.5, 299, 299.0, 3.5), (2.0, 591, 590.8, 7.4)],
)
def test_shufflenet_v2_table_5(width, macs, exact, parameters):
    found = count(dict(type='ShuffleNetV2', widen_factor=width, out_indices=(4,)))
    assert found[0] == pytest.approx(exact, abs=0.05)
    assert found[0] == pytest.approx(macs, abs=0.55)
    assert round(found[1], 1) == parameters


@pytest.mark.parametrize(
    ('width', 'macs', 'parameters'),
    [(0.5, 40.5, 1366792), (1.0, 144.9, 2278604), (1.5, 295.8, 3503624), (2.0, 583.3, 7393996)],
)
def test_shufflenet_v2_in_torchvisions_layout(width, macs, parameters):
    cfg = dict(type='ShuffleNetV2', widen_factor=width, layout='torchvision', out_indices=(4,))
    found = count(cfg)
    assert found[0] == pytest.approx(macs, abs=0.06)
    assert found[1] * 1e6 == parameters


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


@pytest.mark.parametrize(
    ('groups', 'width', 'macs', 'parameters'),
    [
        # Tables 5 and 8 of the paper; parameters of the authors' release.
        (3, 2.0, 524, 5.4),
        (3, 1.5, 292, 3.4),
        (3, 0.5, 38, 0.7),
        (4, 0.5, 38, None),
        # The authors' release.
        (8, 2.0, 522, 6.5),
        (8, 1.5, 290, 4.3),
        (8, 1.0, 138, 2.4),
        (8, 0.5, 40, 1.0),
        # Table 2: 13 and 38 M for every group count.
        (1, 0.25, 13, None),
        (2, 0.25, 13, None),
        (3, 0.25, 13, None),
        (4, 0.25, 13, None),
        (1, 0.5, 38, None),
        (2, 0.5, 38, None),
    ],
)
def test_shufflenet_v1_at_other_widths(groups, width, macs, parameters):
    found = count(dict(type='ShuffleNetV1', groups=groups, widen_factor=width))
    assert found[0] == pytest.approx(macs, abs=0.55)
    if parameters is not None:
        # The release has no bias in its classifier and prints one decimal.
        assert found[1] == pytest.approx(parameters, abs=0.06)


@pytest.mark.parametrize(
    ('width', 'size', 'macs', 'parameters'),
    [
        (1.0, 224, 569, 4.2),
        (0.75, 224, 325, 2.6),
        (0.5, 224, 149, 1.3),
        (0.25, 224, 41, 0.5),
        (1.0, 192, 418, 4.2),
        (1.0, 160, 290, 4.2),
        (1.0, 128, 186, 4.2),
    ],
)
def test_mobilenet_v1_tables_6_and_7(width, size, macs, parameters):
    net = MODELS.build(dict(type='MobileNetV1', widen_factor=width))
    head = nn.Linear(net.out_channels[-1], CLASSES)
    total = sum(p.numel() for m in (net, head) for p in m.parameters()) / 1e6
    found = count_multiply_adds(net, (1, 3, size, size)) / 1e6 + head.weight.numel() / 1e6
    assert found == pytest.approx(macs, abs=1.0)
    assert round(total, 1) == parameters


def test_counter_agrees_with_a_net_counted_by_hand():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 5x7 outputs: 35 * 8 * 27
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),  # 35 * 8 * 9
        nn.Conv2d(8, 4, 1, groups=2),  # 35 * 4 * 4
        nn.Flatten(),
        nn.Linear(140, 10),  # 1400
    )
    assert count_multiply_adds(net, (1, 3, 10, 14)) == 35 * (8 * 27 + 8 * 9 + 4 * 4) + 1400
