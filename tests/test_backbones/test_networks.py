"""What each network computes, against independent implementations of the papers' figures."""

import pytest
import torch
from textbook import TextbookShuffleNetV2
from torch import nn
from torch.nn import functional as F

from mmshuffle.backbones import AlexNet, MobileNetV1, ShuffleNetV1, ShuffleNetV2, SqueezeNet
from mmshuffle.backbones.layers import channel_shuffle
from mmshuffle.weights.families import recognise
from tests import references


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
    net.load_state_dict(recognise(net, textbook.state_dict())[1])
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


@pytest.mark.parametrize('version', ['1.0', '1.1'])
@pytest.mark.parametrize('bypass', [None, 'simple', 'complex'])
def test_squeezenet_bypasses_follow_figure_2(version, bypass):
    """Added around fire 3, 5, 7 and 9, and, through a convolution, around 2, 4, 6 and 8."""
    net = SqueezeNet(version, bypass).double().eval()
    net.init_weights()

    def conv(x: torch.Tensor, layer: nn.Module, padding: int = 0) -> torch.Tensor:
        return F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=padding)

    number = 1
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        for stage in net.stages:
            y = x
            for layer in stage:
                if not hasattr(layer, 'squeeze'):
                    y = layer(y)
                    continue
                number += 1
                squeezed = F.relu(conv(y, layer.squeeze))
                wide = conv(squeezed, layer.expand3x3, padding=1)
                z = F.relu(torch.cat((conv(squeezed, layer.expand1x1), wide), 1))
                if bypass is not None and number % 2:
                    z = z + y
                elif bypass == 'complex':
                    z = z + conv(y, layer.bypass)
                y = z
            x = stage(x)
            assert torch.allclose(x, y, rtol=1e-12, atol=1e-12)
    assert number == 9


def test_alexnet_of_2012_equals_two_towers_with_local_response_normalisation():
    tensors = references.Tensors()
    # Pixels of Caffe's range: at 0 to 1 the normalisation is too close to 1 to be seen.
    x = torch.rand(1, 3, 67, 67, dtype=torch.float64) * 255 - 127
    expected = references.caffe_alexnet(tensors, x)
    convs = ('stages.0.0', 'stages.1.1', 'stages.2.1', 'stages.2.2', 'stages.2.3')
    state = {
        f'{ours}.conv.{leaf}': tensors.state[f'conv{number}.{leaf}']
        for number, ours in enumerate(convs, 1)
        for leaf in ('weight', 'bias')
    }
    net = AlexNet('caffe', padding='published').double().eval()
    net.load_state_dict(state)
    with torch.no_grad():
        for a, b in zip(net(x), expected, strict=True):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)
    plain = AlexNet('caffe', padding='published', norm_cfg=dict(type='BN'))
    assert not [m for m in plain.modules() if isinstance(m, nn.LocalResponseNorm)]


def test_alexnet_biases_start_as_in_the_release():
    net = AlexNet('caffe')
    net.init_weights()
    biases = [m.bias for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [set(bias.tolist()) for bias in biases] == [
        {float(torch.tensor(value))} for value in (0.0, 0.1, 0.0, 0.1, 0.1)
    ]
    assert net.stages[2][1].conv.weight.std().item() == pytest.approx(0.01, rel=0.01)


def test_squeezenet_starts_with_the_variance_of_the_release():
    net = SqueezeNet('1.0')
    net.init_weights()
    for layer in (m for m in net.modules() if isinstance(m, nn.Conv2d)):
        bound = (3 / layer.weight[0].numel()) ** 0.5
        assert 0.98 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()
