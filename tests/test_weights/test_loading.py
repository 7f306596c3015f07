"""Weights are recognised, and loaded whole or not at all."""

from argparse import Namespace
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch

from mmshuffle.backbones import MobileNetV1, ShuffleNetV2
from mmshuffle.weights import load_pretrained, read_tensors
from tests.conftest import refused
from tests.references import drawn_state, module_of, torchvision_v2
from tests.test_weights.test_families import publish


def torchvision_state(width: float) -> dict[str, torch.Tensor]:
    state = drawn_state(torchvision_v2, width)
    return {**state, 'fc.weight': torch.rand(1000, 1024), 'fc.bias': torch.rand(1000)}


def test_named_exceptions_may_be_missing(tmp_path):
    state = torchvision_state(0.5)
    path = tmp_path / 'weights.pth'
    torch.save(without('conv5', state), path)
    net = ShuffleNetV2(0.5, 'torchvision', out_indices=(3, 4))
    with refused(r'stages\.4'):
        load_pretrained(net, str(path))
    for allowed in (['stages.4.'], 'stages.4.'):
        report = load_pretrained(net, str(path), allow_missing=allowed)
        assert report.matched and not report.missing
        assert len(report.excused) == 5 and '5 left as they were (stages.4.conv' in str(report)
    # One name is not the list of its letters, with which every name begins.
    with refused(r'stages\.4'):
        load_pretrained(net, str(path), allow_missing='stages.1.')


