"""Networks on their way to a runtime's files, and through the gate on this machine."""

import numpy as np
import pytest

from mmshuffle.latency.device.inputs import make_input
from mmshuffle.latency.device.runtimes import load_ncnn
from mmshuffle.latency.guidelines import all_networks, guidelines
from mmshuffle.latency.measure import Job, measure
from mmshuffle.latency.networks import from_config
from mmshuffle.latency.plan import Plan, Setting
from mmshuffle.latency.targets import LocalTarget


def pass_gate(folder, network, size, settings) -> None:
    plan = Plan(folder)
    list(plan.add(network, [size], settings))
    recording = measure(plan, LocalTarget(), Job('gate'))
    assert recording.problem is None and len(recording.cases) == len(settings)
    for case in recording.cases:
        assert case.failure is None and case.gate['error'] < 1e-4, case


@pytest.mark.slow
@pytest.mark.parametrize('runtime', ['onnxruntime', 'ncnn'])
@pytest.mark.parametrize('name', ['shufflenetv2-x0.5', 'shufflenetv1-x0.5-g3', 'mobilenetv1-x0.25'])
def test_every_form_of_the_shuffle_passes_the_gate(tmp_path, runtime, name):
    pytest.importorskip(runtime, reason=f'needs {runtime}')
    settings = [Setting(runtime, shuffle=form) for form in ('native', 'free', 'free-8')]
    pass_gate(tmp_path, from_config(name), (64, 64), settings)


@pytest.mark.slow
@pytest.mark.parametrize('runtime', ['onnxruntime', 'ncnn'])
def test_networks_without_three_channels_pass_the_gate(tmp_path, runtime):
    pytest.importorskip(runtime, reason=f'needs {runtime}')
    (network,) = [n for n in all_networks(guidelines()) if n.name == 'g1-9-108']
    pass_gate(tmp_path, network, (56, 56), [Setting(runtime)])


@pytest.mark.slow
def test_all_feature_maps_of_a_detector_pass_the_gate(tmp_path):
    pytest.importorskip('ncnn', reason='needs ncnn')
    network = from_config('faster-rcnn_shufflenetv2-x0.5_fpn_1x_coco')
    pass_gate(tmp_path, network, (64, 96), [Setting('ncnn')])


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
