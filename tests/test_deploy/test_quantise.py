"""int8: ncnn's arithmetic against whole numbers, and scales that tensors share in ONNX."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from mmshuffle.backbones import MobileNetV1, ShuffleNetV1, ShuffleNetV2
from mmshuffle.deploy import FORMATS, fold_batchnorm, shuffle_free
from mmshuffle.deploy.export import AsTuple
from mmshuffle.deploy.quantise import Recipe, choose, find_ranges
from mmshuffle.engine.network import randomise
from tests.conftest import refused

from .test_xnnpack import SLOW

onnx = pytest.importorskip('onnx')
for package in ('onnxruntime', 'onnxscript', 'ncnn', 'pnnx'):
    pytest.importorskip(package)


def calibrated(module, images, folder, name='onnx', **recipe):
    """Write a module; returns its float32 file and what can be made int8 of it."""
    format, module = FORMATS[name], AsTuple(module)
    paths = format.paths(folder / 'net')
    outputs = [f'out{i}' for i in range(len(module(images[0])))]
    format.write(module, images[0], paths, outputs, False)
    arrays = [image.numpy() for image in images]
    return paths, format.calibrate(module, paths, arrays, Recipe(**recipe))


def in_int8(found, folder, name, keep=()):
    paths = FORMATS[name].paths(folder / 'int8')
    found.write(choose(found, keep), paths)
    return FORMATS[name].load(paths, threads=1), paths


def difference(a, b):
    return max(np.sqrt(np.square(x - y).mean() / np.square(y).mean()) for x, y in zip(a, b))


def hand_made(conv, image, whole):
    """Compute a layer in whole numbers, a scale for each output channel."""
    scale = 127 / image.abs().max()
    rows = conv.weight.flatten(1).abs()
    scales = 127 / rows.max(1).values
    if whole:  # a channel's weights that add up to too much are made smaller
        scales = torch.minimum(scales, (29356 - rows.shape[1] / 2) / rows.sum(1))
    shape = (-1, *[1] * (conv.weight.dim() - 1))
    weight = (conv.weight * scales.reshape(shape)).round().double()
    inputs = (image * scale).round().double()
    if isinstance(conv, nn.Linear):
        return nn.functional.linear(inputs, weight) / (scales * scale) + conv.bias
    settings = conv.stride, conv.padding, conv.dilation, conv.groups
    sums = nn.functional.conv2d(inputs, weight, None, *settings)
    return sums / (scales * scale)[:, None, None] + conv.bias[:, None, None]


@pytest.mark.parametrize('sign', [False, True])
@pytest.mark.parametrize(
    ('build', 'whole'),
    [
        (lambda: nn.Conv2d(256, 32, 3, padding=1), True),  # Winograd's transforms, in int32
        (lambda: nn.Conv2d(64, 16, 3, padding=1, stride=2), False),
        (lambda: nn.Conv2d(64, 24, 1), False),
        (lambda: nn.Conv2d(30, 30, 3, padding=1, groups=30), False),
        (lambda: nn.Conv2d(7, 5, 5, padding=2), False),
        (lambda: nn.Conv2d(48, 96, 1, groups=3), False),  # groups that fill blocks of 8
        (lambda: nn.Conv2d(30, 60, 3, padding=1, groups=3), False),
        (lambda: nn.Linear(70, 9), False),
    ],
)
def test_ncnn_computes_what_whole_numbers_give(tmp_path, build, whole, sign):
    """Also where all numbers are large and of one sign, so that sums overflow first."""
    layer = build().eval()
    with torch.no_grad():
        layer.weight.uniform_(-1 if sign else 0.9, 1)
        if isinstance(layer, nn.Linear):
            image = torch.rand(1, layer.in_features, 1, 1)
            network = nn.Sequential(nn.Flatten(), layer)
            expected = hand_made(layer, image.flatten(1), whole)
        else:
            image = torch.rand(1, layer.in_channels, 24, 24) / 10 + 0.9
            network, expected = nn.Sequential(layer), hand_made(layer, image, whole)
    _, found = calibrated(network, [image], tmp_path, 'ncnn')
    (output,) = in_int8(found, tmp_path, 'ncnn')[0](image.numpy())
    expected = expected.detach().numpy()
    # ncnn rounds halves away from zero; a few inputs lie there.
    assert np.abs(output - expected).max() < 2e-3 * np.abs(expected).max()


NETWORKS = {
    'v1': lambda: ShuffleNetV1(widen_factor=0.5, groups=3, out_indices=(1, 2)),
    'v2': lambda: ShuffleNetV2(widen_factor=0.5, out_indices=(1, 2)),
    'mobilenet': lambda: MobileNetV1(widen_factor=0.25, out_indices=(1, 2)),
}


@pytest.mark.parametrize('name', ['onnx', 'ncnn', *SLOW])
@pytest.mark.parametrize(
    ('network', 'form'),
    [*itertools.product(('v1', 'v2'), ('native', 'free')), ('mobilenet', 'native')],
)
def test_networks_stay_what_they_are(network, name, form, tmp_path):
    module = NETWORKS[network]().eval()
    randomise(module)
    changed = fold_batchnorm(module) if form == 'native' else shuffle_free(module)
    images = list(torch.randn(3, 1, 3, 64, 64))
    paths, found = calibrated(changed, images, tmp_path, name)
    expected = FORMATS[name].load(paths, threads=1)(images[0].numpy())
    run, written = in_int8(found, tmp_path, name)
    error = difference(run(images[0].numpy()), expected)
    # It is quantised, and little is lost; with the first layer in float32 it is another file.
    assert 1e-3 < error < 0.2
    sizes = [files[-1].stat().st_size for files in (written, paths)]
    # In ONNX the graph is most of so small a file.
    assert sizes[0] < (0.5 if name == 'ncnn' else 0.9) * sizes[1]
    if name == 'onnx' and network == 'v2':
        assert_nothing_is_rounded_on_the_way(written[0])
    kept, _ = in_int8(found, tmp_path, name, ['first'])
    assert difference(kept(images[0].numpy()), expected) != error


def assert_nothing_is_rounded_on_the_way(path):
    """Whatever only moves int8 has one scale and zero point for all that goes in and comes out."""
    graph = onnx.load(path).graph
    values = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    scales = {}
    for node in graph.node:
        if node.op_type in ('QuantizeLinear', 'DequantizeLinear'):
            tensor = node.input[0] if node.op_type == 'QuantizeLinear' else node.output[0]
            scales[tensor] = [values[name].tobytes() for name in node.input[1:]]
    moves = 0
    for node in graph.node:
        moves_only = node.op_type in ('Concat', 'Slice', 'Split', 'Gather', 'Reshape', 'Transpose')
        if moves_only and not scales.keys().isdisjoint(node.output):  # else, its result is no int8
            found = [scales[name] for name in (*node.input, *node.output) if name in scales]
            assert all(scale == found[0] for scale in found), node.name
            moves += 1
    assert moves > 10


class Limits(nn.Module):
    """A concatenation of what ReLU6 limits with what nothing limits."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(n, 8, 1) for n in (3, 3, 16))

    def forward(self, x):
        return self.c(torch.cat((nn.functional.relu6(self.a(x)), 20 * self.b(x)), 1))


