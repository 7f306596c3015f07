"""Networks without shuffles compute what the plain ones do, with the operations they promise."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mmshuffle.backbones import ShuffleNetV1, ShuffleNetV2
from mmshuffle.backbones.layers import channel_shuffle
from mmshuffle.deploy import export, shuffle_free
from mmshuffle.deploy.ncnn_format import SlicedGather
from mmshuffle.deploy.routed import RoutedUnit
from mmshuffle.deploy.routing import plan_interleaved
from tests.test_deploy.plain import assert_same, channel_operations, randomise, worst
from tests.test_deploy.random_networks import aligns, examples, networks


@examples(50)
@given(drawn=networks, align=aligns, interleave=st.booleans())
def test_a_backbone_of_any_kind_and_size_computes_the_same(drawn, align, interleave):
    plain = drawn.network
    assert_same(plain, lambda net: shuffle_free(net, align, interleave))
    free = shuffle_free(plain, align, interleave)
    assert free.out_channels == plain.out_channels and free.out_strides == plain.out_strides


@pytest.mark.parametrize('layout', ['megvii', 'torchvision'])
@pytest.mark.parametrize('units', [1, 2, 3, 8])
@pytest.mark.parametrize(('half', 'align'), [(8, 8), (8, 4), (24, 8), (48, 4), (6, 2), (10, 4)])
def test_any_stage_can_be_interleaved(layout, units, half, align):
    widths = [half] * (units + 1)
    sources, orders, halves = plan_interleaved(widths, layout, align) or ([], [], None)
    if half % align:
        assert halves is None
        return
    assert halves == (half // 2 % align == 0)
    # Every channel is put out once, and every reader reads each of its channels once.
    assert all(sorted(order) == list(range(half)) for order in (*sources, *orders[:-1]))
    assert len(orders) == units and sorted(orders[-1]) == list(range(2 * half))


V2 = {'conv', 'relu', 'max_pool2d', 'cat', 'split'}
V1 = {'conv', 'relu', 'max_pool2d', 'avg_pool2d', 'cat', 'add', 'index_select'}
# One concatenation a unit; a split for each branch that more than one reader reads, which is all
# but the last of a stage.
UNITS = dict(cat=4 + 8 + 4, split=4 + 8 + 4, conv=1 + 3 * 16 + 2 * 3 + 1)


@pytest.mark.parametrize(
    ('network', 'kinds', 'counts'),
    [
        (lambda: ShuffleNetV2(0.5, 'megvii', out_indices=(4,)), V2, UNITS),
        (lambda: ShuffleNetV2(1.0, 'torchvision', out_indices=(4,)), V2, UNITS),
        # An output in the plain order takes one gather, or none.
        (lambda: ShuffleNetV2(0.5, 'torchvision'), V2, dict(index_select=3)),
        (lambda: ShuffleNetV2(0.5, 'megvii'), V2, dict(index_select=0)),
        # A gather a unit, and no other routing.
        # But for the first unit, whose first convolution has one group.
        (lambda: ShuffleNetV1(3, 0.5), V1, dict(index_select=15, cat=3)),
        (lambda: ShuffleNetV1(3, 0.5, shuffle='none'), V1, dict(index_select=0)),
        (lambda: ShuffleNetV2(0.5, residual=True), None, dict(view=0, reshape=0, stack=0)),
        (lambda: ShuffleNetV1(3, 0.5, se_ratio=0.1), None, dict(view=0, reshape=0, stack=0)),
    ],
)
def test_there_are_few_gathers_and_nothing_else(network, kinds, counts):
    found = channel_operations(shuffle_free(network()), (1, 3, 64, 64))
    assert {kind: found[kind] for kind in counts} == counts
    assert kinds is None or found.keys() | {'index_select'} == kinds | {'index_select'}
    assert not found.keys() & {'permute', 'transpose'}


def test_filling_makes_sizes_multiples():
    network = shuffle_free(ShuffleNetV2(1.0, out_indices=(3,)), align=16)
    convs = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert convs[0].out_channels == 32
    inner = [conv for conv in convs if conv.groups > 1 and conv.stride == (1, 1)]
    assert {conv.groups for conv in inner} == {64, 128, 240}
    # What is read of earlier branches is filled too; a stage's output is not.
    assert {conv.in_channels for conv in convs[1:]} == {32, 64, 116, 128, 232, 240}


@pytest.mark.parametrize('shuffle', ['paper', 'inverse', 'none'])
@pytest.mark.parametrize(('groups', 'width'), [(1, 0.25), (2, 0.5), (3, 0.5), (4, 1.0), (8, 1.5)])
def test_filling_makes_groups_multiples(groups, width, shuffle):
    plain = ShuffleNetV1(groups, width, shuffle=shuffle, out_indices=(3,))
    free = shuffle_free(plain, align=8)
    units = [part for part in free.modules() if isinstance(part, RoutedUnit)]
    for unit in units:
        first, inner, last = (layer for layer in unit.branch if isinstance(layer, nn.Conv2d))
        assert first.out_channels == inner.groups == last.in_channels
        assert inner.groups % (8 * groups) == 0
    assert len(units) == 16 and not any(isinstance(part, nn.AvgPool2d) for part in free.modules())


@pytest.mark.parametrize('network', [ShuffleNetV2(0.5, residual=True), ShuffleNetV1(8, 0.25)])
def test_all_of_it_is_on_the_device_of_the_network(network):
    free = shuffle_free(network.to('meta'), 8)
    assert {t.device.type for t in (*free.parameters(), *free.buffers())} == {'meta'}


def test_the_original_is_not_changed():
    plain = randomise(ShuffleNetV2(0.5)).train()
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    rewritten = shuffle_free(plain)
    assert not rewritten.training
    assert not any(p.requires_grad for p in rewritten.parameters())
    assert plain.training and all(p.requires_grad for p in plain.parameters())
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())


def test_single_stages_and_units_can_be_rewritten():
    images = torch.randn(1, 24, 16, 16, dtype=torch.double)
    for plain in (ShuffleNetV2(0.5, 'torchvision').stages[1], ShuffleNetV1(3, 1.0).stages[1][0]):
        plain = randomise(plain).double().eval()
        with torch.no_grad():
            assert worst(plain(images), shuffle_free(plain)(images)) < 1e-12


def test_arguments_are_checked():
    network = ShuffleNetV1(1, 0.25, out_indices=(0,))
    for align in (0, 1.5, True):
        with pytest.raises(ValueError, match='align='):
            shuffle_free(network, align=align)


SHUFFLED = channel_shuffle(torch.arange(24).reshape(1, 24, 1, 1), 3).flatten().tolist()
RANDOM = torch.Generator().manual_seed(0)
JOINED = [c for pair in zip(range(6), range(12, 18)) for c in pair]


@pytest.mark.parametrize(
    ('channels', 'groups', 'pieces'),
    [
        (SHUFFLED, 3, 1),
        (JOINED, 2, 2),
        (list(range(5, 11)), 1, 1),
        ([*range(10, 24), *range(10)], 1, 2),
        ([*range(8), *range(4, 12)], 1, 4),  # overlapping slices
        (list(range(0, 24, 2)), 1, 12),
        (list(range(23, -1, -1)), 1, 24),
        *((torch.randperm(24, generator=RANDOM).tolist(), None, None) for _ in range(9)),
    ],
)
def test_ncnns_slices_take_what_a_gather_takes(channels, groups, pieces):
    x, sliced = torch.randn(2, 24, 3, 4), SlicedGather(channels)
    assert torch.equal(sliced(x), x[:, channels])
    assert groups is None or (sliced.groups, len(sliced.order)) == (groups, pieces)


@pytest.mark.parametrize(
    ('build', 'shuffles'),
    [
        # Stage 1 has four units; the first unit's first convolution has one group.
        (lambda: ShuffleNetV1(3, 0.5, out_indices=(1,)), 3),
        (lambda: ShuffleNetV2(0.5, 'megvii', out_indices=(2,)), 0),
        # A bare backbone's output is put in order.
        (lambda: ShuffleNetV2(0.5, 'torchvision', out_indices=(2,)), 1),
        (lambda: ShuffleNetV2(0.5, 'megvii', out_indices=(2,), residual=True), None),
        (lambda: ShuffleNetV2(0.5, 'torchvision', out_indices=(2,), residual=True), None),
    ],
)
def test_the_free_form_is_slices_concatenations_and_ncnns_own_shuffle(build, shuffles, tmp_path):
    for package in ('ncnn', 'pnnx'):
        pytest.importorskip(package)
    net = build()
    report = export(shuffle_free(net), tmp_path / 'net', 'ncnn', (1, 3, 64, 64), reference=net)
    assert not {'Reshape', 'Permute'} & report.nodes.keys()
    assert shuffles is None or report.nodes.get('ShuffleChannel', 0) == shuffles
