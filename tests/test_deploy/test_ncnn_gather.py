"""Gathers along the channels in layers that ncnn has."""

import pytest
import torch

from mmshuffle.backbones import ShuffleNetV1, ShuffleNetV2
from mmshuffle.backbones.layers import channel_shuffle
from mmshuffle.deploy import export, shuffle_free
from mmshuffle.deploy.ncnn_format import SlicedGather

SHUFFLED = channel_shuffle(torch.arange(24).reshape(1, 24, 1, 1), 3).flatten().tolist()
GATHERS = {
    'shuffle': (SHUFFLED, 3, 1),
    'join of parts of two halves': (
        [c for pair in zip(range(6), range(12, 18)) for c in pair],
        2,
        2,
    ),
    'slice': (list(range(5, 11)), 1, 1),
    'rotation': ([*range(10, 24), *range(10)], 1, 2),
    'overlapping slices': ([*range(8), *range(4, 12)], 1, 4),
    'even channels': (list(range(0, 24, 2)), 1, 12),
    'reversed': (list(range(23, -1, -1)), 1, 24),
}


@pytest.mark.parametrize('name', GATHERS)
def test_slices_take_what_the_gather_takes(name):
    channels, groups, pieces = GATHERS[name]
    x = torch.randn(2, 24, 3, 4)
    sliced = SlicedGather(channels)
    assert torch.equal(sliced(x), x[:, channels])
    assert (sliced.groups, len(sliced.order)) == (groups, pieces)
    for order in (torch.randperm(24).tolist() for _ in range(5)):
        assert torch.equal(SlicedGather(order)(x), x[:, order])


@pytest.mark.parametrize(
    ('build', 'shuffles'),
    [
        # Stage 1 has four units; the first unit's first convolution has one group.
        (lambda: ShuffleNetV1(widen_factor=0.5, groups=3, out_indices=(1,)), 3),
        (lambda: ShuffleNetV2(0.5, 'megvii', out_indices=(2,)), 0),
        # A bare backbone's output is put in order.
        (lambda: ShuffleNetV2(0.5, 'torchvision', out_indices=(2,)), 1),
        (lambda: ShuffleNetV2(0.5, 'megvii', out_indices=(2,), residual=True), None),
        (lambda: ShuffleNetV2(0.5, 'torchvision', out_indices=(2,), residual=True), None),
    ],
    ids=['v1', 'megvii', 'torchvision', 'megvii-residual', 'torchvision-residual'],
)
def test_the_free_form_is_slices_concatenations_and_ncnns_own_shuffle(build, shuffles, tmp_path):
    for package in ('ncnn', 'pnnx'):
        pytest.importorskip(package)
    net = build().eval()
    report = export(shuffle_free(net), tmp_path / 'net', 'ncnn', (1, 3, 64, 64), reference=net)
    assert not {'Reshape', 'Permute'} & report.nodes.keys()
    assert shuffles is None or report.nodes.get('ShuffleChannel', 0) == shuffles
