"""Converting published files to this package's names, and publishing one's own."""

import hashlib
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from safetensors.torch import load_file

from mmshuffle import weights
from mmshuffle.backbones import MobileNetV1, ShuffleNetV1, ShuffleNetV2
from mmshuffle.weights import load_pretrained, read_checkpoint, read_tensors
from mmshuffle.weights.convert import convert_file
from mmshuffle.weights.zoo import ENTRIES
from tests.conftest import REPO
from tests.test_tools.conftest import assert_done, assert_refused
from tests.test_weights.test_families import FAMILIES, publish

DETECTOR = REPO / 'configs/faster_rcnn/faster-rcnn_shufflenetv2-x0.5_fpn_1x_coco.py'
pytestmark = pytest.mark.usefixtures('hub')


@pytest.mark.parametrize(
    ('family', 'variant'),
    [
        (name, family.variants[i])
        for name, family in FAMILIES.items()
        # RetinaFace's is published at 0.25 alone.
        for i in range(1 if name.startswith('RetinaFace') else min(len(family.variants), 2))
    ],
)
def test_the_network_of_a_published_file_is_found(family, variant, tmp_path):
    path = publish(family, variant, tmp_path)
    module, config, report = convert_file(path)
    (known,) = (known for known in weights.families.FAMILIES if known.name == family)
    assert {k: v for k, v in config.items() if k != 'out_indices'} in known.networks
    assert all(value in config.values() for value in variant)
    assert report.family == family and not report.hints
    # Nothing but the classifier is left behind: Conv5 is taken where the file has it.
    assert len(report.unexpected) == len(FAMILIES[family].classifier)
    loaded = MODELS.build(config)
    load_pretrained(loaded, path)
    state = loaded.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_converted_file_has_the_backbones_own_names(suffix, tmp_path, call):
    path = publish('timm MobileNetV1', (0.25,), tmp_path)
    target = tmp_path / f'new/ours{suffix}'
    code, out, _ = call('convert_weights', path, target)
    assert code == 0 and list(target.parent.iterdir()) == [target]
    assert 'timm MobileNetV1): 162 matched, 0 missing, 2 unexpected' in out
    assert f'written to {target}' in out and "type='MobileNetV1', widen_factor=0.25" in out
    net, expected = MobileNetV1(0.25), MobileNetV1(0.25)
    net.load_state_dict(read_tensors(target), strict=True)
    load_pretrained(expected, path)
    wanted = expected.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in net.state_dict().items())


def test_the_network_may_be_given(tmp_path, call):
    path = publish('torchvision ShuffleNetV2', (0.5,), tmp_path)
    target = tmp_path / 'ours.pth'
    given = ('widen_factor=0.5', 'layout=torchvision', 'out_indices=[0,1,2,3]')
    code, out, _ = call(
        'convert_weights', path, target, '--network', 'ShuffleNetV2', '--args', *given
    )
    # Conv5 and the classifier.
    assert code == 0 and '8 unexpected (fc.bias, fc.weight, stages.4' in out, out
    assert not any(name.startswith('stages.4') for name in read_tensors(target))
    assert_done(call('convert_weights', path, target, '--config', DETECTOR))
    state = read_tensors(target)
    ShuffleNetV2(0.5, 'torchvision').load_state_dict(state, strict=True)
    # With its own names no family tells the network, and it must be given.
    assert_refused(call('convert_weights', target, tmp_path / 'b.pth'), 'name the network')
    code, _, _ = call('convert_weights', target, tmp_path / 'b.pth', '--config', DETECTOR)
    again = read_tensors(tmp_path / 'b.pth')
    assert code == 0 and all(torch.equal(state[key], again[key]) for key in state)


