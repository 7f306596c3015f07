"""A ShuffleNet's graph, traced or exported, has the channel shuffle that runtimes know."""

from collections import Counter

import pytest
import torch
from torch import nn

from mmshuffle.backbones import layers
from mmshuffle.backbones.layers import interleave, is_exporting
from mmshuffle.backbones.shufflenet_v1 import ShuffleUnit
from mmshuffle.backbones.shufflenet_v2 import ShuffleStage
from mmshuffle.deploy import export
from tests.test_backbones.test_networks import randomise
from tests.variants import KINDS, build

NAMES = (
    *(name for name in KINDS if name.startswith('shufflenet')),
    'shufflenetv1-x1.0-g3-inverse',
    'shufflenetv1-x1.0-g3-none',
)
# One of each kind of shuffle.
EXPORTED = (
    'shufflenetv2-x0.5-megvii',
    'shufflenetv2-x0.5-torchvision',
    'shufflenetv1-x0.5-g3',
    'shufflenetv1-x1.0-g3-inverse',
)
# What reshapes, reorders or cuts, but for the steps of a shuffle and of a split.
FOREIGN = {'flatten', 'unflatten', 'stack', 'unbind', 'permute', 'select', 'index', 'index_select'}


def network(name: str, last: int = 3) -> nn.Module:
    """A network of one output, in which every weight has a part."""
    net = build(name, out_indices=(last,))
    net.init_weights()
    return randomise(net)


def count_shuffles(net: nn.Module) -> int:
    """The channel shuffles of a ShuffleNet as its paper draws it."""
    number = 0
    for module in net.modules():
        if isinstance(module, ShuffleStage):
            # Before every unit but the first; torchvision's layout has another at the end.
            number += len(module.branches) - (module.layout == 'megvii')
        elif isinstance(module, ShuffleUnit):
            number += module.shuffle_groups > 1
    return number


def check(kinds: Counter, net: nn.Module) -> None:
    shuffles = count_shuffles(net)
    assert kinds['transpose'] == shuffles
    assert kinds['reshape'] + kinds['view'] == 2 * shuffles
    assert not FOREIGN & set(kinds), kinds


@pytest.mark.parametrize(
    ('name', 'layout'),
    [(name, torch.contiguous_format) for name in NAMES]
    + [(name, torch.channels_last) for name in EXPORTED],
    ids=str,
)
def test_a_trace_has_reshape_transpose_reshape_and_computes_the_same(name, layout):
    net = network(name).to(memory_format=layout)
    x = torch.rand(1, 3, 64, 96).contiguous(memory_format=layout)
    with torch.no_grad():
        traced = torch.jit.trace(net, x, check_trace=False)
        # A trace fixes neither the batch nor the size of the image.
        for y in (x, torch.rand(2, 3, 97, 70)):
            (found,), (expected,) = traced(y), net(y)
            assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max())
    kinds = Counter(node.kind().removeprefix('aten::') for node in traced.inlined_graph.nodes())
    check(kinds, net)


@pytest.mark.parametrize(
    ('name', 'strict', 'old'),
    [
        *((name, False, False) for name in EXPORTED),
        *((EXPORTED[0], False, True), (EXPORTED[2], False, True), (EXPORTED[0], True, False)),
    ],
)
def test_an_exported_program_has_them_with_free_batch_and_size(name, strict, old, monkeypatch):
    if old:  # PyTorch 2.4 to 2.6
        monkeypatch.setattr(layers, '_in_torch_export', layers._compiles_without_dynamo)
    net = network(name, last=1)  # more units are more of the same, and seconds
    size = [torch.export.Dim(side, min=2, max=32) * 32 for side in ('rows', 'columns')]
    free = ({0: torch.export.Dim('batch'), 2: size[0], 3: size[1]},)
    with torch.no_grad():
        program = torch.export.export(
            net, (torch.rand(2, 3, 64, 96),), dynamic_shapes=free, strict=strict
        )
        y = torch.rand(3, 3, 96, 64)
        assert torch.allclose(program.module()(y)[0], net(y)[0], rtol=1e-5, atol=1e-6)
    kinds = Counter(
        node.target.__name__.split('.')[0]
        for node in program.graph.nodes
        if node.op == 'call_function'
    )
    check(kinds, net)


@pytest.mark.parametrize('old', [False, True], ids=['torch 2.7', 'torch 2.4'])
def test_what_is_run_or_compiled_has_the_form_that_pytorch_is_fast_at(old, monkeypatch):
    if old:
        monkeypatch.setattr(layers, '_in_torch_export', layers._compiles_without_dynamo)
    graphs = []
    compiled = torch.compile(interleave, backend=lambda graph, _: graphs.append(graph) or graph)
    halves = torch.rand(2, 1, 4, 3, 3)
    assert torch.equal(compiled(*halves), interleave(*halves))
    names = [node.target for node in graphs[0].graph.nodes if node.op != 'placeholder']
    assert torch.stack in names and not is_exporting()


@pytest.mark.parametrize('name', (*EXPORTED, *(name for name in NAMES if '-se' in name)))
def test_ncnn_gets_its_own_layer_for_every_shuffle(name, tmp_path):
    for package in ('ncnn', 'pnnx'):
        pytest.importorskip(package)
    net = network(name)
    nodes = export(net, tmp_path / 'net', 'ncnn', (1, 3, 64, 96)).nodes  # compares the outputs
    assert nodes['ShuffleChannel'] == count_shuffles(net)
    assert not {'Reshape', 'Permute', 'Squeeze', 'ExpandDims', 'Crop'} & set(nodes)
