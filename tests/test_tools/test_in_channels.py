"""Tools take networks of grey images and of images of more than three channels."""

import json

import cv2
import numpy as np
import pytest
import torch

from mmshuffle.classification import BatchNormalizer
from mmshuffle.deploy.normalise import Normalise
from mmshuffle.engine.network import extract_part, load_model, load_model_config
from mmshuffle.latency.plan import example, from_config
from tests.test_tools.conftest import assert_done, assert_refused


@pytest.mark.parametrize('channels', [1, 2, 4])
def test_costs_exports_and_latencies_are_of_as_many_channels(channels, call, tmp_path):
    cfg = load_model_config('shufflenetv2-x0.5')
    cfg.model.backbone.in_channels = channels
    mean, std = ([start + i for i in range(channels)] for start in (90.0, 50.0))
    cfg.model.data_preprocessor.update(mean=mean, std=std)
    cfg.dump(config := tmp_path / 'net.py')
    found = []
    for network in (config, 'shufflenetv2-x0.5'):
        assert_done(call('complexity', network, '--shape', 64, 64, '--json', tmp_path / 'a.json'))
        found.append(json.loads((tmp_path / 'a.json').read_text())['total'])
    # The first convolution of 3x3 to 24 channels on 32x32 pixels.
    weights = (3 - channels) * 9 * 24
    for figure, count in (('parameters', weights), ('multiply_adds', weights * 32 * 32)):
        assert found[1][figure] - found[0][figure] == count
    network = from_config(str(config))
    assert network.channels == channels
    image = example((1, network.channels, 64, 64))
    assert network.build((64, 64))(image)[0].shape[-1] == 1000

    arguments = ('export', config, 'none', '--format', 'torchscript', '--shape', 64, 64)
    assert_done(call(*arguments, '--out', tmp_path / 'net', '--shuffle', 'free'))
    model = load_model(load_model_config(str(config)), None, 'classifier', (64, 64))
    images = torch.randint(0, 256, (2, channels, 64, 64)).float()
    with torch.no_grad():
        normal = model.data_preprocessor(dict(inputs=images.clone()))['inputs']
        expected = extract_part(model, 'classifier')[0](normal)
        scores = torch.jit.load(str(tmp_path / 'net.pt'))(images)
    scores = scores[0] if isinstance(scores, (tuple, list)) else scores
    assert torch.allclose(scores, expected, rtol=1e-4, atol=1e-4)
    colours = [f'model.data_preprocessor.{key}=[1,2,3]' for key in ('mean', 'std')]
    done = call(*arguments, '--out', tmp_path / 'b', '--shuffle', 'free', '--cfg-options', *colours)
    assert_refused(done, 'mean and std of 3 channels', f'takes {channels}: give as many numbers')
    cv2.imwrite(str(tmp_path / 'colour.png'), np.zeros((64, 64, 3), np.uint8))
    done = call(*arguments, '--out', tmp_path / 'b', '--image', tmp_path / 'colour.png')
    if channels == 1:  # read as grey
        assert done[0] == 0, done
    else:
        assert_refused(done, 'has 3 channels', f'one of {channels}')


@pytest.mark.parametrize(
    ('channels', 'swap'), [(1, False), (3, False), (3, True), (4, False), (4, True)]
)
def test_normalisation_is_channel_by_channel_and_swaps_colours_alone(channels, swap):
    mean, std = [100.0 + i for i in range(channels)], [50.0 + i for i in range(channels)]
    preprocessor = BatchNormalizer(mean=mean, std=std, bgr_to_rgb=swap)
    images = torch.randint(0, 256, (2, channels, 8, 9), dtype=torch.uint8)
    order = zip([2, 1, 0, 3] if swap else range(channels), mean, std)
    expected = torch.stack([(images[:, c].float() - m) / s for c, m, s in order], 1)
    for inputs in (images, images.float()):
        before = inputs.clone()
        found = preprocessor(dict(inputs=inputs))
        assert torch.allclose(found['inputs'], expected, atol=1e-6)
        assert torch.equal(inputs, before) and found['data_samples'] is None
    graph = Normalise.of(preprocessor, channels)
    assert torch.allclose(graph(images.float()), expected, atol=1e-5)
    if channels > 1:
        with pytest.raises(ValueError, match='give as many of each'):
            BatchNormalizer(mean=mean, std=[1.0])
