"""A last stage whose stride is replaced by dilation: of the same weights, at every pixel."""

import pytest
import torch

from tests.test_backbones.test_networks import randomise
from tests.variants import VARIANTS, build

# Squeeze-and-excitation means over all pixels, which are other ones.
DILATABLE = [
    name
    for name, cfg in VARIANTS.items()
    if cfg['type'] in ('ShuffleNetV1', 'ShuffleNetV2', 'MobileNetV1')
    and cfg.get('widen_factor', 1.0) <= 0.5
    and not cfg.get('se_ratio')
    and 'output_stride' not in cfg
]


@pytest.mark.parametrize('name', DILATABLE)
def test_every_second_pixel_is_the_plain_networks(name):
    plain = randomise(build(name)).double()
    net = build(name, output_stride=16).double().eval()
    net.load_state_dict(plain.state_dict())
    # Maps of even and of odd sides.
    x = torch.rand(1, 3, 70, 128, dtype=torch.float64)
    with torch.no_grad():
        *expected, coarse = plain(x)
        *found, fine = net(x)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    rows, columns = fine.shape[2:]
    assert (rows, columns) == tuple(expected[-1].shape[2:]) == (5, 8)
    # TensorFlow's padding of a stride of 2 begins with the second pixel where the side is even.
    starts = [side % 2 == 0 and 'same' in name for side in (rows, columns)]
    sampled = fine[:, :, starts[0] :: 2, starts[1] :: 2]
    assert torch.allclose(sampled, coarse, rtol=1e-9, atol=1e-9 * coarse.abs().max().item())
    # The pixels between are of their own, and not copies.
    between = fine[:, :, starts[0] :: 2, 1 - starts[1] :: 2]
    assert (between - coarse).abs().max() > 1e-3 * coarse.abs().max()


def test_conv5_behind_a_dilated_stage_has_its_stride():
    net = build('shufflenetv2-x0.5-megvii', output_stride=16, out_indices=(2, 3, 4))
    assert net.out_strides == (16, 16, 16)
    assert [tuple(y.shape[2:]) for y in net(torch.rand(1, 3, 70, 128))] == [(5, 8)] * 3
