"""What each network computes, against independent implementations of the papers' figures."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmshuffle.analysis.textbook import TextbookShuffleNetV2
from mmshuffle.backbones import MobileNetV1, ShuffleNetV1, ShuffleNetV2
from mmshuffle.backbones.layers import channel_shuffle
from mmshuffle.weights.torchvision_shufflenet_v2 import convert


def randomise(net: nn.Module) -> nn.Module:
    """Random BatchNorm statistics and gains, so that a missing or swapped one shows."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return net.eval()


def test_channel_shuffle_deals_groups_out_in_turn():
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert channel_shuffle(x, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert torch.equal(channel_shuffle(channel_shuffle(x, 2), 3), x)


@pytest.mark.parametrize('width', [0.5, 1.0, 1.5, 2.0])
def test_shufflenet_v2_equals_the_textbook(width):
    textbook = randomise(TextbookShuffleNetV2(width)).double()
    net = ShuffleNetV2(width, 'torchvision', out_indices=(0, 1, 2, 3, 4)).double().eval()
    net.load_state_dict(convert(net, textbook.state_dict()))
    x = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        for a, b in zip(net(x), textbook(x), strict=True):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)


def test_megvii_layout_passes_even_channels_and_convolves_odd_ones():
    net = randomise(ShuffleNetV2(1.0, 'megvii')).double()
    stage = net.stages[1]
    x = torch.rand(1, 24, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        y = torch.cat((stage.projection(x), stage.branches[0](x)), 1)
        for branch in stage.branches[1:]:
            y = torch.cat((y[:, 0::2], branch(y[:, 1::2])), 1)
        assert torch.allclose(stage(x), y, rtol=1e-12, atol=1e-12)
    assert stage.projection[1].out_channels == 24
    assert stage.branches[0][2].out_channels == 92


@pytest.mark.parametrize('groups', [1, 3, 8])
@pytest.mark.parametrize('shuffle', ['paper', 'inverse', 'none'])
def test_shufflenet_v1_unit_follows_figure_2(groups, shuffle):
    net = randomise(ShuffleNetV1(groups, 1.0, shuffle)).double()

    def unit(module: nn.Module, x: torch.Tensor, stride: int, first_groups: int) -> torch.Tensor:
        def norm(bn: nn.BatchNorm2d, y: torch.Tensor) -> torch.Tensor:
            return F.batch_norm(y, bn.running_mean, bn.running_var, bn.weight, bn.bias)

        reduce, depthwise, expand = (
            (m.conv.weight, m.bn) for m in (module.reduce, module.depthwise, module.expand)
        )
        y = F.relu(norm(reduce[1], F.conv2d(x, reduce[0], groups=first_groups)))
        n, c, h, w = y.shape
        if shuffle == 'paper':
            y = y.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)
        elif shuffle == 'inverse':
            y = y.view(n, c // groups, groups, h, w).transpose(1, 2).reshape(n, c, h, w)
        y = F.conv2d(y, depthwise[0], stride=stride, padding=1, groups=c)
        y = norm(expand[1], F.conv2d(norm(depthwise[1], y), expand[0], groups=groups))
        if stride == 2:
            return F.relu(torch.cat((F.avg_pool2d(x, 3, 2, 1), y), 1))
        return F.relu(x + y)

    x = torch.rand(2, 24, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        for index in (1, 2):
            y = x
            for i, module in enumerate(net.stages[index]):
                first = 1 if index == 1 and i == 0 else groups
                y = unit(module, y, 2 if i == 0 else 1, first)
            x = net.stages[index](x)
            assert torch.allclose(x, y, rtol=1e-10, atol=1e-10)


def test_mobilenet_v1_same_padding_is_tensorflows():
    net = randomise(MobileNetV1(0.25, 'same')).eval()
    conv = net.stages[0][0]
    # Even sizes are padded below and on the right only, odd ones on both sides.
    for size, pads in ((8, (0, 1, 0, 1)), (9, (1, 1, 1, 1))):
        x = torch.rand(1, 3, size, size)
        with torch.no_grad():
            plain = F.conv2d(F.pad(x, pads), conv.conv.weight, stride=2)
            assert torch.allclose(conv.conv(x), plain, atol=1e-6)


def test_mobilenet_v1_last_layer_has_stride_1():
    net = MobileNetV1(1.0)
    strides = [m.depthwise.conv.stride[0] for s in net.stages for m in s if hasattr(m, 'depthwise')]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
