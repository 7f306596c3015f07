"""LiteRT and ExecuTorch: the same functions in other operations, all of them XNNPACK's."""

import importlib.util

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmshuffle.backbones.layers import channel_shuffle
from mmshuffle.deploy import FORMATS, export, shuffle_free
from mmshuffle.deploy.lowering import MAX_CAT, lower
from mmshuffle.deploy.rewire import Gather
from tests import variants

from .plain import Of, worst

SHAPE = (1, 12, 9, 10)
LOWERED = {
    'split': lambda x: torch.split(x, 5, 1)[::-1],
    'sizes': lambda x: torch.split(x, (3, 2, 5), 3)[1:],
    'chunk': lambda x: [y.relu() for y in x.chunk(2, dim=-2)],
    'shuffle': lambda x: channel_shuffle(x, 3),
    'shuffle-of-view': lambda x: x.view(1, 4, 3, 9, 10).transpose(1, 2).reshape(x.shape),
    'mean': lambda x: x.mean((2, 3)),
    'mean-of-one': lambda x: x.mean(1),
    'pooled': lambda x: F.adaptive_avg_pool2d(x, 1) * x,
    'many': lambda x: torch.cat([x[:, i : i + 1] * i for i in range(11)], 1),
    'one': lambda x: torch.cat([x[:, 3:]], 1),
    'shuffle-of-many': lambda x: channel_shuffle(torch.cat([y * 2 for y in x.split(2, 1)], 1), 3),
    'average': lambda x: F.avg_pool2d(x, 3, 2, 1),
    'average-of-rectangles': lambda x: F.avg_pool2d(x, (3, 5), (2, 1), (1, 2)),
    'response': nn.Sequential(nn.LocalResponseNorm(5, 0.1, 0.75, 2.0)),
    'response-of-others': nn.Sequential(nn.LocalResponseNorm(4, 0.2, 0.5, 1.0)),
    'gather': nn.Sequential(Gather([0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])),
    'gather-of-runs': nn.Sequential(Gather([7, 8, 9, 0, 1, 2])),
}
UNWANTED = ('split', 'chunk', 'index', '3d', 'adaptive')
KEPT = {
    'average-of-what-is-there': lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    'average-rounded-up': lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    'mean-kept': lambda x: x.mean((2, 3), keepdim=True),
    'of-other-sides': lambda x: x.reshape(1, 3, 4, 10, 9).transpose(1, 2).reshape(1, 12, 9, 10),
    'another-turn': lambda x: x.reshape(1, 3, 4, 9, 10).transpose(1, 3).reshape(1, 12, 9, 10),
    'of-other-shape': lambda x: x.reshape(1, 3, 4, 9, 10).transpose(1, 2).reshape(1, 12, 10, 9),
}


@pytest.mark.parametrize('name', [*LOWERED, *KEPT])
def test_other_operations_compute_the_same(name):
    network = {**LOWERED, **KEPT}[name]
    network = network if isinstance(network, nn.Module) else Of(network)
    images = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    lowered = lower(network, images)
    images = images.flip(3) * 2 + 1
    assert worst(network(images), lowered(images)) < 1e-6
    kinds = {str(node.target) for node in lowered.graph.nodes if node.op == 'call_function'}
    assert not any(word in kind for kind in kinds for word in UNWANTED)
    calls = [node for node in lowered.graph.nodes if 'aten.cat' in str(node.target)]
    assert all(2 <= len(call.args[0]) <= MAX_CAT for call in calls)
    assert ('aten.permute.default' in kinds) == ('shuffle' in name or name == 'gather')


def missing(format: str) -> bool:
    return any(importlib.util.find_spec(name) is None for name in FORMATS[format].packages)


needed = {
    name: pytest.mark.skipif(missing(name), reason=f'needs the extra {name}: see docs/install.md')
    for name in ('litert', 'executorch')
}
BOTH = [pytest.param(name, marks=mark) for name, mark in needed.items()]
# For tests that convert a network many times, which takes minutes.
SLOW = [pytest.param(name, marks=[mark, pytest.mark.slow]) for name, mark in needed.items()]


class Views(nn.Module):
    """Layers whose weights lie in memory in another order than theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 8, 3).to(memory_format=torch.channels_last)
        self.turned = nn.Conv2d(8, 8, 3)
        self.turned.weight = nn.Parameter(self.turned.weight.detach().permute(1, 0, 3, 2))
        self.fc = nn.Linear(8, 8)
        self.fc.weight = nn.Parameter(self.fc.weight.detach().t())

    def forward(self, x):
        return self.fc(self.turned(self.conv(x).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize('format', BOTH)
def test_weights_that_are_views_are_read_in_their_order(format, tmp_path):
    assert export(Views(), tmp_path / 'net', format, SHAPE).difference < 1e-5


@pytest.mark.slow
@needed['executorch']
@pytest.mark.parametrize('form', ['native', 'free'])
@pytest.mark.parametrize('name', [*variants.KINDS, *variants.KINDS_WITHOUT_C5])
def test_a_network_is_one_piece_for_xnnpack(name, form, tmp_path):
    network = variants.build(name).eval()
    if form == 'free':
        if 'shufflenet' not in name:
            pytest.skip('has no shuffle')
        network = shuffle_free(network)
    report = export(network, tmp_path / 'net', 'executorch', (1, 3, 64, 64))
    assert report.nodes.pop('XnnpackBackend') == 1
    # A change of the memory's layout is none of XNNPACK's operations.
    assert set(report.nodes) <= {'dim_order_ops::_to_dim_order_copy.out'}


@needed['executorch']
def test_what_executorch_lacks_is_named(tmp_path):
    network = Of(lambda x: F.avg_pool3d(x[:, None], (3, 1, 1))[:, 0])
    with pytest.raises(Exception, match=r'has no aten::avg_pool3d\.out: try onnx'):
        export(network, tmp_path / 'net', 'executorch', SHAPE)
    assert list(tmp_path.iterdir()) == []
