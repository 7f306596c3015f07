"""The published networks, written from their descriptions and by their publishers' tensor names.

Each function runs a network on images and returns its outputs at strides 4, 8, 16 and 32 (and of
Conv5). Tensors come from a :class:`Tensors`, which draws those that it lacks: the first run makes a
state dict with the published names and shapes.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Their costs, and with them the tables of widths, are compared with the papers' elsewhere.
from mmshuffle.backbones.shufflenet_v1 import STAGE2_CHANNELS as V1_STAGE2
from mmshuffle.backbones.shufflenet_v1 import STAGE_UNITS as UNITS
from mmshuffle.backbones.shufflenet_v2 import STAGE_CHANNELS as V2_STAGES

Activation = Callable[[Tensor], Tensor]
Names = tuple[str, str]  # of a convolution and its BatchNorm


class Tensors:
    """Named tensors and the layers that use them.

    Args:
        state: Tensors to use; those that it lacks are drawn at random.
        eps: BatchNorm's epsilon.
        act: Activation.
    """

    def __init__(
        self, state: dict[str, Tensor] | None = None, eps: float = 1e-5, act: Activation = F.relu
    ) -> None:
        self.state = {} if state is None else dict(state)
        self.eps = eps
        self.act = act

    def get(self, name: str, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        """The tensor ``name``, drawn uniformly from [low, high) where it is new."""
        if name not in self.state:
            drawn = torch.rand(shape, dtype=torch.float64) * (high - low) + low
            self.state[name] = drawn
        assert self.state[name].shape == shape, name
        return self.state[name]

    def norm(self, x: Tensor, name: str) -> Tensor:
        """BatchNorm; the tensors of a convolution and of its norm have names of their own."""
        self.state.setdefault(f'{name}.num_batches_tracked', torch.tensor(1))
        leaves = ('running_mean', 'running_var', 'weight', 'bias')
        return self._normalise(x, *(f'{name}.{leaf}' for leaf in leaves))

    def _normalise(self, x: Tensor, *names: str) -> Tensor:
        ranges = ((-0.5, 0.5), (0.5, 1.5), (0.5, 1.5), (-0.3, 0.3))
        drawn = (self.get(n, (x.shape[1],), *r) for n, r in zip(names, ranges, strict=True))
        mean, var, gain, bias = (values[:, None, None] for values in drawn)
        scale = gain / (var + self.eps).sqrt()
        return x * scale + (bias - mean * scale)

    def convolve(self, x: Tensor, name: str, channels: int, kernel: int, stride: int, groups: int):
        shape = (channels, x.shape[1] // groups, kernel, kernel)
        bound = (6 / (shape[1] * kernel * kernel)) ** 0.5
        weight = self.get(f'{name}.weight', shape, -bound, bound)
        return F.conv2d(x, weight, stride=stride, padding=kernel // 2, groups=groups)

    def layer(self, x, names: Names, channels: int, kernel=1, stride=1, groups=1, act=True):
        """Convolution and BatchNorm by their two names, and the activation."""
        y = self.norm(self.convolve(x, names[0], channels, kernel, stride, groups), names[1])
        return self.act(y) if act else y


def drawn_state(network: Callable, *variant: object) -> dict[str, Tensor]:
    """A state dict in float32, with the names and shapes that a network's publisher gives."""
    tensors = Tensors()
    network(tensors, torch.rand(1, 3, 64, 64, dtype=torch.float64), *variant)
    return {n: v.float() if v.is_floating_point() else v for n, v in tensors.state.items()}


def module_of(state: dict[str, Tensor]) -> nn.Module:
    """A module that has these tensors by these names."""
    module = nn.Module()
    for name, value in state.items():
        *path, leaf = name.split('.')
        part = module
        for inner in path:
            if inner not in part._modules:
                part.add_module(inner, nn.Module())
            part = part.get_submodule(inner)
        part.register_buffer(leaf, value)
    return module


def pairs(*names: str) -> list[Names]:
    """Convolutions and BatchNorms of a list in which they alternate."""
    return list(zip(names[::2], names[1::2], strict=True))


def numbered(name: str, *numbers: int) -> list[Names]:
    """Such pairs below one name."""
    return pairs(*(f'{name}.{number}' for number in numbers))


def wrapped(*names: str) -> list[Names]:
    """The layers of MMCV's ConvModules."""
    return [(f'{name}.conv', f'{name}.bn') for name in names]


def released_unit(stage: int, i: int) -> str:
    """A unit in the authors' releases, which number them through."""
    return f'features.{sum(UNITS[:stage]) + i}'