@pytest.mark.parametrize('method', ['minmax', 'entropy'])
@pytest.mark.parametrize('name', ['onnx', 'ncnn', *SLOW])
def test_a_shared_scale_leaves_activations_their_limits(name, method, tmp_path):
    images = list(3 * torch.randn(4, 1, 3, 16, 16))
    network = Limits().eval()
    paths, found = calibrated(network, images, tmp_path, name, method=method)
    assert found.layers == ('a', 'b', 'c') and found.last == {'c'}
    expected = FORMATS[name].load(paths, threads=1)(images[0].numpy())
    run, _ = in_int8(found, tmp_path, name)
    assert difference(run(images[0].numpy()), expected) < (0.05 if method == 'minmax' else 0.3)


@pytest.mark.parametrize('name', ['onnx', 'ncnn', *SLOW])
def test_channels_of_nearly_no_weights_keep_their_biases(name, tmp_path):
    """In steps of the smallest weights the bias would be no int32."""
    layers = nn.Conv2d(16, 5, 1).eval(), nn.Linear(5, 5).eval()
    with torch.no_grad():
        for layer in layers:
            layer.weight.flatten(1).mul_(torch.tensor([[0], [1e-30], [1e-9], [1e-4], [1]]))
            layer.bias.copy_(torch.tensor([3, -2, 2, -1, 1]))
    network = nn.Sequential(layers[0], nn.AdaptiveAvgPool2d(1), nn.Flatten(), layers[1])
    images = list(torch.randn(2, 1, 16, 8, 8))
    _, found = calibrated(network, images, tmp_path, name)
    (output,) = in_int8(found, tmp_path, name)[0](images[0].numpy())
    np.testing.assert_allclose(output, network(images[0]).detach(), atol=0.06)


def test_names_that_fit_nothing_are_told(tmp_path):
    _, found = calibrated(Limits().eval(), [torch.randn(1, 3, 8, 8)], tmp_path)
    assert choose(found, ['last']) == ['a', 'b'] and choose(found, ['[ab]']) == ['c']
    with refused('--keep-fp32 stem: no layer is called so; there are first, last, a, b, c'):
        choose(found, ['stem'])
    with refused('all layers would stay in fp32'):
        choose(found, ['*'])


def test_ranges_of_all_images_count():
    images = np.array([[-1, 2], [0, 5], [-3, 1]], np.float32)
    ranges = find_ranges(images, ['x'], lambda image: dict(x=image, y=0), 'minmax')
    assert ranges == dict(x=(-3.0, 5.0))
