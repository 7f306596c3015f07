"""Networks on their way to a runtime's files, and through the gate on this machine."""

import numpy as np
import pytest

from mmshuffle.latency.device.inputs import make_input
from mmshuffle.latency.device.runtimes import load_ncnn
from mmshuffle.latency.guidelines import all_networks, guidelines
from mmshuffle.latency.measure import measure
from mmshuffle.latency.networks import from_config
from mmshuffle.latency.plan import Plan, Setting
from mmshuffle.latency.targets import LocalTarget

from .tiny import ask

(NO_IMAGE,) = [n for n in all_networks(guidelines()) if n.name == 'g1-9-108']
FORMS = ('native', 'free', 'free-8')


@pytest.mark.slow
@pytest.mark.parametrize('runtime', ['onnxruntime', 'ncnn'])
@pytest.mark.parametrize(
    ('network', 'size', 'forms'),
    [
        ('shufflenetv2-x0.5', (64, 64), FORMS),
        ('shufflenetv1-x0.5-g3', (64, 64), FORMS),
        ('mobilenetv1-x0.25', (64, 64), FORMS),
        ('faster-rcnn_shufflenetv2-x0.5_fpn_1x_coco', (64, 96), ('native',)),  # several outputs
        (NO_IMAGE, (56, 56), ('native',)),  # not three channels
    ],
    ids=str,
)
def test_every_form_passes_the_gate(tmp_path, runtime, network, size, forms):
    pytest.importorskip(runtime, reason=f'needs {runtime}')
    network = from_config(network) if isinstance(network, str) else network
    plan = Plan(tmp_path)
    list(plan.add(network, [size], [Setting(runtime, shuffle=form) for form in forms]))
    recording = measure(plan, LocalTarget(), ask('gate'))
    assert recording.problem is None and len(recording.cases) == len(forms)
    for case in recording.cases:
        assert case.failure is None and case.gate['error'] < 1e-4, case


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
