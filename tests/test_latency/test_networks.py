"""Networks, suites and the guidelines' experiments."""

import collections
import itertools
import math
import shutil
from array import array

import numpy as np
import pytest
import torch
from torch import nn

from mmshuffle.deploy import FORMATS
from mmshuffle.deploy.formats import Unsupported
from mmshuffle.engine.files import write_json
from mmshuffle.latency.device import gate
from mmshuffle.latency.device.gate import make_input
from mmshuffle.latency.device.runtimes import load, load_ncnn
from mmshuffle.latency.guidelines import SIDE, Bottleneck, all_networks, build_g3, guidelines
from mmshuffle.latency.plan import (
    Network,
    Plan,
    example,
    expected_outputs,
    from_config,
    read_accuracies,
    setting,
)
from mmshuffle.latency.report import guideline_tables
from mmshuffle.latency.request import find_settings, find_work, make_request, names, suite
from tests.conftest import refused
from tests.test_deploy.test_xnnpack import SLOW
from tests.tiny import count_multiply_adds

from .tiny import ask

CONFIG = 'shufflenetv2-x0.5'
DETECTOR = 'faster-rcnn_shufflenetv2-x0.5_fpn_1x_coco'


def multiply_adds(network) -> float:
    return count_multiply_adds(network.build((SIDE, SIDE)), (1, network.channels, SIDE, SIDE)) / 1e6


@pytest.mark.parametrize('number', range(4))
def test_networks_of_a_column_cost_the_same_and_wider_ones_four_times_as_much(number, monkeypatch):
    """What every guideline's experiment keeps equal; but ReLU and shortcut, which cost nothing."""
    monkeypatch.setattr('mmshuffle.latency.guidelines.randomise', lambda *args: None)
    guideline = guidelines()[number]
    costs = [[multiply_adds(network) for network in row['networks']] for row in guideline['rows']]
    for column in zip(*costs):
        assert max(column) / min(column) < 1.06, (guideline['name'], column)
    for x1, x2, x4 in costs:
        assert x2 / x1 == pytest.approx(4, rel=0.08) and x4 / x2 == pytest.approx(4, rel=0.05)


def test_cost_is_that_of_the_described_network():
    """G1: 20 x 32^2 x 56^2; G2 and G3: 10 x 64^2 x 56^2; G4: a bottleneck of 16 within 64."""
    millions = {'g1-32-32': 64.2, 'g2-64-groups1': 128.5, 'g3-1-fragment-64': 128.5}
    millions['g4-relu-shortcut-64'] = 136.5
    found = {n.name: multiply_adds(n) for n in all_networks() if n.name in millions}
    assert found == pytest.approx(millions, abs=0.1)


def test_parallel_fragments_are_added_up():
    block = build_g3(4, 2, parallel=True)
    x = example((1, 4, 6, 6))
    with torch.no_grad():
        assert torch.equal(block(x), block[0](x) + block[1](x))


@pytest.mark.parametrize('relu', [True, False])
@pytest.mark.parametrize('shortcut', [True, False])
def test_bottleneck_has_what_it_should(relu, shortcut):
    block = Bottleneck(8, relu, shortcut).eval()
    x = example((1, 8, 6, 6))
    act = torch.relu if relu else torch.clone
    with torch.no_grad():
        y = block.expand(act(block.conv(act(block.reduce(x)))))
        assert torch.equal(block(x), act(x + y) if shortcut else act(y))


def test_guidelines_are_printed_as_the_papers_tables():
    entry = dict(config='g1-22-44', median_ms=20.0, reasons=[])
    text = guideline_tables([entry, dict(entry, config='g1-44-88', reasons=['drifts'])])
    assert '| 1:2 | 22, 44 | 50.0 | 50.0* | - | 72.9 | 20.5 | 5.1 |' in text
    assert 'G1, Table 1' in text and 'G2' not in text


def test_network_that_cannot_run_or_whose_outputs_say_nothing_is_refused():
    with refused('^net cannot run on inputs of 2x2: '):
        expected_outputs('net', nn.Sequential(nn.Conv2d(3, 3, 7)).eval(), (1, 3, 2, 2))
    deaf = nn.Conv2d(3, 4, 1).eval()
    nn.init.normal_(deaf.weight, std=1e-4)
    nn.init.ones_(deaf.bias)
    with refused('nearly the same outputs'):
        expected_outputs('deaf', deaf, (1, 3, 8, 8))
    nn.init.constant_(deaf.bias, float('nan'))
    with refused('deaf puts out infinite values or NaN'):
        expected_outputs('deaf', deaf, (1, 3, 8, 8))


@pytest.mark.parametrize(
    'name, part, outputs',
    [
        (CONFIG, 'auto', 1),
        (CONFIG, 'backbone', 1),
        (DETECTOR, 'auto', 5),
        (DETECTOR, 'backbone', 4),
        ('bccd-gfl', 'auto', 4),
        ('bccd-gfl', 'detector', 8),
    ],
)
def test_part_of_a_config_is_taken(name, part, outputs):
    network = from_config(name, part=part)
    assert len(expected_outputs(name, network.build((64, 64)), (1, 3, 64, 64))[0]) == outputs
    with refused('has backbone, '):
        from_config(name, part='head')


