"""Weight files are read as tensors only, recognised, and loaded whole or not at all."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from textbook import TextbookShuffleNetV2

from mmshuffle.backbones import ShuffleNetV2
from mmshuffle.errors import UserError
from mmshuffle.weights import load_pretrained, read_tensors
from tests.conftest import facts


class Malicious:
    """Runs code when it is unpickled in the ordinary way."""

    def __reduce__(self):
        return (exec, ('raise SystemExit("executed")',))


def torchvision_state(width: float) -> dict[str, torch.Tensor]:
    state = TextbookShuffleNetV2(width).state_dict()
    return {**state, 'fc.weight': torch.rand(1000, 1024), 'fc.bias': torch.rand(1000)}


@pytest.mark.parametrize('width', [0.5, 1.0, 1.5, 2.0])
def test_torchvision_weights_load_and_the_classifier_is_reported(width, tmp_path):
    state = torchvision_state(width)
    path = tmp_path / 'weights.pth'
    torch.save(state, path)
    net = ShuffleNetV2(width, 'torchvision', out_indices=(0, 1, 2, 3, 4))
    report = load_pretrained(net, str(path))
    assert report.family == 'torchvision ShuffleNetV2'
    assert report.unexpected == ['fc.bias', 'fc.weight']
    assert not report.missing and not report.misshapen
    assert torch.equal(net.stages[3].branches[2][1].bn.bias, state['stage4.2.branch2.4.bias'])


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors', '.npz'])
def test_every_format_gives_the_same_tensors(suffix, tmp_path):
    state = torchvision_state(0.5)
    path = tmp_path / f'weights{suffix}'
    if suffix == '.pth':
        torch.save({'state_dict': {f'module.{k}': v for k, v in state.items()}}, path)
    elif suffix == '.safetensors':
        save_file(state, path)
    else:
        np.savez(path, **{k: v.numpy() for k, v in state.items()})
    found = read_tensors(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[k], state[k]) for k in state)


def test_a_wrong_width_changes_nothing_and_is_reported(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(torchvision_state(1.0), path)
    net = ShuffleNetV2(0.5, 'torchvision')
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_pretrained(net, str(path))
    message = str(caught.value)
    assert 'widen_factor=0.5' in message and 'of another shape' in message
    assert 'stages.1.projection.1.conv.weight (58, 24, 1, 1) for (24, 24, 1, 1)' in message
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_the_other_layout_is_named(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(torchvision_state(0.5), path)
    with pytest.raises(UserError, match="layout='torchvision'"):
        load_pretrained(ShuffleNetV2(0.5, 'megvii'), str(path))


def test_named_exceptions_may_be_missing(tmp_path):
    state = torchvision_state(0.5)
    path = tmp_path / 'weights.pth'
    torch.save({k: v for k, v in state.items() if not k.startswith('conv5')}, path)
    net = ShuffleNetV2(0.5, 'torchvision', out_indices=(3, 4))
    with pytest.raises(UserError, match=r'stages\.4'):
        load_pretrained(net, str(path))
    for allowed in (['stages.4.'], 'stages.4.'):
        report = load_pretrained(net, str(path), allow_missing=allowed)
        assert report.matched and not report.missing
        assert len(report.excused) == 5 and '5 left as they were (stages.4.conv' in str(report)
    # One name is not the list of its letters, with which every name begins.
    with pytest.raises(UserError, match=r'stages\.4'):
        load_pretrained(net, str(path), allow_missing='stages.1.')


def test_a_file_with_nothing_that_fits_is_an_error_whatever_may_be_missing(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({'stages.0.0.bn.num_batches_tracked': torch.tensor(7), 'a': torch.ones(1)}, path)
    net = ShuffleNetV2(0.5, 'torchvision')
    with pytest.raises(UserError, match='left as they were'):
        load_pretrained(net, str(path), allow_missing=['stages.'])
    assert net.stages[0][0].bn.num_batches_tracked == 0


def test_a_network_with_a_familys_own_names_is_filled_as_it_is(tmp_path):
    net = TextbookShuffleNetV2(0.5)  # named as torchvision's
    path = tmp_path / 'weights.pth'
    torch.save(torchvision_state(0.5), path)
    report = load_pretrained(net, str(path))
    assert report.family == 'own names' and len(report.unexpected) == 2
    wanted = read_tensors(path)['stage4.2.branch2.4.bias']
    assert torch.equal(net.state_dict()['stage4.2.branch2.4.bias'], wanted)


def test_nothing_in_a_file_is_executed(tmp_path):
    torch.save({'state_dict': {'a': torch.ones(1)}, 'x': Malicious()}, tmp_path / 'a.pth')
    with open(tmp_path / 'b.pth', 'wb') as file:
        pickle.dump(Malicious(), file)
    np.savez(tmp_path / 'c.npz', a=np.array([Malicious()], dtype=object))
    for name in ('a.pth', 'b.pth', 'c.npz'):
        with pytest.raises(UserError) as caught:
            read_tensors(tmp_path / name)
        assert name in str(caught.value) and '\n' not in str(caught.value)


def test_files_that_cannot_be_used_are_named(tmp_path):
    whole = tmp_path / 'whole.pth'
    torch.save(torchvision_state(0.5), whole)
    truncated = tmp_path / 'truncated.pth'
    truncated.write_bytes(whole.read_bytes()[:-5000])
    (tmp_path / 'empty.safetensors').write_bytes(b'')
    (tmp_path / 'text.pth').write_text('not weights')
    (tmp_path / 'weights.h5').write_text('')
    torch.save({'epoch': 3}, tmp_path / 'none.pth')
    arrays = tmp_path / 'arrays.npz'
    np.savez_compressed(arrays, a=np.random.default_rng(0).integers(0, 9, 10000))
    arrays.write_bytes(arrays.read_bytes().replace(arrays.read_bytes()[500:520], bytes(20)))
    (tmp_path / 'old.pth').write_bytes(b'\x80\x02.')  # a pickle that ends before it begins
    for name, part in (
        ('truncated.pth', 'damaged'),
        ('arrays.npz', 'damaged'),
        ('old.pth', 'damaged'),
        ('empty.safetensors', 'damaged'),
        ('text.pth', 'damaged'),
        ('weights.h5', 'unknown weight format'),
        ('none.pth', 'no tensors'),
        ('absent.pth', 'does not exist'),
    ):
        with pytest.raises(UserError, match=part) as caught:
            read_tensors(tmp_path / name)
        assert name in str(caught.value) and '\n' not in str(caught.value)


def test_a_prefix_without_tensors_is_an_error(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(torchvision_state(0.5), path)
    with pytest.raises(UserError, match="prefix='backbone'"):
        load_pretrained(ShuffleNetV2(0.5, 'torchvision'), str(path), prefix='backbone')


def test_real_torchvision_weights_fit():
    path = facts('weights/shufflenet_v2_x0.5_backbone_torchvision-layout.pth')
    net = ShuffleNetV2(0.5, 'torchvision').eval()
    report = load_pretrained(net, str(path))
    textbook = TextbookShuffleNetV2(0.5, conv5=False).eval()
    textbook.load_state_dict(read_tensors(path), strict=False)
    x = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        for a, b in zip(net(x), textbook(x), strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
    assert not report.unexpected