def shufflenet_v1(tensors, x, width, groups, stem, channels, unit, layers, shuffle):
    """ShuffleNet V1 as released: the shuffle is behind the depthwise convolution.

    ``channels`` are those of the first convolution of a width and groups; ``unit`` names a unit of
    a stage, of whose three layers ``layers`` has the names.
    """
    x = F.max_pool2d(tensors.layer(x, stem, channels(width, groups), 3, 2), 3, 2, 1)
    outputs = [x]
    for stage, units in enumerate(UNITS):
        out = int(V1_STAGE2[groups] * width) << stage
        for i in range(units):
            first, depthwise, last = (
                tuple(f'{unit(stage, i)}.{name}' for name in pair) for pair in layers
            )
            middle, stride = out // 4, 1 if i else 2
            y = tensors.layer(x, first, middle, groups=1 if stage == i == 0 else groups)
            y = tensors.layer(y, depthwise, middle, 3, stride, middle, act=False)
            if groups > 1:
                y = shuffle(y, groups)
            y = tensors.layer(y, last, out if i else out - x.shape[1], groups=groups, act=False)
            x = F.relu(x + y) if i else torch.cat((F.avg_pool2d(x, 3, 2, 1), F.relu(y)), 1)
        outputs.append(x)
    return outputs


def shuffle_of_the_paper(x: Tensor, groups: int) -> Tensor:
    """Output channel j * groups + i is channel j of group i."""
    size = x.shape[1] // groups
    return x[:, [i * size + j for j in range(size) for i in range(groups)]]


def shuffle_of_megvii(x: Tensor, groups: int) -> Tensor:
    """The inverse: output group i has the channels i, i + groups, i + 2 * groups, ..."""
    return torch.cat([x[:, i::groups] for i in range(groups)], 1)


megvii_v1 = partial(
    shufflenet_v1,
    stem=('first_conv.0', 'first_conv.1'),
    channels=lambda width, groups: {0.5: 16 if groups == 8 else 12, 2.0: 48}.get(width, 24),
    unit=released_unit,
    layers=numbered('branch_main_1', 0, 1, 3, 4) + numbered('branch_main_2', 0, 1),
    shuffle=shuffle_of_megvii,
)
# Of widths that need no rounding to multiples of 8.
mmpretrain_v1 = partial(
    shufflenet_v1,
    stem=('conv1.conv', 'conv1.bn'),
    channels=lambda width, groups: int(24 * width),
    unit=lambda stage, i: f'layers.{stage}.{i}',
    layers=wrapped('g_conv_1x1_compress', 'depthwise_conv3x3_bn', 'g_conv_1x1_expand'),
    shuffle=shuffle_of_the_paper,
)


def shufflenet_v2(tensors, x, width, stem, unit, left, right, last, megvii=False):
    """ShuffleNet V2 in either layout, one unit after another.

    ``left`` and ``right`` are the names of the layers of a unit's branches, ``last`` of Conv5.
    """
    *stages, conv5 = V2_STAGES[width]
    x = F.max_pool2d(tensors.layer(x, stem, 24, 3, 2), 3, 2, 1)
    outputs = [x]
    for stage, (channels, units) in enumerate(zip(stages, UNITS, strict=True)):
        half = channels // 2
        for i in range(units):
            a, b = (
                [tuple(f'{unit(stage, i)}.{name}' for name in pair) for pair in branch]
                for branch in (left, right)
            )
            if i == 0:
                width_in = x.shape[1]
                kept = tensors.layer(x, a[0], width_in, 3, 2, width_in, act=False)
                kept = tensors.layer(kept, a[1], width_in if megvii else half)
                y = x
            elif megvii:
                kept, y = x[:, 0::2], x[:, 1::2]
            else:
                kept, y = x[:, :half], x[:, half:]
            y = tensors.layer(y, b[0], half)
            y = tensors.layer(y, b[1], half, 3, 1 if i else 2, half, act=False)
            y = tensors.layer(y, b[2], channels - kept.shape[1])
            x = torch.cat((kept, y), 1)
            if not megvii:
                x = shuffle_of_the_paper(x, 2)
        outputs.append(x)
    if last is not None:
        outputs.append(tensors.layer(x, last, conv5))
    return outputs