def test_a_detector_of_two_stages_is_refused():
    with refused('FasterRCNN is not of one stage: give --part neck'):
        from_config(DETECTOR, part='detector').build((64, 64))


def test_table8_has_its_five_networks_and_three_sizes():
    work = suite('shufflenet_v1/table8')
    networks = [f'shufflenetv1-x{width}-g3' for width in (0.5, 1.0, 2.0)]
    assert [network.name for network, _ in work] == [*networks, 'alexnet', 'mobilenetv1-x1.0']
    assert {tuple(shapes) for _, shapes in work} == {((224, 224), (480, 640), (720, 1280))}
    assert {tuple(s) for _, s in suite('shufflenet_v1/table8', ((480, 640),))} == {((480, 640),)}
    assert {'guidelines', 'shufflenet_v1/table8', 'shufflenet_v2/table8'} <= set(names())


@pytest.mark.parametrize(
    'name, shapes, message',
    [
        ('shufflenet_v1/table8', ((1, 1),), 'no row of this size'),
        ('guidelines', ((224, 224),), '56x56'),
        # Without latencies, and with those of networks that are not built.
        ('shufflenet_v1/table5', (), 'give one of guidelines, '),
        ('shufflenet_v2/table1', (), 'give one of guidelines, '),
    ],
)
def test_suites_that_are_none_are_refused(name, shapes, message):
    with refused(message):
        suite(name, shapes)


def test_networks_are_measured_once_at_the_papers_sizes():
    work = find_work(ask(models=[CONFIG, CONFIG]))
    assert [(n.name, tuple(s)) for n, s in work] == [
        (CONFIG, ((224, 224), (480, 640), (720, 1280)))
    ]
    with refused('not among the networks'):
        find_work(ask(models=[CONFIG], checkpoints={'other': 'a.pth'}))


def test_files_of_one_name_are_refused(tmp_path):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'net.py').write_text('model = dict(backbone=dict())')
    paths = [str(tmp_path / folder / 'net.py') for folder in ('a', 'b')]
    assert len(find_work(ask(models=paths[:1]))) == 1
    with refused('another network is called net too'):
        find_work(ask(models=paths))


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(models=[]), 'name networks'),
        (dict(suite='guidelines'), 'name networks'),
        (dict(runtimes=['tensorrt']), '--runtime tensorrt'),
        (dict(threads=[0]), '--threads'),
        (dict(shuffles=['gather']), '--shuffle gather: give native'),
        (dict(cores='fast'), '--cores fast'),
        (dict(cores='0;1'), '--cores 0;1'),
        (dict(what='profile', runtimes=['ncnn']), '--profile'),
        (dict(models=[CONFIG, 'a.tflite']), 'a .tflite file is measured alone'),
        (dict(target='adb', wheels='wheels'), '--wheels'),
        (dict(models=['a.tflite'], runtimes=['litert']), '--target adb'),
        (dict(loops=0), '--loops 0: give a finite number, at least'),
        (dict(seconds=-1.0), '--seconds -1: give a finite'),
        (dict(seconds=math.inf), '--seconds inf: give a finite'),
        (dict(cooldown=math.nan), '--cooldown nan: give a finite'),
        (dict(sessions=0), '--sessions 0: give a finite'),
    ],
)
def test_requests_without_meaning_are_refused(changes, message):
    with refused(message):
        find_settings(make_request({'models': [CONFIG], **changes}))


def test_every_combination_is_measured():
    request = ask(runtimes=['ncnn', 'pytorch'], threads=[1, 2])
    found = [(s['runtime'], s['threads']) for s in find_settings(request)]
    assert found == list(itertools.product(('ncnn', 'pytorch'), (1, 2)))
    with refused('--precision fp16'):
        setting('onnxruntime', precision='fp16')
    with refused('--precision int8: pytorch has no such path here'):
        setting('pytorch', precision='int8')


def make_small(shape=None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1)).eval()


SMALL = Network('net', make_small)
EXPORTED = dict(config='a/net.py', part='model', shuffle='native', align=1, checkpoint='a.pth')
EXPORTED |= dict(input_shape=[1, 3, 8, 8])
ACCURACY = dict(name='top-1', fp32=60.5, int8=60.0)


