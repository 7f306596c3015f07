"""ShuffleNets of any size, drawn by hypothesis."""

from typing import NamedTuple
from unittest.mock import patch

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from mmshuffle.backbones import ShuffleNetV1, ShuffleNetV2, shufflenet_v2
from mmshuffle.backbones.shufflenet_v1 import Layout
from tests.test_deploy.plain import randomise

# Activations with another value at 0 than 0: what is computed of filling is not always zero.
ACTIVATIONS = ('ReLU', 'ReLU6', 'HSwish', 'Sigmoid')
SE_RATIOS = (None, None, 0.25, 1.0)


class Drawn(NamedTuple):
    """A network with random BatchNorm statistics, in training mode, and what it is."""

    network: nn.Module
    text: str

    def __repr__(self) -> str:
        return self.text


# Units of stages 0 to 3; eight are those of the published networks' Stage3.
unit_counts = st.tuples(
    st.integers(0, 2), st.integers(1, 3), st.sampled_from((1, 2, 3, 8)), st.integers(1, 2)
)


def even(low: int, high: int):
    return st.integers(low // 2, high // 2).map(lambda half: 2 * half)


@st.composite
def shufflenet_v2s(draw, out_indices=None, strides=(32, 32, 16)) -> Drawn:
    layout = draw(st.sampled_from(('megvii', 'torchvision')))
    stem = tuple(draw(st.lists(even(2, 14), min_size=1, max_size=2)))
    units = draw(unit_counts)
    channels, width = [], stem[-1]
    for count in units:
        if count > 0:
            # Halves are split in two; in layout megvii the projection keeps the input's channels.
            least = max(width // 4 + 1, 1) if layout == 'megvii' else 1
            width = 4 * draw(st.integers(least, least + 5))
        channels.append(width)
    channels.append(draw(st.integers(1, 40)))
    settings = dict(
        layout=layout,
        out_indices=out_indices or draw(indices(4)),
        extra_depthwise=draw(st.booleans()),
        se_ratio=draw(st.sampled_from(SE_RATIOS)),
        residual=draw(st.booleans()),
        output_stride=draw(st.sampled_from(strides)),
        act_cfg=dict(type=draw(st.sampled_from(ACTIVATIONS))),
    )
    sizes = (stem, tuple(channels), units)
    seed = torch.manual_seed(draw(st.integers(0, 2**31))).initial_seed()
    with patch.dict(shufflenet_v2.LARGE, {'50': sizes}):
        network = randomise(ShuffleNetV2(arch='50', **settings), seed)
    return Drawn(network, f'ShuffleNetV2 {sizes} {settings}')


@st.composite
def shufflenet_v1s(draw, out_indices=None, strides=(32, 32, 16)) -> Drawn:
    groups = draw(st.sampled_from((1, 2, 3, 4, 8)))
    units = draw(unit_counts)
    # Grouped convolutions read and make every stage's output but the first unit's input.
    width = stem = groups * draw(st.integers(1, 4))
    channels = []
    for index, count in enumerate(units):
        if count > 0:
            # The pooled shortcut of a unit of stride 2 leaves the others to the branch, and a
            # quarter of the channels is at least one a group.
            low = max(width // groups + (index > 0), 4)
            width = groups * draw(st.integers(low, low + 6))
        channels.append(width)
    settings = dict(
        groups=groups,
        shuffle=draw(st.sampled_from(('paper', 'inverse', 'none'))),
        output_stride=draw(st.sampled_from(strides)),
        out_indices=out_indices or draw(indices(3)),
        se_ratio=draw(st.sampled_from(SE_RATIOS)),
        act_cfg=dict(type=draw(st.sampled_from(ACTIVATIONS))),
    )
    sizes = Layout(stem, tuple(channels), units, draw(st.sampled_from((1 / 4, 1 / 2))))
    seed = torch.manual_seed(draw(st.integers(0, 2**31))).initial_seed()
    with patch.object(ShuffleNetV1, '_find_layout', lambda self: sizes):
        network = randomise(ShuffleNetV1(**settings), seed)
    return Drawn(network, f'ShuffleNetV1 {sizes} {settings}')


def indices(last: int):
    return st.sets(st.integers(0, last), min_size=1).map(lambda chosen: tuple(sorted(chosen)))


networks = st.one_of(shufflenet_v2s(), shufflenet_v1s())
aligns = st.sampled_from((1, 2, 4, 8))


def examples(count: int) -> settings:
    """Run a property on ``count`` drawn networks, the same ones each time."""
    return settings(max_examples=count, deadline=None, derandomize=True, database=None)