def test_a_file_with_nothing_that_fits_is_an_error_whatever_may_be_missing(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({'stages.0.0.bn.num_batches_tracked': torch.tensor(7), 'a': torch.ones(1)}, path)
    net = ShuffleNetV2(0.5, 'torchvision')
    with refused('left as they were'):
        load_pretrained(net, str(path), allow_missing=['stages.'])
    assert net.stages[0][0].bn.num_batches_tracked == 0


def test_a_network_with_a_familys_own_names_is_filled_as_it_is(tmp_path):
    net = module_of(drawn_state(torchvision_v2, 0.5))
    path = tmp_path / 'weights.pth'
    torch.save(torchvision_state(0.5), path)
    report = load_pretrained(net, str(path))
    assert report.family == 'own names' and len(report.unexpected) == 2
    wanted = read_tensors(path)['stage4.2.branch2.4.bias']
    assert torch.equal(net.state_dict()['stage4.2.branch2.4.bias'], wanted)


def renamed(form: str, state: dict) -> dict:
    return {form.format(name): value for name, value in state.items()}


def without(part: str, state: dict) -> dict:
    return {name: value for name, value in state.items() if part not in name}


def of_all(change: Callable) -> Callable:
    return lambda s, o: {name: change(value) for name, value in s.items()}


AVERAGES = {
    'ema': lambda s, o: {'model': o, 'ema': s},
    'state_dict_ema': lambda s, o: {'state_dict': o, 'state_dict_ema': renamed('module.{}', s)},
    'model_ema_state_dict': lambda s, o: {'model': o, 'model_ema_state_dict': s},
    'averaged_model': lambda s, o: {'model': o, 'averaged_model': s},
    'ema_params': lambda s, o: {'model': o, 'ema_params': s},
    'params_ema': lambda s, o: {'params': o, 'params_ema': s},
    'ema-within': lambda s, o: {'state_dict': o, 'ema': {'decay': 0.9, 'shadow': s}},
    'ema-of-parameters': lambda s, o: {'model': s, 'ema': without('running', o)},
}
# What wraps a state dict.
WRAPPERS = {
    'state_dict': lambda s, o: {'state_dict': s, 'epoch': 3},
    'module': lambda s, o: {'state_dict': renamed('module.{}', s)},
    'model': lambda s, o: {'model': s, 'args': Namespace(lr=0.1)},
    'net': lambda s, o: {'net': s, 'epoch': 3, 'best_prec1': torch.tensor(61.0)},
    'model_state_dict': lambda s, o: {'model_state_dict': s, 'optimizer': {'state': {'a': o}}},
    'params': lambda s, o: {'params': s},
    'nested': lambda s, o: {'model': {'state_dict': s}},
    'other-key': lambda s, o: {'student': s},
    'parts': lambda s, o: {'stem': without('stage', s), 'network': dict(s)},
    'lightning': lambda s, o: {'state_dict': renamed('model.{}', s)},
    'compiled': lambda s, o: renamed('_orig_mod.{}', s),
    'chain': lambda s, o: renamed('module.net._orig_mod.backbone.{}', s),
    'unusual-prefix': lambda s, o: renamed('my_encoder.trunk.{}', s),
    'whole': lambda s, o: module_of(s),
    'whole-compiled': lambda s, o: {'model': torch.compile(module_of(s))},
    'long-doubles': of_all(lambda v: v.numpy().astype('g' if v.ndim else 'i8')),
    # mmengine swaps them when it saves.
    'ema_state_dict': lambda s, o: {'state_dict': s, 'ema_state_dict': o},
    'numpy': of_all(torch.Tensor.numpy),
    'half': of_all(torch.Tensor.half),
    'half-counters': of_all(lambda v: 1e6 * v.half() if v.ndim == 0 else v),
    'bfloat16': of_all(torch.Tensor.bfloat16),
    **AVERAGES,
}


@pytest.mark.parametrize('case', WRAPPERS)
def test_weights_are_found_below_whatever_wraps_them(case, tmp_path):
    state = torchvision_state(0.5)
    state |= {k: v + 1 for k, v in state.items() if v.ndim == 0}
    others = {name: value + 1 for name, value in state.items()}
    torch.save(WRAPPERS[case](state, others), tmp_path / 'a.ckpt')
    net = ShuffleNetV2(0.5, 'torchvision', out_indices=(0, 1, 2, 3, 4))
    report = load_pretrained(net, str(tmp_path / 'a.ckpt'))
    assert report.family == 'torchvision ShuffleNetV2'
    counters = sum(name.endswith('num_batches_tracked') for name in net.state_dict())
    lost = counters if case == 'half-counters' else 0
    assert len(report.matched) == len(net.state_dict()) - lost
    assert {'fc.weight', 'fc.bias'} <= {
        name.rpartition('my_encoder.trunk.')[2] for name in report.unexpected
    }
    loaded, wanted = net.stages[3].branches[2][1].bn.bias, state['stage4.2.branch2.4.bias']
    assert torch.allclose(loaded, wanted, atol=1e-2)
    told = f'the moving averages below {case.removesuffix("-within")} are taken'
    if case == 'ema-of-parameters':
        told = 'the moving averages below ema are not of all tensors, and not taken'
    assert list(report.notes) == ([told] if case in AVERAGES else [])
    assert case not in AVERAGES or told in str(report)


def test_two_networks_in_a_file_are_told_apart_by_the_prefix(tmp_path):
    one, two = torchvision_state(0.5), torchvision_state(0.5)
    torch.save({'teacher': one, 'student': two}, tmp_path / 'a.pth')
    net = ShuffleNetV2(0.5, 'torchvision')
    with refused(r'below student\. and teacher\.: give one of them as prefix'):
        load_pretrained(net, str(tmp_path / 'a.pth'))
    with refused("prefix='backbone'"):
        load_pretrained(net, str(tmp_path / 'a.pth'), prefix='backbone')
    load_pretrained(net, str(tmp_path / 'a.pth'), prefix='student')
    wanted = two['stage4.2.branch2.4.bias']
    assert torch.equal(net.stages[3].branches[2][1].bn.bias, wanted)


@pytest.mark.parametrize(
    ('value', 'dtype'),
    [
        *product((float('nan'), float('inf')), (torch.float32, torch.float16)),
        *((-float('inf'), dtype) for dtype in (torch.bfloat16, torch.float64)),
        (1j, torch.complex64),
    ],
)
def test_what_is_no_number_is_refused_by_name_and_changes_nothing(value, dtype, tmp_path):
    state, name = torchvision_state(0.5), 'stage3.2.branch2.4.running_var'
    state |= {key: state[key].to(dtype) for key in (name, 'fc.weight')}
    state['fc.weight'][0, 0] = value  # which the backbone does not load
    net = ShuffleNetV2(0.5, 'torchvision')
    if not dtype.is_complex:
        torch.save(state, tmp_path / 'a.pth')
        load_pretrained(net, str(tmp_path / 'a.pth'))
    state[name][5] = value
    torch.save(state, tmp_path / 'a.pth')
    before = {k: v.clone() for k, v in net.state_dict().items()}
    told = 'complex numbers' if dtype.is_complex else '1 of 48 numbers that are NaN or infinite'
    with refused(rf'a\.pth: stages\.2\.branches\.2\.1\.bn\.running_var has {told}'):
        load_pretrained(net, str(tmp_path / 'a.pth'))
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def averaged(variables: dict) -> dict:
    """Moving averages of what is trained, as TensorFlow names them."""
    return {
        name if '/moving_' in name else f'{name}/ExponentialMovingAverage': value
        for name, value in variables.items()
    }


VARIABLES = {
    'colon': lambda v, o: renamed('{}:0', v),
    'scope': lambda v, o: renamed('FeatureExtractor/{}', v),
    'averages': lambda v, o: averaged(v),
    'both': lambda v, o: o | averaged(v),
    'both-colon': lambda v, o: renamed('{}:0', o | averaged(v)),
    'slots': lambda v, o: v | renamed('{}/RMSProp', o) | renamed('{}/RMSProp_1', o),
    'all': lambda v, o: o | averaged(v) | renamed('{}/Momentum', o) | {'global_step': np.array(3)},
}


@pytest.mark.parametrize('case', VARIABLES)
def test_variables_of_tensorflow_are_read_with_their_averages(case, tmp_path):
    variables = read_tensors(publish('TF-slim MobileNetV1', (0.25,), tmp_path))
    variables = {name: value.numpy() for name, value in variables.items() if 'Logits' not in name}
    written = VARIABLES[case](variables, {k: v + 1 for k, v in variables.items()})
    np.savez(tmp_path / 'a.npz', **written)
    net = MobileNetV1(0.25, norm_cfg=dict(type='BN', eps=1e-3), act_cfg=dict(type='ReLU6'))
    report = load_pretrained(net, str(tmp_path / 'a.npz'))
    assert report.family == 'TF-slim MobileNetV1' and not report.missing
    assert report.unexpected in ([], ['global_step'])
    averages = any('MovingAverage' in name for name in written)
    assert ('averages are taken for' in str(report)) == averages
    wanted = variables['MobilenetV1/Conv2d_13_pointwise/BatchNorm/beta']
    assert torch.equal(net.stages[3][1].pointwise.bn.bias, torch.from_numpy(wanted).float())
    wanted = variables['MobilenetV1/Conv2d_13_pointwise/weights'].transpose(3, 2, 0, 1)
    assert np.array_equal(net.stages[3][1].pointwise.conv.weight.detach(), wanted.astype('float32'))