def test_a_classifiers_config_takes_the_last_layer_along(tmp_path, call):
    path = publish('torchvision ShuffleNetV2', (0.5,), tmp_path)
    state = read_tensors(path)
    state |= {'fc.weight': torch.rand(1000, 1024), 'fc.bias': torch.rand(1000)}
    torch.save(state, path)
    config = next((REPO / 'configs/imagenet').glob('**/shufflenetv2-x0.5_8xb128-300k*.py'))
    text = f"_base_ = '{config}'\nmodel = dict(backbone=dict(layout='torchvision'))\n"
    (tmp_path / 'classifier.py').write_text(text)
    target = tmp_path / 'ours.pth'
    assert_done(call('convert_weights', path, target, '--config', tmp_path / 'classifier.py'))
    converted = read_tensors(target)
    assert torch.equal(converted['head.fc.weight'], state['fc.weight'])
    assert torch.equal(
        converted['backbone.stages.3.branches.2.1.bn.bias'],
        state['stage4.2.branch2.4.bias'].float(),
    )


def test_what_does_not_fit_is_refused_and_leaves_no_file(tmp_path, call):
    path = publish('megvii ShuffleNetV2', (0.5,), tmp_path)
    target = tmp_path / 'new' / 'ours.pth'
    network = ('--network', 'ShuffleNetV2', '--args', 'widen_factor=0.5')
    for args, *parts in (
        ((path, target, *network, 'layout=torchvision'), "layout='megvii'"),
        ((path, target, *network[:2]), 'fit ShuffleNetV2(widen_factor=1.0', 'of another shape'),
        ((path, target, '--network', 'ShuffleNetV3'), 'ShuffleNetV3 cannot be built'),
        ((path, target, *network, 'layers=3'), 'ShuffleNetV2 cannot be built', 'layers'),
        ((path, target, *network, 'frozen_stages=9'), 'frozen_stages=9'),
        ((path, target.with_suffix('.onnx')), '.safetensors or .pth'),
        ((tmp_path / 'absent.pth', target), 'does not exist'),
        (('mmshuffle://megvii/shufflenetv2', target), 'meant mmshuffle://'),
        ((path, path / 'ours.pth'), 'cannot write'),
        ((path,), 'give IN and OUT, or --list'),
        ((path, target, '--args', 'widen_factor=1.0'), 'those of --network: give it'),
    ):
        assert_refused(call('convert_weights', *args), *parts)
    state = read_tensors(path)
    state['features.3.branch_main.0.weight'] = torch.rand(7, 7, 1, 1)
    torch.save(state, path)
    assert_refused(
        call('convert_weights', path, target),
        'fit none of 4 networks',
        "ShuffleNetV2(widen_factor=0.5, layout='megvii')",
        '(7, 7, 1, 1)',
    )
    assert not target.parent.exists()


def test_the_list_has_every_file_and_tells_which_are_here(hub, call):
    cached = ENTRIES[3]
    hub.mkdir(parents=True)
    (hub / cached.remote.file_name).write_bytes(bytes(2_500_000))
    code, out, _ = call('convert_weights', '--list')
    head, *lines = out.splitlines()
    assert code == 0 and head.startswith('name') and len(lines) == len(ENTRIES)
    for entry, line in zip(ENTRIES, lines, strict=True):
        told = (f'mmshuffle://{entry.name} ', entry.family, f'{entry.top1:.2f}', entry.source)
        assert all(part in line for part in (*told, entry.licence, entry.url))
        assert ('2.5 MB' in line) == (entry is cached)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """What a run writes, with all that must stay behind."""
    net = ShuffleNetV1(8, 0.25)
    state = {f'module.backbone.{key}': value for key, value in net.state_dict().items()}
    state['module.head.fc.weight'] = torch.rand(10, 512)
    # As mmcv's hook names them, and a parameter of the network that only looks like one.
    state['module.ema_backbone_stages_0_0_conv_weight'] = torch.rand(8, 3, 3, 3)
    state['module.ema_gate'] = torch.rand(1)
    path = tmp_path / 'epoch_12.pth'
    content = {
        'state_dict': state,
        'ema_state_dict': {f'module.{key}': value for key, value in state.items()},
        'optimizer': {'state': {0: {'momentum_buffer': torch.rand(1000)}}},
        'message_hub': {'secret': 'path of mine'},
        'meta': {'config': 'work_dir = "/home/me"'},
    }
    torch.save(content, path)
    return path


