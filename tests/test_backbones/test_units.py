"""The units of the papers' further variants, by their formulas."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmshuffle.backbones import ShuffleNetV1, ShuffleNetV2
from mmshuffle.backbones.layers import channel_shuffle
from tests.test_backbones.test_networks import randomise


def squeeze_excite(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    pooled = x.mean((2, 3))
    hidden = F.linear(pooled, module.squeeze.weight[:, :, 0, 0], module.squeeze.bias).clamp(min=0)
    gates = F.linear(hidden, module.excite.weight[:, :, 0, 0], module.excite.bias).sigmoid()
    return x * gates[:, :, None, None]


@pytest.mark.parametrize('residual', [False, True])
@pytest.mark.parametrize('se_ratio', [None, 0.25])
@pytest.mark.parametrize('extra', [False, True])
def test_shufflenet_v2_branches(extra, se_ratio, residual):
    options = dict(extra_depthwise=extra, se_ratio=se_ratio, residual=residual)
    net = randomise(ShuffleNetV2(0.5, **options, out_indices=(1,))).double()
    inputs = (torch.rand(2, 24, 9, 12).double(), torch.rand(2, 24, 5, 6).double())
    for number, branch in enumerate(net.stages[1].branches[:2]):
        x, stride = inputs[number], 2 - number
        y = branch.extra(x) if extra else x
        for layer in '012':
            y = branch.get_submodule(layer)(y)
        if se_ratio:
            assert branch.se.squeeze.out_channels == 12  # a quarter of the unit's 48
            y = squeeze_excite(branch.se, y)
        if residual and stride == 1:
            y = x + y
        with torch.no_grad():
            assert torch.allclose(branch(x), y.clamp(min=0), rtol=1e-10, atol=1e-12)


def test_shufflenet_v1_50_adds_the_64_input_channels_to_the_first_of_360():
    net = randomise(ShuffleNetV1(arch='50', out_indices=(0,))).double()
    unit = net.stages[0][2]
    x = torch.rand(1, 64, 8, 9).double()
    with torch.no_grad():
        branch = unit.expand(unit.depthwise(channel_shuffle(unit.reduce(x), 3)))
        padded = F.pad(x, (0, 0, 0, 0, 0, 296))
        assert torch.allclose(unit(x), (padded + branch).clamp(min=0), rtol=1e-12)
    # Section 3.3: the first 1x1 convolution of all is not grouped, the others are.
    assert [m.reduce.conv.groups for m in net.stages[0][2:]] == [1, 3, 3]
