"""The contract that every backbone and variant keeps.

Five faults of the closest peer, mmpretrain 1.2's ShuffleNets, are among the tests: BatchNorm's bias
is not initialised; norm_eval misses SyncBN; a frozen stem's statistics drift; checkpointing updates
statistics twice; a last convolution without a gradient stops distributed training.
"""

import collections
import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn

from tests.conftest import refused
from tests.test_backbones.test_networks import randomise
from tests.variants import KINDS, KINDS_WITHOUT_C5, VARIANTS, build

every_variant = pytest.mark.parametrize('name', VARIANTS)
every_kind = pytest.mark.parametrize('name', KINDS + KINDS_WITHOUT_C5)


def train_step(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A loss with which no output and no channel has the same gradient as another."""
    loss = sum((y * torch.linspace(0.5, 1.5, y.numel()).view_as(y)).square().mean() for y in net(x))
    loss.backward()
    return loss.detach()


@every_variant
def test_outputs_have_the_declared_channels_and_strides(name):
    net = build(name).eval()
    # SqueezeNet ends at stride 16.
    strides = (4, 8, 16, 16 if name.endswith('dilated') else 32)[: len(net.stages)]
    assert net.out_strides == strides and len(strides) == 4 - name.startswith('squeezenet')
    # A size that no stride divides: maps are rounded up, as FPN's and the anchors' are.
    with torch.no_grad():
        outputs = net(torch.rand(1, 3, 70, 101))
    for output, channels, stride in zip(outputs, net.out_channels, net.out_strides, strict=True):
        assert output.shape == (1, channels, -(-70 // stride), -(-101 // stride))


@every_kind
@pytest.mark.parametrize('in_channels', [1, 4])
def test_images_may_have_any_number_of_channels(name, in_channels):
    colour, net = build(name), build(name, in_channels=in_channels)
    state = colour.state_dict()
    first = state['stages.0.0.conv.weight']
    if in_channels == 1:
        first = first.sum(1, keepdim=True)
    else:  # a quarter of the first channel's weight is a fourth one's
        first = torch.cat((first[:, :1] * 0.75, first[:, 1:], first[:, :1] * 0.25), 1)
    net.load_state_dict({**state, 'stages.0.0.conv.weight': first})
    colour, net = colour.double().eval(), net.double().eval()
    x = torch.rand(1, 1 if in_channels == 1 else 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        found = net(torch.cat((x, x[:, :1]), 1) if in_channels == 4 else x)
        for a, b in zip(colour(x.expand(-1, 3, -1, -1)), found, strict=True):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-5 * a.abs().max().item())


@every_variant
def test_every_parameter_gets_a_gradient(name):
    net = build(name)
    net.init_weights()
    train_step(net, torch.rand(2, 3, 64, 64))
    unused = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert unused == []


@every_kind
@pytest.mark.parametrize('out_indices', [(0,), (2,), (1, 3)])
def test_builds_nothing_above_the_last_output(name, out_indices):
    out_indices = tuple(i for i in out_indices if i < len(build(name).stages))
    net = build(name, out_indices=out_indices)
    assert len(net.stages) == out_indices[-1] + 1
    # Stage 0 of a network that ends there, and every stage below the last output, is in use.
    train_step(net, torch.rand(2, 3, 64, 64))
    assert all(p.grad is not None for p in net.parameters())
    assert [y.shape[1] for y in net(torch.rand(1, 3, 64, 64))] == list(net.out_channels)


@every_kind
@pytest.mark.parametrize('frozen', [-1, 0, 2])
def test_frozen_stages_keep_parameters_and_statistics(name, frozen):
    net = build(name, frozen_stages=frozen)
    net.train()
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
    # With a gradient of its own, or a network that is frozen as a whole has none.
    train_step(net, torch.rand(2, 3, 64, 64, requires_grad=True))
    optimizer.step()
    after = net.state_dict()
    changed = {int(k.split('.')[1]) for k in before if not torch.equal(before[k], after[k])}
    trained = {i for i, stage in enumerate(net.stages) if i > frozen and stage.state_dict()}
    assert changed == trained


@every_kind
@pytest.mark.parametrize('norm', ['BN', 'SyncBN', 'BN2d'])
def test_norm_eval_holds_for_every_kind_of_batch_norm(name, norm):
    net = build(name, norm_eval=True, norm_cfg=dict(type=norm))
    net.train()
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    assert norms and not any(m.training for m in norms)
    assert net.stages[0].training


@every_kind
def test_checkpointing_changes_neither_loss_nor_gradients_nor_statistics(name):
    plain, checkpointed = build(name), build(name, with_cp=True)
    plain.init_weights()
    checkpointed.load_state_dict(plain.state_dict())
    # The counter of batches decides the statistics where momentum is None.
    for norm in (*plain.modules(), *checkpointed.modules()):
        if isinstance(norm, _BatchNorm):
            norm.momentum = None
    x = torch.rand(2, 3, 64, 64)
    for _ in range(2):
        assert torch.equal(train_step(plain, x), train_step(checkpointed, x))
    for (n, a), b in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-5, atol=1e-7), n
    statistics = dict(checkpointed.named_buffers())
    assert all(torch.equal(value, statistics[key]) for key, value in plain.named_buffers())


@every_kind
def test_checkpointing_recomputes_all_but_the_first_convolution(name):
    net = build(name, with_cp=True)
    calls = collections.Counter()
    for layer, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda *_, layer=layer: calls.update([layer]))
    train_step(net, torch.rand(2, 3, 64, 64))
    once = [layer for layer, number in calls.items() if number == 1]
    assert once == ['stages.0.0.conv'] and set(calls.values()) == {1, 2}


@every_kind
def test_initial_weights_are_reproducible_and_batch_norm_bias_is_set(name):
    a, b = (build(name, norm_cfg=dict(type='BN')) for _ in range(2))
    for net in (a, b):
        torch.manual_seed(7)
        net.init_weights()
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    expected = 1e-4 if name.startswith('shufflenet') else 0.0
    norms = [m for m in a.modules() if isinstance(m, _BatchNorm)]
    assert norms and all((m.weight == 1).all() for m in norms)
    assert all(torch.allclose(m.bias, torch.tensor(expected)) for m in norms)


@every_kind
def test_user_init_cfg_replaces_the_published_one(name):
    net = build(name, init_cfg=dict(type='Constant', layer='Conv2d', val=0.25))
    net.init_weights()
    assert all((m.weight == 0.25).all() for m in net.modules() if isinstance(m, nn.Conv2d))


@every_kind
def test_channels_last_gives_the_same_outputs_in_that_layout(name):
    net = randomise(build(name)).double()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):  # or outputs of deep stages are next to nothing
            nn.init.kaiming_normal_(module.weight)
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = net(x)
        net.to(memory_format=torch.channels_last)
        found = net(x.contiguous(memory_format=torch.channels_last))
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9 * a.abs().max().item())
        assert a.abs().max() > 0.1 and b.is_contiguous(memory_format=torch.channels_last)


@every_kind
@pytest.mark.parametrize('act', ['HSwish', 'PReLU'])  # one that works in place and one that cannot
def test_activation_and_norm_of_the_config_are_used(name, act):
    net = build(name, act_cfg=dict(type=act), norm_cfg=dict(type='GN', num_groups=1))
    kinds = {type(m).__name__ for m in net.modules()}
    assert 'GroupNorm' in kinds and not kinds & {'BatchNorm2d', 'ReLU', 'ReLU6'}
    train_step(net, torch.rand(1, 3, 64, 64))
    assert all(p.grad is not None for p in net.parameters())


def test_arguments_are_not_shared_between_instances():
    norm_cfg = dict(type='BN', eps=1e-3)
    build('shufflenetv2-x0.5-megvii', norm_cfg=norm_cfg)
    assert norm_cfg == dict(type='BN', eps=1e-3)
    assert build('shufflenetv2-x0.5-megvii').stages[0][0].norm.eps == 1e-5


EVERY_NETWORK = ' '.join(sorted({cfg['type'] for cfg in VARIANTS.values()}))
UNDILATED = 'AlexNet ShuffleNetV1Baseline SqueezeNet'
NO_WIDTH = ('1.0', 5, 0, -1.0, True, None, [1.0], float('nan'), float('inf'))
PADDINGS = "'symmetric', 'published'"
# Networks, an argument, values of it that are wrong, and what is said of those that are allowed.
WRONG = [
    (EVERY_NETWORK, 'in_channels', (0,), 'above 0'),
    (EVERY_NETWORK, 'in_channels', (3.0, True, None), 'whole number'),
    (EVERY_NETWORK, 'out_indices', (2, None, {0, 1}), 'sequence'),
    (EVERY_NETWORK, 'out_indices', ((), (2, 1), (-1,), (0, 1.0), (0, True)), 'strictly increasing'),
    (EVERY_NETWORK, 'out_indices', ((0, 5),), 'from 0 to'),
    (EVERY_NETWORK, 'frozen_stages', (4, 1.0, True, None), '-1, 0, 1, 2'),
    (EVERY_NETWORK, 'output_stride', (8, '16', None), 'one of 32'),
    (EVERY_NETWORK, 'norm_eval', (1,), 'False, True'),
    (EVERY_NETWORK, 'with_cp', ('yes',), 'False, True'),
    (EVERY_NETWORK, 'norm_cfg', ('BN',), 'dict with a type'),
    (EVERY_NETWORK, 'conv_cfg', ('Conv2d',), 'dict with a type'),
    (EVERY_NETWORK, 'act_cfg', (['ReLU'],), 'dict with a type'),
    (UNDILATED, 'output_stride', (16,), 'one of 32'),
    ('ShuffleNetV1', 'widen_factor', NO_WIDTH, '0.25, 0.5, 1.0, 1.5, 2.0'),
    ('ShuffleNetV2 XceptionLike', 'widen_factor', (0.7, *NO_WIDTH), '0.5, 1.0, 1.5, 2.0'),
    ('MobileNetV1', 'widen_factor', NO_WIDTH, 'above 0 and up to 4'),
    ('ShuffleNetV1 ShuffleNetV2', 'se_ratio', (16, 0, -0.5, True, '0.5', float('nan')), 'up to 1'),
    ('ShuffleNetV1', 'groups', (5, 0, -3, 3.0, '3', True, None, [3]), '1, 2, 3, 4, 8'),
    ('ShuffleNetV1', 'shuffle', ('random', None), "'paper', 'inverse', 'none'"),
    ('ShuffleNetV1', 'arch', ('deep',), "'mobile', 'shallow', '50'"),
    ('ShuffleNetV1', 'arch', ('shallow',), 'groups=3 and widen_factor=0.5, not 3 and 1.0'),
    ('ShuffleNetV2', 'layout', ('timm',), "'megvii', 'torchvision'"),
    ('ShuffleNetV2', 'arch', (50,), "'mobile', '50', '164'"),
    ('ShuffleNetV2', 'residual', ('yes',), 'False, True'),
    ('ShuffleNetV2', 'extra_depthwise', (2,), 'False, True'),
    ('MobileNetV1', 'padding', ('valid',), "'symmetric', 'same'"),
    ('MobileNetV1', 'shallow', (1,), 'False, True'),
    ('MobileNetV1', 'separable', (None,), 'False, True'),
    ('ShuffleNetV1Baseline', 'unit', ('dense',), "'vgg', 'resnet', 'resnext'"),
    ('ShuffleNetV1Baseline', 'mflops', (524, 38.0), '140, 38, 13'),
    ('SqueezeNet', 'version', (1.1,), "'1.0', '1.1'"),
    ('SqueezeNet', 'bypass', (True,), "None, 'simple', 'complex'"),
    ('SqueezeNet', 'padding', ('valid',), PADDINGS),
    ('SqueezeNet', 'out_indices', ((3,),), 'from 0 to 2 (strides 4, 8, 16)'),
    ('AlexNet', 'version', ('2012',), "'caffe', 'torchvision'"),
    ('AlexNet', 'padding', (0,), PADDINGS),
]


@pytest.mark.parametrize(
    ('network', 'arguments', 'allowed'),
    [
        *(
            (network, {name: value}, allowed)
            for networks, name, values, allowed in WRONG
            for network in networks.split()
            for value in values
        ),
        ('ShuffleNetV1', {'arch': '50', 'groups': 8}, 'groups=3'),
        ('ShuffleNetV2', {'widen_factor': 2.0, 'arch': '50'}, '1.0 only'),
        ('MobileNetV1', {'padding': 'same', 'conv_cfg': dict(type='Conv2d')}, 'conv_cfg'),
    ],
    ids=str,
)
def test_wrong_arguments_are_named_with_what_is_allowed(network, arguments, allowed):
    with pytest.raises(ValueError) as caught:
        MODELS.build({'type': network, **arguments})
    message, (name, value) = str(caught.value), next(iter(arguments.items()))
    assert all(part in message for part in (f'{name}={value!r}', network, allowed)), message


@pytest.mark.parametrize('in_channels', [1, 4])
@pytest.mark.parametrize('name', ['shufflenetv2-x0.5-megvii', 'mobilenetv1-x0.25', 'alexnet-caffe'])
def test_weights_of_colour_images_leave_another_first_layer_only_where_allowed(
    name, in_channels, tmp_path
):
    colour = build(name)
    colour.init_weights()
    path = tmp_path / 'colour.pth'
    torch.save(colour.state_dict(), path)
    pretrained = dict(type='Pretrained', checkpoint=str(path))
    net = build(name, in_channels=in_channels, init_cfg=pretrained)
    with refused() as caught:
        net.init_weights()
    message = str(caught.value)
    assert f'of 3 channels, and this network has in_channels={in_channels}' in message
    layer = 'stages.0.0.conv.weight'
    assert f'allow_missing={[layer]}' in message and '\n' not in message
    net = build(name, in_channels=in_channels, init_cfg={**pretrained, 'allow_missing': [layer]})
    net.init_weights()
    own, theirs = net.state_dict(), colour.state_dict()
    assert own.pop(layer).std() > 0
    assert all(torch.equal(value, theirs[key]) for key, value in own.items())