@pytest.mark.parametrize('kind', ['safetensors', 'pth'])
def test_a_published_file_holds_the_weights_alone(kind, checkpoint, tmp_path, call):
    code, out, _ = call('publish_weights', checkpoint, f'{tmp_path}/new/', '--format', kind)
    (path,) = (tmp_path / 'new').iterdir()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert code == 0 and path.name == f'epoch_12-{sha256[:8]}.{kind}'
    assert out == f'{path}\n{path.stat().st_size} bytes\nsha256 {sha256}\n'
    found = load_file(path) if kind == 'safetensors' else read_checkpoint(path)
    wanted = read_tensors(checkpoint)
    del wanted['ema_backbone_stages_0_0_conv_weight']
    assert found.keys() == wanted.keys() and 'ema_gate' in found
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert b'secret' not in path.read_bytes() and b'/home/me' not in path.read_bytes()
    # Equal weights give equal files, and a hash that is in the name already is replaced.
    torch.save(wanted, copy := tmp_path / 'epoch_12-0a1b2c3d.pth')
    assert_done(call('publish_weights', copy, f'{tmp_path}/again/', '--format', kind))
    assert (tmp_path / 'again' / path.name).read_bytes() == path.read_bytes()


def test_a_published_backbone_starts_another_network(checkpoint, tmp_path, call):
    code, _, _ = call('publish_weights', checkpoint, tmp_path / 'net', '--backbone-only')
    (path,) = tmp_path.glob('net-*.safetensors')
    net = ShuffleNetV1(8, 0.25)
    report = load_pretrained(net, path)
    assert code == 0 and not report.unexpected
    wanted = read_tensors(checkpoint)['backbone.stages.0.0.conv.weight']
    assert torch.equal(net.stages[0][0].conv.weight, wanted)
    done = call('publish_weights', path, tmp_path / 'again', '--backbone-only')
    assert_refused(done, '--backbone-only')


def test_tensors_that_share_memory_are_published_apart(tmp_path, call):
    tied = torch.rand(4, 6)
    torch.save({'a': tied, 'b': tied, 'c': tied.t(), 'd': tied[1:]}, tmp_path / 'tied.pth')
    assert_done(call('publish_weights', tmp_path / 'tied.pth', tmp_path / 'out'))
    found = load_file(next(tmp_path.glob('out-*')))
    assert torch.equal(found['a'], tied) and torch.equal(found['b'], tied)
    assert torch.equal(found['c'], tied.t()) and torch.equal(found['d'], tied[1:])


def test_a_published_file_is_not_overwritten_unasked(checkpoint, tmp_path, call):
    args = ('publish_weights', checkpoint, tmp_path / 'net.pth')
    assert call(*args)[0] == 0
    (path,) = tmp_path.glob('net-*.safetensors')
    path.write_bytes(b'precious')
    assert_refused(call(*args), str(path), '--force')
    assert path.read_bytes() == b'precious'
    assert call(*args, '--force')[0] == 0
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:8] in path.name


@pytest.mark.parametrize('value', ['nan', 'inf', '-inf'])
def test_weights_of_a_training_that_failed_are_not_published(tmp_path, call, value):
    state = {'a': torch.ones(3), 'b': torch.tensor([1.0, float(value)])}
    torch.save({**state, 'c.num_batches_tracked': torch.tensor(9)}, tmp_path / 'a.pth')
    assert_refused(call('publish_weights', tmp_path / 'a.pth', tmp_path / 'out'), 'b has 1 of 2')
    assert not list(tmp_path.glob('out*'))