@pytest.mark.parametrize('runtime', ['onnxruntime', 'ncnn', *SLOW])
def test_int8_is_compared_with_its_own_outputs_and_has_the_layers_of_the_export_that_is_known(
    tmp_path, runtime
):
    format = 'onnx' if runtime == 'onnxruntime' else runtime
    record = tmp_path / 'a.json'
    last = dict(accuracy=ACCURACY, layers=['2'])
    write_json(dict(EXPORTED, format=format, int8=last), record)
    plan, there = Plan(tmp_path, read_accuracies([str(record)])), tmp_path / 'there'
    settings = [setting(runtime, precision=precision) for precision in ('fp32', 'int8')]
    list(plan.add(SMALL, [(8, 8), (8, 9)], settings))
    known = dict(ACCURACY, weights='a.pth', file=str(record))
    assert [case.accuracy for case in plan.cases] == [None, known, None, None]
    there.mkdir()
    for name, path in plan.files.items():
        shutil.copy(path, there / name)
    right = [[gate.read_floats(there / name) for name in case.expected] for case in plan.cases]
    for case, expected in zip(plan.cases, right, strict=True):
        run = dict(case.setting, files=case.files, input=case.shape)
        outputs = load(run, there).outputs()
        assert gate.compare(outputs, expected, case.tolerance)['passed']
    one, both = (gate.compare(right[n + 1], right[n], 1)['error'] for n in (0, 2))
    assert 1e-4 < one < both
    write_json(dict(EXPORTED, format=format, int8=dict(last, layers=['3'])), record)
    plan.accuracies = read_accuracies([str(record)])
    with pytest.raises(Unsupported, match='the network that it is of has other layers'):
        list(plan.add(SMALL, [(8, 8)], settings[1:]))


@pytest.mark.parametrize(
    'content', [[], EXPORTED, dict(EXPORTED, format='onnx', int8=dict(accuracy=None))], ids=str
)
def test_files_without_an_accuracy_are_refused(tmp_path, content):
    write_json(content, tmp_path / 'a.json')
    with refused(r'--accuracy .*a\.json: give what tools/export.py --int8 --json writes'):
        read_accuracies([str(tmp_path / 'a.json')])


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_network_that_ignores_its_input_does_not_pass(tmp_path, monkeypatch, precision):
    """One whose outputs hardly depend on it, but do; half precision alone would allow 25 %."""
    network = nn.Conv2d(3, 4, 1).eval()
    torch.manual_seed(0)
    nn.init.normal_(network.weight, std=0.03)
    nn.init.ones_(network.bias)
    monkeypatch.setattr(Plan, '_export', lambda *args: ({}, args[4]))
    plan = Plan(tmp_path)
    settings = [setting('ncnn', precision=precision)]
    list(plan.add(Network('net', lambda shape: network), [(8, 8)], settings))
    (case,) = plan.cases
    right = [gate.read_floats(plan.files[file]) for file in case.expected]
    with torch.no_grad():
        dark = [array('f', network(torch.zeros(1, 3, 8, 8)).flatten().tolist())]
    assert gate.compare(right, right, case.tolerance)['passed']
    found = gate.compare(dark, right, case.tolerance)
    assert not found['passed'] and found['error'] < 0.25


class Undecided(nn.Module):
    """A network that exporters cannot follow."""

    def forward(self, x):
        return x * 2 if x.sum() > 0 else x[:, :1]


@pytest.mark.parametrize('runtime', ['pytorch', 'onnxruntime'])
def test_network_that_cannot_be_exported_is_one_line(tmp_path, runtime):
    if runtime == 'onnxruntime':
        pytest.importorskip('onnxscript', reason='needs onnxscript')
        pytest.importorskip('onnxruntime', reason='needs onnxruntime')
    plan = Plan(tmp_path)
    network = Network('net', lambda shape: Undecided())
    with refused(r'cannot (write it|be written)[^\n]+$'):
        list(plan.add(network, [(8, 8)], [setting(runtime)]))


def test_files_that_sizes_share_are_sent_once(tmp_path, monkeypatch):
    def write(module, image, paths, *names):
        paths[0].write_text(f'for {image.shape}')
        paths[1].write_bytes(b'weights')

    monkeypatch.setattr(FORMATS['ncnn'], 'write', write)
    monkeypatch.setattr(FORMATS['ncnn'], 'require', lambda: None)
    plan = Plan(tmp_path)
    settings = [setting('ncnn'), setting('ncnn', threads=2)]
    done = list(plan.add(from_config(CONFIG), [(64, 64), (64, 96)], settings))
    assert len(done) == len(plan.cases) == 4
    suffixes = collections.Counter(name.partition('.')[2] for name in plan.files)
    assert suffixes == dict(bin=1, f32=2, param=2)


def test_outputs_of_ncnn_are_those_of_the_network_in_their_order(tmp_path):
    """A piece of a slice that nothing reads is no output, and the file's order tells nothing."""
    ncnn = pytest.importorskip('ncnn', reason='needs ncnn')
    files = dict(param=tmp_path / 'net.param', bin=tmp_path / 'net.bin')
    layer = 'Slice pieces 1 3 in0 out1 rest out0 -23300=3,1,1,-233 1=0'
    files['param'].write_text(f'7767517\n2 4\nInput in0 0 1 in0\n{layer}\n')
    files['bin'].write_bytes(b'')
    run = dict(threads=1, precision='fp32', input=[1, 3, 8, 8])
    found = [np.asarray(output) for output in load_ncnn(ncnn, run, files).outputs()]
    first, _, last = np.array(make_input(192)).reshape(3, 64)
    assert len(found) == 2 and np.array_equal(found[0], last) and np.array_equal(found[1], first)