torchvision_v2 = partial(
    shufflenet_v2,
    stem=('conv1.0', 'conv1.1'),
    unit=lambda stage, i: f'stage{stage + 2}.{i}',
    left=numbered('branch1', 0, 1, 2, 3),
    right=numbered('branch2', 0, 1, 3, 4, 5, 6),
    last=('conv5.0', 'conv5.1'),
)
mmpretrain_v2 = partial(
    shufflenet_v2,
    stem=('conv1.conv', 'conv1.bn'),
    unit=lambda stage, i: f'layers.{stage}.{i}',
    left=wrapped('branch1.0', 'branch1.1'),
    right=wrapped('branch2.0', 'branch2.1', 'branch2.2'),
    last=('layers.3.conv', 'layers.3.bn'),
)
megvii_v2 = partial(
    shufflenet_v2,
    stem=('first_conv.0', 'first_conv.1'),
    unit=released_unit,
    left=numbered('branch_proj', 0, 1, 2, 3),
    right=numbered('branch_main', 0, 1, 3, 4, 5, 6),
    last=('conv_last.0', 'conv_last.1'),
    megvii=True,
)
yolo_fastest_v2 = partial(megvii_v2, unit=lambda stage, i: f'stage{stage + 2}.{i}', last=None)


class TensorFlowTensors(Tensors):
    """TF-slim's names, axes and SAME padding, by multiplication of explicit patches.

    The two names of a layer are one.
    """

    def convolve(self, x: Tensor, name: str, channels: int, kernel: int, stride: int, groups: int):
        padding = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        patches = F.pad(x, padding).unfold(2, kernel, stride).unfold(3, kernel, stride)
        bound = (6 / (x.shape[1] // groups * kernel * kernel)) ** 0.5
        if groups == 1:
            shape = (kernel, kernel, x.shape[1], channels)
            weight = self.get(f'{name}/weights', shape, -bound, bound)
            return torch.einsum('nchwij,ijco->nohw', patches, weight)
        shape = (kernel, kernel, channels, 1)
        weight = self.get(f'{name}/depthwise_weights', shape, -bound, bound)
        return torch.einsum('nchwij,ijcm->nchw', patches, weight)

    def norm(self, x: Tensor, name: str) -> Tensor:
        leaves = ('moving_mean', 'moving_variance', 'gamma', 'beta')
        return self._normalise(x, *(f'{name}/BatchNorm/{leaf}' for leaf in leaves))


def mobilenet_v1(
    tensors: Tensors, x: Tensor, width: float, stem: Names, layers: list[list[Names]]
) -> list[Tensor]:
    """MobileNet V1: 13 separable layers."""
    x = tensors.layer(x, stem, int(32 * width), 3, 2)
    outputs = []
    for number, (depthwise, pointwise) in enumerate(layers, 1):
        stride = 2 if number in (2, 4, 6, 12) else 1
        if stride == 2 and number > 2:
            outputs.append(x)
        x = tensors.layer(x, depthwise, x.shape[1], 3, stride, x.shape[1])
        doublings = sum(number >= start for start in (1, 2, 4, 6, 12))
        x = tensors.layer(x, pointwise, int(32 * 2**doublings * width))
    return [*outputs, x]


tf_slim_v1 = partial(
    mobilenet_v1,
    stem=('MobilenetV1/Conv2d_0',) * 2,
    layers=[
        [(f'MobilenetV1/Conv2d_{number}_{kind}',) * 2 for kind in ('depthwise', 'pointwise')]
        for number in range(1, 14)
    ],
)
timm_v1 = partial(
    mobilenet_v1,
    stem=('conv_stem', 'bn1'),
    layers=[
        pairs(*(f'blocks.{block}.{i}.{name}' for name in ('conv_dw', 'bn1', 'conv_pw', 'bn2')))
        for block, count in enumerate((1, 2, 2, 6, 2))
        for i in range(count)
    ],
)
# Of RetinaFace, whose stages end before the strides change.
retinaface_v1 = partial(
    mobilenet_v1,
    stem=('stage1.0.0', 'stage1.0.1'),
    layers=[
        numbered(f'stage{stage}.{i}', 0, 1, 3, 4)
        for stage, first, end in ((1, 1, 6), (2, 0, 6), (3, 0, 2))
        for i in range(first, end)
    ],
)


def torchvision_mobilenet_v2(tensors: Tensors, x: Tensor, flat: bool = False) -> list[Tensor]:
    """MobileNet V2: the outputs of every group of blocks, and of the last 1x1 convolution."""
    outputs, number = [], 0
    x = tensors.layer(x, ('features.0.0', 'features.0.1'), 32, 3, 2)
    widths, counts = (16, 24, 32, 64, 96, 160, 320), (1, 2, 3, 4, 3, 3, 1)
    for channels, blocks, stride in zip(widths, counts, (1, 2, 2, 2, 1, 2, 1), strict=True):
        for i in range(blocks):
            number += 1
            block, expand = f'features.{number}.conv', 1 if number == 1 else 6
            names = pairs(*(('0', '1', '3', '4') if flat else ('0.0', '0.1', '1', '2')))
            if expand > 1:
                flat_names = ('0', '1', '3', '4', '6', '7')
                names = pairs(*(flat_names if flat else ('0.0', '0.1', '1.0', '1.1', '2', '3')))
            *first, depthwise, linear = ((f'{block}.{a}', f'{block}.{b}') for a, b in names)
            y, middle = x, x.shape[1] * expand
            for name in first:
                y = tensors.layer(y, name, middle)
            y = tensors.layer(y, depthwise, middle, 3, stride if i == 0 else 1, middle)
            y = tensors.layer(y, linear, channels, act=False)
            x = x + y if y.shape == x.shape else y
        outputs.append(x)
    outputs.append(tensors.layer(x, ('features.18.0', 'features.18.1'), 1280))
    return outputs


def biased_layer(tensors, x, name, channels, kernel=1, stride=1, padding=0, groups=1) -> Tensor:
    shape = (channels, x.shape[1] // groups, kernel, kernel)
    bound = (6 / (shape[1] * kernel * kernel)) ** 0.5
    weight = tensors.get(f'{name}.weight', shape, -bound, bound)
    bias = tensors.get(f'{name}.bias', (channels,), -0.3, 0.3)
    return tensors.act(F.conv2d(x, weight, bias, stride, padding, groups=groups))


def torchvision_squeezenet(tensors: Tensors, x: Tensor, version: str) -> list[Tensor]:
    """SqueezeNet, its fire modules from the paper's metaparameters (section 5.1).

    ``base_e`` 128 and ``incr_e`` 128 at ``freq`` 2 give the channels of the expand layer;
    ``pct_3x3`` 0.5 is the share of 3x3 among them, ``SR`` 0.125 the ratio of the squeeze layer.
    """
    # One letter a layer: convolution, its ReLU (which is in the convolution here), pooling, fire.
    layers = {'1.0': 'crpfffpffffpf', '1.1': 'crpffpffpffff'}[version]
    outputs, fires = [], 0
    for position, layer in enumerate(layers):
        name = f'features.{position}'
        if layer == 'c':
            channels, kernel = {'1.0': (96, 7), '1.1': (64, 3)}[version]
            x = biased_layer(tensors, x, name, channels, kernel, 2)
        elif layer == 'p':
            if fires:
                outputs.append(x)
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        elif layer == 'f':
            expand = 128 + 128 * (fires // 2)
            squeezed = biased_layer(tensors, x, f'{name}.squeeze', expand // 8)
            narrow = biased_layer(tensors, squeezed, f'{name}.expand1x1', expand // 2)
            wide = biased_layer(tensors, squeezed, f'{name}.expand3x3', expand // 2, 3, padding=1)
            x = torch.cat((narrow, wide), 1)
            fires += 1
    return [*outputs, x]


def torchvision_alexnet(tensors: Tensors, x: Tensor) -> list[Tensor]:
    """AlexNet of 2014 with torchvision's padding."""
    first = biased_layer(tensors, x, 'features.0', 64, 11, 4, 2)
    second = biased_layer(tensors, F.max_pool2d(first, 3, 2), 'features.3', 192, 5, padding=2)
    x = F.max_pool2d(second, 3, 2)
    for position, channels in ((6, 384), (8, 256), (10, 256)):
        x = biased_layer(tensors, x, f'features.{position}', channels, 3, padding=1)
    return [first, second, x, F.max_pool2d(x, 3, 2)]


def caffe_alexnet(tensors: Tensors, x: Tensor) -> list[Tensor]:
    """AlexNet of 2012 in Caffe's names: two towers that meet in conv3, LRN by its formula."""

    def normalise(x: Tensor) -> Tensor:
        squares = [(x[:, max(c - 2, 0) : c + 3] ** 2).sum(1) for c in range(x.shape[1])]
        return x / (1 + 1e-4 / 5 * torch.stack(squares, 1)) ** 0.75

    first = normalise(biased_layer(tensors, x, 'conv1', 96, 11, 4))
    x = F.max_pool2d(first, 3, 2, ceil_mode=True)
    second = normalise(biased_layer(tensors, x, 'conv2', 256, 5, padding=2, groups=2))
    x = F.max_pool2d(second, 3, 2, ceil_mode=True)
    for name, channels, groups in (('conv3', 384, 1), ('conv4', 384, 2), ('conv5', 256, 2)):
        x = biased_layer(tensors, x, name, channels, 3, padding=1, groups=groups)
    return [first, second, x, F.max_pool2d(x, 3, 2, ceil_mode=True)]
