"""Files for other runtimes: what is in them, and that nothing wrong is ever left behind."""

import importlib.util
import itertools
import re
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmshuffle.deploy import FORMATS, export
from mmshuffle.deploy.export import largest_difference, replace_all
from tests.conftest import refused
from tests.test_deploy.plain import Of
from tests.test_deploy.test_xnnpack import BOTH

pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')
pytest.importorskip('ncnn')
pytest.importorskip('pnnx')
SHAPE = (1, 3, 64, 96)
EVERY = ['onnx', 'ncnn', 'torchscript', *BOTH]


class Small(nn.Module):
    """A network with a BatchNorm that does something, and two outputs of unlike size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.bn.running_mean.uniform_(-1, 1)
        self.bn.running_var.uniform_(0.5, 2)

    def forward(self, x):
        y = self.bn(self.conv(x)).relu()
        return y, y.mean((2, 3)) * 1e-6


@pytest.fixture
def network():
    return Small().train()


@torch.no_grad()
def compute(network: nn.Module, images: torch.Tensor) -> list[np.ndarray]:
    return [output.numpy() for output in network.eval()(images)]


def run_file(report, images: torch.Tensor) -> list[np.ndarray]:
    return FORMATS[report.format].load(report.paths)(images.numpy())


NODES = {
    'onnx': ('Conv', 'BatchNormalization'),
    'ncnn': ('Convolution', 'BatchNorm'),
    'torchscript': ('_convolution', 'batch_norm'),
    'litert': ('CONV_2D', 'ADD'),
    'executorch': ('XnnpackBackend', 'native_batch_norm'),
}


@pytest.mark.parametrize('format', EVERY)
def test_the_file_computes_what_the_network_computes_or_is_not_left(network, format, tmp_path):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    # As pictures lie in memory; what the file gets does not.
    picture = torch.rand(SHAPE).contiguous(memory_format=torch.channels_last)
    report = export(network, tmp_path / 'net', format, SHAPE, images=picture)
    # The caller's network is as it was, its mode included.
    assert network.training and network.conv.weight.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    # Numbers that the exporter has not seen.
    images = torch.rand(SHAPE)
    assert largest_difference(compute(network, images), run_file(report, images)) < 1e-5
    assert report.difference < 1e-5 and report.conclusive
    assert report.output_shapes == ((1, 8, 32, 48), (1, 8))
    assert report.size == sum(path.stat().st_size for path in report.paths)
    conv, norm = NODES[format]  # BatchNorm is folded
    assert report.nodes[conv] == 1 and norm not in report.nodes
    assert list(report.nodes.values()) == sorted(report.nodes.values(), reverse=True)
    # Where a later one differs, this one stays.
    content = [path.read_bytes() for path in report.paths]
    with refused(r'differs from PyTorch by .*: it was deleted'):
        export(network, tmp_path / 'net', format, SHAPE, reference=Small().eval())
    assert [path.read_bytes() for path in report.paths] == content
    assert sorted(tmp_path.iterdir()) == sorted(report.paths)


def test_a_free_batch_is_free_and_a_fixed_one_is_not(network, tmp_path):
    images = torch.rand(5, *SHAPE[1:])
    for format in ('onnx', 'torchscript'):
        free = export(network, tmp_path / 'free', format, SHAPE, dynamic_batch=True)
        assert largest_difference(compute(network, images), run_file(free, images)) < 1e-5
    fixed = export(network, tmp_path / 'fixed', 'onnx', SHAPE)
    with pytest.raises(Exception, match=r'(?i)invalid dimensions|got: 5'):
        run_file(fixed, images)


def biased(x: torch.Tensor) -> torch.Tensor:
    return torch.cat((x.mean((2, 3)), torch.ones(int(x.shape[0]), 1)), 1)


# A tracer sees sizes, and numbers that depend on the image, as constants.
@pytest.mark.parametrize(
    ('format', 'network', 'message'),
    [
        ('torchscript', lambda x: (x[:1] if len(x) == 1 else x).mean((2, 3)), 'shapes'),
        ('torchscript', biased, 'cannot be run'),
        *((format, lambda x: x * float(x.mean()), 'differs from') for format in EVERY[1:3]),
    ],
)
def test_what_depends_on_the_images_must_not_become_a_constant(format, network, message, tmp_path):
    free = message != 'differs from'
    refuse(message, Of(network), tmp_path / 'net', format, SHAPE, dynamic_batch=free)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_nothing(network, tmp_path):
    def interrupt(expected, found):
        assert any(tmp_path.rglob('net*'))  # written already
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(network, tmp_path / 'new/folder/net', 'ncnn', SHAPE, compare=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_does_not_mix_old_files_with_new_ones(tmp_path, monkeypatch):
    sources, places = ([tmp_path / f'{kind}.{i}' for i in range(3)] for kind in ('new', 'old'))
    for path in (*sources, *places):
        path.write_text(path.stem)
    move = Path.replace

    def press(self, target):
        signal.raise_signal(signal.SIGINT)
        return move(self, target)

    monkeypatch.setattr(Path, 'replace', press)
    with pytest.raises(KeyboardInterrupt):
        replace_all(sources, places)
    assert [path.read_text() for path in places] == ['new'] * 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_network_that_hardly_looks_at_the_image_is_pointed_out(network, tmp_path):
    network.conv.weight.data.mul_(1e-4)
    assert not export(network, tmp_path / 'net', 'torchscript', SHAPE).conclusive


class Deeper(nn.Sequential):
    """More than ten outputs, the last first."""

    def forward(self, x):
        return list(itertools.accumulate(self, lambda y, conv: conv(y), initial=x))[:0:-1]


DEEPER = Deeper(*(nn.Conv2d(3, 3, 1) for _ in range(11)))


@pytest.mark.parametrize(
    ('network', 'format'),
    [
        (nn.ReLU(), 'ncnn'),  # the first layer may work in place
        (DEEPER, 'ncnn'),
        *(pytest.param(DEEPER, *format.values, marks=format.marks) for format in BOTH),
        (Of(lambda x: x.flatten(1).argmax(1)), 'torchscript'),  # whole numbers
    ],
)
def test_unusual_outputs_are_those_of_the_network(network, format, tmp_path):
    assert export(network, tmp_path / 'net', format, SHAPE).difference < 1e-5


def test_ncnn_reads_images_of_any_memory_layout(network, tmp_path):
    report = export(network, tmp_path / 'net', 'ncnn', SHAPE)
    images = torch.rand(1, 3, 640, 640).contiguous(memory_format=torch.channels_last)
    assert largest_difference(compute(network, images), run_file(report, images)) < 1e-5


def test_the_onnx_file_tells_nothing_of_the_machine_and_is_standard(network, tmp_path):
    import onnx

    path = export(network, tmp_path / 'net', 'onnx', SHAPE).paths[0]
    assert b'/' + __file__.split('/')[1].encode() + b'/' not in path.read_bytes()
    model = onnx.load(path)
    assert {node.domain for node in model.graph.node} == {''}
    assert [output.name for output in model.graph.output] == ['output0', 'output1']
    onnx.checker.check_model(model, full_check=True)


def test_outputs_are_compared_each_at_its_own_size():
    small = np.full((1, 2), 1e-6, np.float32)
    large = np.full((1, 2), 10, np.float32)
    assert largest_difference([large, small], [large, small * 1.5]) == pytest.approx(0.5)
    assert largest_difference([large, small], [large + 1, small]) == pytest.approx(0.1)
    assert np.isnan(largest_difference([large, small], [large, small * np.nan]))


def refuse(message: str, *args, **kwargs) -> None:
    with refused(message):
        export(*args, **kwargs)


def test_bad_input_is_one_line_and_leaves_nothing(network, tmp_path, monkeypatch):
    refuse('ncnn has no batch', network, tmp_path / 'net', 'ncnn', SHAPE, dynamic_batch=True)
    refuse(r'end it in \.param', network, tmp_path / 'net.onnx', 'ncnn', SHAPE)
    folder = tmp_path / 'folder'
    folder.mkdir()
    refuse('is a folder', network, folder, 'onnx', SHAPE)
    refuse('is a folder', network, '.', 'onnx', SHAPE)
    (tmp_path / 'net.bin').mkdir()
    refuse(r'net\.bin is a folder', network, tmp_path / 'net', 'ncnn', SHAPE)
    (tmp_path / 'net.bin').rmdir()
    large = nn.Conv2d(3, 8, 65)
    refuse('cannot run on inputs of 64x96', large, tmp_path / 'net', 'onnx', SHAPE)
    file = tmp_path / 'file'
    file.touch()
    refuse('cannot be written', network, file / 'net', 'torchscript', SHAPE)
    for program in (tmp_path / 'absent', file):  # the second cannot be executed
        monkeypatch.setattr('pnnx.EXEC_PATH', str(program))
        refuse('pnnx cannot be started', network, tmp_path / 'net', 'ncnn', SHAPE)
    network.conv.weight.data.fill_(torch.nan)
    refuse('infinite values or NaN', network, tmp_path / 'net', 'onnx', SHAPE)
    assert sorted(tmp_path.iterdir()) == [file, folder]
    monkeypatch.setattr(torch.onnx, 'export', lambda model, args, f: None)  # as in PyTorch 2.4
    refuse('needs a newer PyTorch than 2', Small(), tmp_path / 'net', 'onnx', SHAPE)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    for format, names in (('ncnn', 'ncnn pnnx'), ('litert', 'litert_torch ai_edge_litert')):
        said = f'the {format} format needs {names.replace(" ", " and ")}: pip install {names}'
        refuse(said, Small(), tmp_path / 'net', format, SHAPE)


# Not LiteRT: litert-torch ends the process where a temporary file of its own cannot be written.
@pytest.mark.parametrize('format', [*EVERY[:3], BOTH[1]])
def test_a_full_disk_is_one_line_and_leaves_nothing(format, tmp_path):
    network, unlimited = nn.Conv2d(3, 800, 3), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, unlimited[1]))
    try:
        refuse('cannot be written', network, tmp_path / 'net', format, SHAPE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert list(tmp_path.iterdir()) == []


def test_what_a_format_cannot_express_is_one_line(tmp_path):
    median, values = Of(lambda x: x.median(3)[0]), Of(torch.linalg.svdvals)
    refuse('No ONNX function found for .*median', median, tmp_path / 'net', 'onnx', SHAPE)
    refuse('ncnn has no layer for aten::median', median, tmp_path / 'net', 'ncnn', SHAPE)
    refuse('pnnx cannot translate .*svd', values, tmp_path / 'net', 'ncnn', SHAPE)
    assert list(tmp_path.iterdir()) == []


def test_arguments_are_checked(network, tmp_path):
    for name in ('net', 'net.param', 'net.bin'):
        wanted = (tmp_path / 'net.param', tmp_path / 'net.bin')
        assert FORMATS['ncnn'].paths(tmp_path / name) == wanted
    with pytest.raises(ValueError, match=re.escape("format='tensorrt': choose one of 'onnx'")):
        export(network, tmp_path / 'net', 'tensorrt')
    with pytest.raises(ValueError, match=re.escape('shape=(3, 64, 64): give (1, channels')):
        export(network, tmp_path / 'net', 'onnx', (3, 64, 64))
