"""What each network computes, against independent implementations of the papers' figures."""

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from mmshuffle.backbones import AlexNet, SqueezeNet
from tests import references
from tests.test_deploy import plain
from tests.variants import VARIANTS, build


def randomise(net: nn.Module) -> nn.Module:
    """Random BatchNorm statistics and gains, so that a missing or swapped one shows.

    Convolutions, but the gates' and others with a bias, keep the scale of their input.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            nn.init.kaiming_normal_(module.weight)
    net.eval()  # MMDetection's returns nothing here
    return plain.randomise(net)


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
    normed = AlexNet('caffe', norm_cfg=dict(type='BN'))
    assert not [m for m in normed.modules() if isinstance(m, nn.LocalResponseNorm)]


def test_alexnet_and_squeezenet_start_as_their_releases_do():
    networks = AlexNet('caffe'), SqueezeNet('1.0')
    convs = [[m for m in net.modules() if isinstance(m, nn.Conv2d)] for net in networks]
    for net in networks:
        net.init_weights()
    for conv, bias in zip(convs[0], (0.0, 0.1, 0.0, 0.1, 0.1), strict=True):
        assert torch.equal(conv.bias, torch.full_like(conv.bias, bias))
    assert convs[0][2].weight.std().item() == pytest.approx(0.01, rel=0.01)
    for conv in convs[1]:
        bound = (3 / conv.weight[0].numel()) ** 0.5
        assert 0.98 * bound < conv.weight.abs().max() <= bound and not conv.bias.any()


# A last stage whose stride is replaced by dilation is of the same weights, at every pixel.
# Squeeze-and-excitation means over all pixels, which are other ones.
DILATABLE = [
    name
    for name, cfg in VARIANTS.items()
    if cfg['type'] in ('ShuffleNetV1', 'ShuffleNetV2', 'MobileNetV1', 'XceptionLike')
    and cfg.get('widen_factor', 1.0) <= 0.5
    and not cfg.get('se_ratio')
    and 'output_stride' not in cfg
]


@pytest.mark.parametrize('name', [*DILATABLE, 'MobileNetV2 of MMDetection'])
def test_every_second_pixel_is_the_plain_networks(name):
    if name in VARIANTS:
        whole, net = build(name), build(name, output_stride=16)
    else:
        whole = MODELS.build(dict(type='MobileNetV2', widen_factor=0.25, out_indices=(4, 6)))
        net = MODELS.build(dict(type='DilatedMobileNetV2', widen_factor=0.25))
    randomise(whole.double()), randomise(net.double())
    missing, unexpected = net.load_state_dict(whole.state_dict(), strict=False)
    assert missing == [] and {key.split('.')[0] for key in unexpected} <= {'conv2'}
    # Maps of even and of odd sides.
    x = torch.rand(1, 3, 70, 128, dtype=torch.float64)
    with torch.no_grad():
        *expected, coarse = whole(x)
        *found, fine = net(x)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    rows, columns = fine.shape[2:]
    assert (rows, columns) == tuple(expected[-1].shape[2:]) == (5, 8)
    # TensorFlow's padding of a stride of 2 begins with the second pixel where the side is even.
    starts = [side % 2 == 0 and 'same' in name for side in (rows, columns)]
    sampled = fine[:, :, starts[0] :: 2, starts[1] :: 2]
    assert torch.allclose(sampled, coarse, rtol=1e-9, atol=1e-9 * coarse.abs().max().item())
    # The pixels between are of their own, and not copies.
    between = fine[:, :, starts[0] :: 2, 1 - starts[1] :: 2]
    assert (between - coarse).abs().max() > 1e-3 * coarse.abs().max()


def test_conv5_behind_a_dilated_stage_has_its_stride():
    net = build('shufflenetv2-x0.5-megvii', output_stride=16, out_indices=(2, 3, 4))
    assert net.out_strides == (16, 16, 16)
    assert [tuple(y.shape[2:]) for y in net(torch.rand(1, 3, 70, 128))] == [(5, 8)] * 3
