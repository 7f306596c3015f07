"""From a config to a network: names, parts, weights of a file and random ones."""

import pytest
import torch
from torch import nn

from mmshuffle.engine import network
from mmshuffle.engine.network import build_model, extract_part, load_model, load_model_config
from mmshuffle.errors import one_line
from tests.conftest import REPO, refused

CLASSIFIER = 'shufflenetv2-x0.5'
FPN = 'faster-rcnn_shufflenetv2-x0.5_fpn_1x_coco'
C4 = 'faster-rcnn_mobilenetv1-x1.0_c4-300_1x_coco'
NO_MODEL = next(iter(sorted((REPO / 'configs/_base_').rglob('*runtime.py'))))


@torch.no_grad()
def features(model: nn.Module, size: tuple[int, int] = (96, 96)) -> list[torch.Tensor]:
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(3))
    return list(extract_part(model, 'backbone')[0](image))


@pytest.mark.parametrize(
    ('name', 'parts'),
    [
        (CLASSIFIER, ['backbone', 'classifier']),
        (FPN, ['backbone', 'neck', 'detector']),
        (C4, ['backbone', 'detector']),
    ],
)
def test_parts_are_known_before_the_model_is_built(name, parts):
    cfg = load_model_config(name)
    assert network.list_parts(cfg) == parts
    model = build_model(cfg, 'meta')
    for part in parts[:-1]:
        assert isinstance(extract_part(model, part)[0], nn.Module)
    for part in {'neck', 'classifier'} - set(parts):
        with refused('give another --part'):
            extract_part(model, part)


def test_a_registered_backbone_is_a_model_where_that_is_allowed():
    cfg = load_model_config('ShuffleNetV2', None, dict(widen_factor=0.5))
    assert network.list_parts(cfg) == ['backbone'] and build_model(cfg).out_channels[0] == 24
    with refused('ShuffleNetV2 does not exist'):
        load_model_config('ShuffleNetV2')


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('shufflenetv9', {}, 'near: shufflenetv'),
        ('configs/none.py', {}, 'does not exist'),
        (str(NO_MODEL), {}, 'has no model'),
        (FPN, {'model.backbone.widen_factor': 3.0}, r'cannot be built: .*widen_factor'),
        (FPN, {'model.type': 'NoSuchModel'}, 'cannot be built: NoSuchModel is not in'),
    ],
)
def test_what_is_no_network_is_said_in_one_line(name, options, message):
    with refused(message):
        build_model(load_model_config(name, options))


@pytest.mark.parametrize('name', [CLASSIFIER, FPN])
def test_weights_come_from_the_checkpoint_for_the_part_that_is_asked_for(name, tmp_path):
    cfg = load_model_config(name)
    model = load_model(cfg)
    network.randomise(model, seed=7)
    whole, backbone = tmp_path / 'whole.pth', tmp_path / 'backbone.pth'
    torch.save(dict(state_dict=model.state_dict()), whole)
    torch.save(dict(state_dict=model.backbone.state_dict()), backbone)
    # A config's own initial weights are elsewhere and must not be fetched.
    filled = load_model(cfg, str(whole)).state_dict()
    assert all(torch.equal(value, filled[key]) for key, value in model.state_dict().items())
    for path in (whole, backbone):
        found = features(load_model(cfg, str(path), 'backbone'))
        assert torch.equal(found[-1], features(model)[-1])
    with refused('weights do not fit'):
        load_model(cfg, str(backbone))


@pytest.mark.parametrize('name', ['alexnet', CLASSIFIER, 'shufflenetv1-x0.5-g3'])
def test_random_weights_let_every_layer_matter(name):
    """Without them, Caffe's initial weights of AlexNet give outputs that ignore the image."""
    cfg = load_model_config(name)
    model, again = load_model(cfg), load_model(cfg).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())
    before = features(model)[-1]
    for conv in [m for m in model.backbone.modules() if isinstance(m, nn.Conv2d)]:
        kept = conv.weight.detach().clone()
        with torch.no_grad():
            conv.weight[: len(kept) // 2] *= 1.5
        after = features(model)[-1]
        assert (after - before).abs().max() > 0.02 * before.abs().max()
        with torch.no_grad():
            conv.weight.copy_(kept)


@pytest.mark.parametrize('name', ['shufflenetv1-x0.5-g3', 'shufflenetv2-x1.0', FPN, C4])
def test_random_weights_fit_into_half_precision_and_stay_alive(name):
    """Plain ones make activations beyond its end, 65504, in ShuffleNet V1."""
    model = load_model(load_model_config(name))
    sizes: list[torch.Tensor] = []
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
            layer.register_forward_hook(lambda _, x, y: sizes.append(y.abs().max()))
    outputs = features(model, (224, 224))
    assert max(sizes) < 100
    assert all(0.1 < output.std() < 10 for output in outputs)
    if hasattr(model, 'roi_head'):
        assert len(network.predict(model, network.drawn_picture((128, 128))[0]).scores) > 20


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (ValueError('class `A` in a/b.py: class `B` in c.py: bad'), 'bad'),
        (KeyError('name'), 'name'),
        (AssertionError(), 'AssertionError'),
        (RuntimeError('\n  first \nsecond'), 'first'),
        (RuntimeError('Errors in loading:\n  size mismatch'), 'Errors in loading: size mismatch'),
        (RuntimeError('x' * 400), 'x' * 300 + '...'),
    ],
)
def test_an_error_of_a_library_is_one_line(error, line):
    assert one_line(error) == line
    outer = RuntimeError('step 1 of 3 failed')
    outer.__cause__ = error
    assert one_line(outer) == line
