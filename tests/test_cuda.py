"""What only a GPU shows.

Without one all of it is skipped. ``MMSHUFFLE_TEST_DEVICE=cpu`` runs the same code on the CPU, to
see that the tests themselves work: with bfloat16 for float16.
"""

import copy
import os

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from mmshuffle.deploy import shuffle_free
from mmshuffle.engine.memory_format import set_memory_format
from tests.test_backbones.test_networks import randomise
from tests.test_engine.test_reproducible import Drawn, train
from tests.variants import KINDS, KINDS_WITHOUT_C5, build

DEVICE = os.environ.get('MMSHUFFLE_TEST_DEVICE', 'cuda')
ON_CUDA = DEVICE.startswith('cuda')
HALF = torch.float16 if ON_CUDA else torch.bfloat16
# One of each family, for what costs seconds a network.
FEW = ('shufflenetv1-x0.5-g3', 'shufflenetv2-x0.5-megvii', 'mobilenetv1-x0.25', 'squeezenet-1.1')

pytestmark = pytest.mark.skipif(
    ON_CUDA and not torch.cuda.is_available(), reason='there is no CUDA device'
)


@pytest.fixture(autouse=True)
def _exact():
    """No TF32 and no choice of algorithms by their speed: differences are then of rounding."""
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield
    torch.backends.cuda.matmul.allow_tf32 = matmul


def built(name: str, **kwargs) -> nn.Module:
    """A network whose outputs depend on all of its layers, on the CPU."""
    net = build(name, **kwargs)
    net.init_weights()
    return randomise(net)


@pytest.mark.parametrize('name', KINDS + KINDS_WITHOUT_C5)
def test_outputs_are_the_cpus_in_either_memory_layout_and_without_shuffles(name):
    net = built(name)
    x = torch.rand(2, 3, 70, 96)
    with torch.no_grad():
        expected = copy.deepcopy(net).double()(x.double())
        net, x = net.to(DEVICE), x.to(DEVICE)
        found = [net(x)]
        if name.startswith('shufflenet'):
            found.append(shuffle_free(net)(x))
        net.to(memory_format=torch.channels_last)
        found.append(net(x.contiguous(memory_format=torch.channels_last)))
    assert all(y.is_contiguous(memory_format=torch.channels_last) for y in found[-1])
    for outputs in found:
        for a, b in zip(outputs, expected, strict=True):
            assert a.device == x.device
            assert (a.double().cpu() - b).abs().max() <= 1e-3 * b.abs().max().clamp(min=1e-6)


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('layout', ['preserve', 'channels_last'])
@pytest.mark.parametrize('name', FEW)
def test_a_step_in_half_precision_trains_all_but_what_is_frozen(name, layout, with_cp):
    net = built(name, frozen_stages=0, with_cp=with_cp).to(DEVICE).train()
    if layout == 'channels_last':
        set_memory_format(net, layout)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    trained = [p for p in net.parameters() if p.requires_grad]
    kind = AmpOptimWrapper if ON_CUDA else OptimWrapper
    wrapper = kind(optimizer=torch.optim.SGD(trained, lr=1e-3))
    x = torch.rand(4, 3, 64, 64, device=DEVICE)
    with torch.autocast(x.device.type, HALF), wrapper.optim_context(net):
        outputs = net(x)
        loss = sum(y.float().square().mean() for y in outputs) / 1e3
    assert all(y.device == x.device for y in outputs) and loss.isfinite()
    wrapper.update_params(loss)
    after = net.state_dict()
    changed = {int(key.split('.')[1]) for key in before if not torch.equal(before[key], after[key])}
    assert changed == set(range(1, len(net.stages)))
    assert all(value.isfinite().all() for value in after.values())


def test_a_resumed_run_draws_the_numbers_of_the_device(tmp_path):
    _, whole = train(tmp_path / 'whole', Drawn(), 0, False)
    _, resumed = train(tmp_path / 'rest', Drawn(), 0, False, tmp_path / 'whole' / 'epoch_1.pth')
    assert all(value.device.type == torch.device(DEVICE).type for value in whole.values())
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
